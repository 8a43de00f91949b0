package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Listener returns the listening Unix socket that a service manager has passed to this process, or nil if there is none. More
// than one is an error.
func Listener() (*net.UnixListener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		var err error
		if files, err = launchdFiles(); err != nil || len(files) == 0 {
			return nil, err
		}
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if len(files) != 1 {
		return nil, fmt.Errorf("the service manager passed %d sockets, and one is expected", len(files))
	}
	return listenerOf(files[0])
}

// listenerOf makes a listener of f, which stays open. It returns an error if f is not a listening Unix socket. Otherwise the
// manager would be told that the agent serves, while every accept fails.
func listenerOf(f *os.File) (*net.UnixListener, error) {
	fd := int(f.Fd())
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listens == 0 {
		return nil, errors.New("what the service manager passed is not a listening socket")
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	listener, ok := ln.(*net.UnixListener)
	switch {
	case !ok || kind != unix.SOCK_STREAM:
		err = fmt.Errorf("what the service manager passed is a %s socket, and a Unix stream socket is expected", ln.Addr().Network())
	case !filepath.IsAbs(ln.Addr().String()):
		err = errors.New("the socket that the service manager passed has no path")
	default:
		return listener, nil
	}
	ln.Close()
	return nil, err
}

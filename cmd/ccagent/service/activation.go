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

// Listener is the one listening Unix socket that a service manager handed to this process, nil when there is none.
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
		return nil, fmt.Errorf("%d sockets were handed over, one is wanted", len(files))
	}
	return listenerOf(files[0])
}

// listenerOf is the listener that f is, which stays open. What is none would fail at every accept, with the manager told that we
// serve.
func listenerOf(f *os.File) (*net.UnixListener, error) {
	fd := int(f.Fd())
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listens == 0 {
		return nil, errors.New("what was handed over is not a listening socket")
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
		err = fmt.Errorf("what was handed over is a %s socket, a Unix stream socket is wanted", ln.Addr().Network())
	case !filepath.IsAbs(ln.Addr().String()):
		err = errors.New("the socket that was handed over has no path")
	default:
		return listener, nil
	}
	ln.Close()
	return nil, err
}

package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// activationListener is the one listening Unix socket that a service manager handed to this process, nil when there is none.
func activationListener() (*net.UnixListener, error) {
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
	ln, err := net.FileListener(files[0])
	if err != nil {
		return nil, errors.New("what was handed over is not a listening socket")
	}
	unix, ok := ln.(*net.UnixListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("what was handed over is a %s socket, a Unix stream socket is wanted", ln.Addr().Network())
	}
	return unix, nil
}

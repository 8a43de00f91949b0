package agent

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is one that listens. What it accepts are bare descriptors: most connections are answered and over at once, and a
// [net.UnixConn] would cost more than all of that.
type socket struct {
	*os.File
	accepting *acceptance
}

// acceptance is what one accept works on, here so that it allocates nothing.
type acceptance struct {
	raw    syscall.RawConn
	accept func(fd uintptr) bool
	fd     int
	err    error
}

// listening takes ln over.
func listening(ln *net.UnixListener) (socket, error) {
	ln.SetUnlinkOnClose(false)
	file, err := ln.File()
	ln.Close()
	if err != nil {
		return socket{}, err
	}
	a := &acceptance{}
	if a.raw, err = file.SyscallConn(); err != nil {
		file.Close()
		return socket{}, err
	}
	a.accept = func(fd uintptr) bool {
		for {
			switch a.fd, a.err = acceptOn(int(fd)); a.err {
			case unix.EINTR, unix.ECONNABORTED: // its peer is gone already
			case unix.EAGAIN:
				return false
			default:
				return true
			}
		}
	}
	return socket{file, a}, nil
}

// accept returns the next connection: a descriptor that neither blocks nor survives an exec. The read deadline ends the wait. One
// goroutine may call it at a time. It fails with [os.ErrClosed] once the socket is closed.
func (s socket) accept() (fd int, err error) {
	switch err := s.accepting.raw.Read(s.accepting.accept); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return -1, err
	case err != nil: // of the poller, which has no name for it
		return -1, os.ErrClosed
	}
	return s.accepting.fd, s.accepting.err
}

package socket

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is a listening socket. It accepts bare descriptors: most connections are answered and over at once, and a [net.UnixConn]
// would cost more than all of that.
type Socket struct {
	*os.File
	accepting *accepting
}

// accepting is what one accept works on. It lives here so that an accept allocates nothing.
type accepting struct {
	raw    syscall.RawConn
	accept func(fd uintptr) bool
	fd     int
	err    error
}

// Take makes a Socket of a listener, which is closed; the socket and its name stay.
func Take(ln *net.UnixListener) (Socket, error) {
	ln.SetUnlinkOnClose(false)
	file, err := ln.File()
	ln.Close()
	if err != nil {
		return Socket{}, err
	}
	a := &accepting{}
	if a.raw, err = file.SyscallConn(); err != nil {
		file.Close()
		return Socket{}, err
	}
	a.accept = func(fd uintptr) bool {
		a.fd, a.err = acceptOn(int(fd))
		for a.err == unix.EINTR || a.err == unix.ECONNABORTED { // the second: that peer is gone already
			a.fd, a.err = acceptOn(int(fd))
		}
		return a.err != unix.EAGAIN
	}
	return Socket{file, a}, nil
}

// Accept returns the next connection: a descriptor that does not block and is closed on exec. It waits until the read deadline,
// and fails then with [os.ErrDeadlineExceeded]. Once the socket is closed it fails with [os.ErrClosed]. One goroutine may call it
// at a time.
func (s Socket) Accept() (fd int, err error) {
	switch err := s.accepting.raw.Read(s.accepting.accept); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return -1, err
	case err != nil: // an error of the poller, which has no name for a closed socket
		return -1, os.ErrClosed
	}
	return s.accepting.fd, s.accepting.err
}

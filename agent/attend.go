package agent

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attend calls gone if the peer of a connection hangs up, or the connection is closed, before stop is called. Nothing is read
// meanwhile, so that what the peer has sent already is still there. A read deadline is to be set anew after stop.
func attend(raw syscall.RawConn, setReadDeadline func(time.Time) error, gone func()) (stop func()) {
	setReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The function is called again whenever something has happened at the peer's end.
		if err := raw.Read(hungUp); !errors.Is(err, os.ErrDeadlineExceeded) {
			gone()
		}
	}()
	return func() {
		setReadDeadline(time.Unix(1, 0))
		<-done
	}
}

// hungUp reports whether the peer of a socket has closed it. One that has only said that it writes no more has not: it waits for
// its answer. Nothing at all is written, which fails just where something would.
func hungUp(fd uintptr) bool {
	_, err := unix.Write(int(fd), nil)
	return err == unix.EPIPE || err == unix.ECONNRESET || err == unix.ENOTCONN
}

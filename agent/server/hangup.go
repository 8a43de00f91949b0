package server

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// onHangUp calls gone if the peer of a connection hangs up, or the connection is closed, before stop is called. It reads nothing,
// so what the peer has sent is still there afterwards. The caller must set a read deadline anew after stop.
func onHangUp(raw syscall.RawConn, setReadDeadline func(time.Time) error, gone func()) (stop func()) {
	setReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Read calls hungUp whenever something has happened at the peer's end.
		if err := raw.Read(hungUp); !errors.Is(err, os.ErrDeadlineExceeded) {
			gone()
		}
	}()
	return func() {
		setReadDeadline(time.Unix(1, 0))
		<-done
	}
}

// hungUp reports whether the peer of a socket has closed it. A peer that has only shut down its writing side has not: it waits
// for its answer. The write of nothing sends nothing, and fails exactly where a write of something would.
func hungUp(fd uintptr) bool {
	_, err := unix.Write(int(fd), nil)
	return err == unix.EPIPE || err == unix.ECONNRESET || err == unix.ENOTCONN
}

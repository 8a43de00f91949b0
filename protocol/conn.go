//go:build unix

package protocol

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a connection in plain system calls. Package net would cost the helper more than the whole exchange does.
type conn struct {
	mu     sync.Mutex
	fd     int // -1 once closed; guarded by mu, so that watch never shuts down another file that has got the number since
	buf    []byte
	served bool // it has brought a reply
}

// dial connects to the socket at path. Errors are the system's, such as EAGAIN if the listener's queue is full, and those of ctx.
func dial(ctx context.Context, path string) (*conn, error) {
	fd, err := openSocket()
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd}
	stop := c.watch(ctx)
	defer stop()
	switch err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case nil:
		return c, nil
	case unix.EINTR, unix.EINPROGRESS: // the system goes on connecting
		if err = c.wait(ctx, unix.POLLOUT); err == nil {
			var errno int
			if errno, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
				err = unix.Errno(errno)
			}
		}
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// roundTrip writes a request frame and reads the payload of its reply, which stays valid until the next round trip.
func (c *conn) roundTrip(ctx context.Context, request []byte) ([]byte, error) {
	stop := c.watch(ctx)
	defer stop()
	have, want := 0, headerSize
	for len(request) > 0 {
		n, err := unix.Write(c.fd, request)
		if err == unix.EAGAIN {
			err = c.wait(ctx, unix.POLLOUT)
		}
		if err != nil && err != unix.EINTR {
			return nil, err
		}
		request = request[max(n, 0):] // n is -1 if nothing was written
	}
	if c.buf == nil {
		c.buf = make([]byte, replyRoom)
	}
	for {
		if want == headerSize && have >= headerSize {
			size, err := frameSize(c.buf, MaxFrame)
			if err != nil {
				return nil, err
			}
			want += size
			if want > len(c.buf) {
				c.buf = append(make([]byte, 0, want), c.buf[:have]...)[:want]
			}
		}
		if have >= want {
			break
		}
		n, err := c.read(ctx, c.buf[have:])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.ErrUnexpectedEOF
		}
		have += n
	}
	if have > want { // more than one reply to one request
		return nil, ErrMalformed
	}
	c.served = true
	return c.buf[headerSize:want], nil
}

// wait waits for events until ctx ends. It passes the deadline of ctx to poll, so a context that has a deadline and no Done
// channel needs neither a timer nor a goroutine.
func (c *conn) wait(ctx context.Context, events int16) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		timeout := -1
		if deadline, ok := ctx.Deadline(); ok {
			// Rounded up: with 0 this would be a busy loop for the last millisecond.
			timeout = int(min(max(time.Until(deadline).Milliseconds()+1, 0), 1<<30))
		}
		fds := [1]unix.PollFd{{Fd: int32(c.fd), Events: events}}
		n, err := unix.Poll(fds[:], timeout)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			return ctx.Err()
		}
	}
}

// watch shuts the connection down when ctx is cancelled, which ends a wait. The caller must call stop.
func (c *conn) watch(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.fd >= 0 {
			unix.Shutdown(c.fd, unix.SHUT_RDWR)
		}
	})
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// read reads what has arrived, and waits for it until ctx ends.
func (c *conn) read(ctx context.Context, b []byte) (int, error) {
	n, err := readSoon(c.fd, b)
	if err != unix.EAGAIN {
		return n, err
	}
	if err := c.wait(ctx, unix.POLLIN); err != nil {
		return 0, err
	}
	return unix.Read(c.fd, b)
}

package server

import (
	"context"
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

const (
	lengthSize = 4                     // bytes before a frame's payload
	minPayload = 2                     // version and op
	bufferSize = 512                   // bytes that a connection keeps between requests
	lastChance = 50 * time.Millisecond // for a request that is on its way when the server stops
)

// isFrame reports whether b is one whole frame.
func isFrame(b []byte) bool {
	return len(b) >= lengthSize+minPayload && int64(binary.BigEndian.Uint32(b)) == int64(len(b)-lengthSize)
}

// hasFrame reports whether b begins with one whole frame.
func hasFrame(b []byte) bool {
	return len(b) >= lengthSize+minPayload && int64(binary.BigEndian.Uint32(b)) <= int64(len(b)-lengthSize)
}

// controls reports whether a request is one that a person must be able to make however busy the agent is: to see what it does, to
// lock it, to end it.
func controls(op protocol.Op) bool { return op == protocol.OpControl || op == protocol.OpStatus }

// conn is one connection.
type conn struct {
	net      *os.File // a socket that does not block
	raw      syscall.RawConn
	peer     protocol.Peer
	ctx      context.Context // of its requests
	reserved bool            // it has a reserved place

	mu    sync.Mutex
	busy  bool
	watch bool      // the request under way is a watch, which loses nothing by being repeated
	last  time.Time // when the last request began
	over  bool      // no further request

	// What one system call works on. It lives here so that a write allocates nothing.
	writing struct {
		buffer []byte
		n      int
		call   func(fd uintptr) bool
	}
}

// newConn makes a conn of a connection that was just accepted. It returns one together with an error as well, to be closed.
func newConn(ctx context.Context, fd int, peer protocol.Peer) (*conn, error) {
	c := &conn{net: os.NewFile(uintptr(fd), "connection"), peer: peer, ctx: WithPeer(ctx, peer), last: time.Now()}
	c.writing.call = func(fd uintptr) bool {
		c.writing.n, _ = unix.Write(int(fd), c.writing.buffer)
		return true
	}
	var err error
	c.raw, err = c.net.SyscallConn()
	return c, err
}

// end closes c at once.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.net.Close()
}

// endWhenIdle closes c after the request that is under way or about to arrive.
func (c *conn) endWhenIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if !c.busy {
		c.net.SetReadDeadline(time.Now().Add(lastChance))
	}
}

// idleSince returns when the last request began, and whether nothing would be lost if c were closed now.
func (c *conn) idleSince() (last time.Time, idle bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, (!c.busy || c.watch) && !c.over
}

// begin and finish mark a request as under way. finish reports whether another may follow.
func (c *conn) begin(op protocol.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy, c.watch, c.last = true, op == protocol.OpWatch, time.Now()
}

func (c *conn) finish() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	return !c.over
}

// write sends a reply, which the peer must take as fast as it must send a frame. A deadline costs the waking of a thread, and the
// reply nearly always fits the socket's buffer, so it is first tried without one.
func (c *conn) write(reply []byte) error {
	if reply = reply[c.tryWrite(reply):]; len(reply) == 0 {
		return nil
	}
	c.net.SetWriteDeadline(time.Now().Add(protocol.FrameTimeout))
	_, err := c.net.Write(reply)
	return err
}

// tryWrite writes what the socket takes without waiting, and returns how much that was. The next write has the same error.
func (c *conn) tryWrite(reply []byte) int {
	c.writing.buffer, c.writing.n = reply, 0
	c.raw.Write(c.writing.call)
	c.writing.buffer = nil
	return max(c.writing.n, 0)
}

// serveConn answers on c, of which in has been read already, until its end.
func (s *Server) serveConn(c *conn, in []byte) {
	defer c.net.Close()
	defer s.ended()
	defer s.places.remove(c)
	defer func() {
		if p := recover(); p != nil {
			// The value of a panic may quote a request, so it is not logged.
			s.repeats.warn(s.Log, "a request failed in an unforeseen way", int64(c.peer.UID), "pid", c.peer.PID)
		}
	}()
	s.converse(c, in)
}

// converse reads requests and writes replies until the peer goes, makes a mistake, or is silent for too long.
func (s *Server) converse(c *conn, in []byte) {
	have, out := len(in), make([]byte, 0, bufferSize)
	in = in[:cap(in)]
	for {
		payload, err := c.readFrame(&in, &have)
		if err != nil {
			if err == protocol.ErrFrame {
				c.write(protocol.AppendError(out[:0], err))
			}
			return
		}
		op := protocol.Op(payload[1])
		if c.reserved && !controls(op) {
			s.warnBusy(c.peer)
			if s.Limits.TellBusy {
				c.write(protocol.AppendError(out[:0], busy()))
			}
			return
		}
		c.begin(op)
		var misread error
		out, misread = s.answer(c, payload, out[:0])
		if err := c.write(out); err != nil || misread != nil {
			return
		}
		have = copy(in, in[lengthSize+len(payload):have])
		if cap(in) > bufferSize && have <= bufferSize {
			in = append(make([]byte, 0, bufferSize), in[:have]...)[:bufferSize]
		}
		if cap(out) > protocol.MaxFrame/2 {
			out = make([]byte, 0, bufferSize)
		}
		if !c.finish() && have == 0 {
			return
		}
	}
}

// readFrame returns the next frame's payload, which is a part of *in. *have bytes of *in are filled.
func (c *conn) readFrame(in *[]byte, have *int) ([]byte, error) {
	c.mu.Lock()
	if !c.over {
		c.net.SetReadDeadline(time.Now().Add(protocol.IdleTimeout))
	}
	c.mu.Unlock()
	begun := false
	for {
		if *have >= lengthSize {
			n := int(binary.BigEndian.Uint32(*in))
			if n < minPayload || n > protocol.MaxFrame {
				return nil, protocol.ErrFrame
			}
			if *have >= lengthSize+n {
				return (*in)[lengthSize : lengthSize+n], nil
			}
			if len(*in) < lengthSize+n {
				*in = append(make([]byte, 0, lengthSize+n), (*in)[:*have]...)[:lengthSize+n]
			}
		}
		if *have > 0 && !begun {
			begun = true
			c.net.SetReadDeadline(time.Now().Add(protocol.FrameTimeout))
		}
		n, err := c.net.Read((*in)[*have:])
		*have += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// answer appends the reply to one request. A cached reply takes no lock and allocates nothing.
func (s *Server) answer(c *conn, payload, out []byte) ([]byte, error) {
	if s.Cached != nil {
		if reply := s.Cached(payload); reply != nil {
			return append(out, reply...), nil
		}
	}
	if controls(protocol.Op(payload[1])) {
		return protocol.Handle(c.ctx, s.Agent, payload, out)
	}
	// Others may wait for long. A peer that is gone must not take a place until then.
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	defer onHangUp(c.raw, c.net.SetReadDeadline, cancel)()
	return protocol.Handle(ctx, s.Agent, payload, out)
}

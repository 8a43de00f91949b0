package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
)

// Policy judges who is at the other end of a connection. The peer comes from the kernel.
type Policy func(protocol.Peer) error

// OnlyUser admits one user.
func OnlyUser(uid uint32) Policy {
	return func(p protocol.Peer) error {
		if p.UID != uid {
			return errors.New("another user")
		}
		return nil
	}
}

// Serve answers on l until Stop, then answers whoever came before it, and returns nil. It may be called for several
// listeners. The caller releases l.
func (a *Agent) Serve(l *socket.Listener, admit Policy) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-a.stopping:
			l.SetReadDeadline(time.Unix(1, 0)) // ends accept without losing the backlog
		case <-stopped:
		}
	}()
	first := make([]byte, bufferKept)
	delay := time.Duration(0)
	for {
		fd, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			a.receive(fd, first, admit, &conns)
		case errors.Is(err, os.ErrClosed):
			return err
		case a.ending():
			a.drain(l, first, &conns, admit)
			return nil
		default:
			// Out of descriptors, or a peer that is gone already: no reason to end, nor to spin.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			a.repeats.warn(a.log, "a connection could not be accepted", nobody, "error", err)
			select {
			case <-time.After(delay):
			case <-a.stopping:
			}
		}
	}
}

func (a *Agent) ending() bool {
	select {
	case <-a.stopping:
		return true
	default:
		return false
	}
}

// drain answers those whose connections wait in the backlog of a socket of ours. A service manager's keeps them for the next.
func (a *Agent) drain(l *socket.Listener, first []byte, conns *sync.WaitGroup, admit Policy) {
	defer a.conns.closeIdle()
	if !l.Retire() {
		return
	}
	l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	for {
		fd, err := l.Accept()
		if err != nil {
			return
		}
		a.receive(fd, first, admit, conns)
	}
}

// receive takes a new connection. Most come for one live token, have sent their request already, and say that it is the only one:
// that is answered here and now, because to wake another thread for it takes longer than all the rest. What can't be is a
// goroutine's. first is room for the request.
func (a *Agent) receive(fd int, first []byte, admit Policy, conns *sync.WaitGroup) {
	peer, err := protocol.PeerOf(fd)
	if err == nil {
		err = admit(peer)
	}
	if err != nil {
		conns.Go(func() {
			// Without a peer the uid shown is not one: the reason says so.
			a.repeats.warn(a.log, "a peer was refused", int64(peer.UID), "pid", peer.PID, "reason", err)
			unix.Close(fd)
		})
		return
	}
	n, _ := readSoon(fd, first) // an error is the next read's
	answered := false           // before it is counted: those who wait for a slow provider keep nobody from what is in memory
	if h := a.hot(first[:max(n, 0)]); h != nil {
		if written, _ := unix.Write(fd, h.reply); written == len(h.reply) {
			answered = true
			if n, err = unix.Read(fd, first); n == 0 && err == nil {
				unix.Close(fd)
				a.left()
				return
			}
		}
	}
	in := append(make([]byte, 0, bufferKept), first[:max(n, 0)]...)
	c, err := newConn(fd, peer)
	if err != nil || !a.conns.add(c) {
		conns.Go(func() {
			if !answered { // who has a token goes without one
				a.tooMany(peer)
			}
			c.net.Close()
		})
		return
	}
	conns.Go(func() { a.serveConn(c, in) })
}

// tooMany says that a peer goes without an answer.
func (a *Agent) tooMany(peer protocol.Peer) {
	a.repeats.warn(a.log, "a connection was refused: too many are busy", int64(peer.UID), "pid", peer.PID)
}

// controls reports whether a request is one that a person must be able to make however busy the agent is: to see what it does, to
// lock it, to end it.
func controls(op protocol.Op) bool { return op == protocol.OpControl || op == protocol.OpStatus }

// Limits of a connection (docs/protocol.md, "limits").
const (
	minFrame     = 2                     // version and op
	kept         = 32                    // places for control where all others are taken by requests under way
	bufferKept   = 512                   // bytes that a connection keeps between requests
	lastingDrain = 50 * time.Millisecond // for a request that is on its way when the agent stops
)

// conn is one connection.
type conn struct {
	net  *os.File // a socket that does not block
	raw  syscall.RawConn
	peer protocol.Peer

	mu   sync.Mutex
	busy bool
	wait bool      // the request under way is a watch, which loses nothing by being asked again
	last time.Time // when the last request began
	over bool      // no further request

	reserved bool // it has a place that is kept for those who control the agent

	// What one system call works on, here so that it allocates nothing.
	now struct {
		buffer []byte
		n      int
		write  func(fd uintptr) bool
	}
}

// newConn makes a conn of a connection just accepted, also with an error.
func newConn(fd int, peer protocol.Peer) (*conn, error) {
	c := &conn{net: os.NewFile(uintptr(fd), "connection"), peer: peer, last: time.Now()}
	c.now.write = func(fd uintptr) bool {
		c.now.n, _ = unix.Write(int(fd), c.now.buffer)
		return true
	}
	var err error
	c.raw, err = c.net.SyscallConn()
	return c, err
}

// tryWrite writes what the socket takes without waiting, and returns how much that was; an error is the next write's.
func (c *conn) tryWrite(reply []byte) int {
	c.now.buffer, c.now.n = reply, 0
	c.raw.Write(c.now.write)
	c.now.buffer = nil
	return max(c.now.n, 0)
}

// connections is the set of open ones.
type connections struct {
	mu     sync.Mutex
	open   map[*conn]struct{}
	ending bool
}

func (s *connections) count() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint32(len(s.open))
}

// add admits c. Where there are too many, one of those that are idle or watch gives way: the one whose last request is oldest.
// Where there is none of these, c gets a place that is kept for control. It reports false when those are taken too.
func (s *connections) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= protocol.MaxConnections {
		if oldest := s.oldest(); oldest != nil {
			oldest.end()
			delete(s.open, oldest)
		} else if c.reserved = true; len(s.open) >= protocol.MaxConnections+kept {
			return false
		}
	}
	s.open[c] = struct{}{}
	return true
}

// oldest is the one to give way, nil where each has a request that would be lost. s.mu is held.
func (s *connections) oldest() *conn {
	var oldest *conn
	var since time.Time
	for o := range s.open {
		o.mu.Lock()
		if (!o.busy || o.wait) && !o.over && (oldest == nil || o.last.Before(since)) {
			oldest, since = o, o.last
		}
		o.mu.Unlock()
	}
	return oldest
}

func (s *connections) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// closeIdle ends every connection, those with a request under way after its answer.
func (s *connections) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	for c := range s.open {
		c.mu.Lock()
		c.over = true
		if !c.busy {
			c.net.SetReadDeadline(time.Now().Add(lastingDrain))
		}
		c.mu.Unlock()
	}
}

// end closes c at once.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.net.Close()
}

// begin and finish mark a request under way. finish reports whether another may follow.
func (c *conn) begin(op protocol.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy, c.wait, c.last = true, op == protocol.OpWatch, time.Now()
}

func (c *conn) finish() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	return !c.over
}

// write sends a reply, which the peer must take as fast as it must send a frame. A deadline costs the waking of a thread, and
// the reply nearly always fits the socket's buffer.
func (c *conn) write(reply []byte) error {
	if reply = reply[c.tryWrite(reply):]; len(reply) == 0 {
		return nil
	}
	c.net.SetWriteDeadline(time.Now().Add(protocol.FrameTimeout))
	_, err := c.net.Write(reply)
	return err
}

// serveConn answers on c, of which in has been read already, until its end.
func (a *Agent) serveConn(c *conn, in []byte) {
	defer c.net.Close()
	defer a.left()
	defer a.conns.remove(c)
	defer func() {
		if p := recover(); p != nil {
			// The value may quote a request: its type is all that is safe to show.
			a.repeats.warn(a.log, "a request failed in an unforeseen way", int64(c.peer.UID), "pid", c.peer.PID)
		}
	}()
	a.converse(c, in)
}

// left notes that a peer is gone: the idle time-out counts from here.
func (a *Agent) left() {
	a.touch()
	if a.opts.IdleTimeout > 0 {
		a.nudge()
	}
}

// converse reads requests and writes replies until the peer goes, errs or is silent for too long.
func (a *Agent) converse(c *conn, in []byte) {
	have, out := len(in), make([]byte, 0, bufferKept)
	in = in[:cap(in)]
	for {
		frame, err := a.readFrame(c, &in, &have)
		if err != nil {
			if err == protocol.ErrFrame {
				c.write(protocol.AppendError(out[:0], err))
			}
			return
		}
		op := protocol.Op(frame[1])
		if c.reserved && !controls(op) {
			a.tooMany(c.peer)
			return
		}
		c.begin(op)
		var misread error
		out, misread = a.answer(c, frame, out[:0])
		if err := c.write(out); err != nil || misread != nil {
			return
		}
		have = copy(in, in[4+len(frame):have])
		if cap(in) > bufferKept && have <= bufferKept {
			in = append(make([]byte, 0, bufferKept), in[:have]...)[:bufferKept]
		}
		if cap(out) > protocol.MaxFrame/2 {
			out = make([]byte, 0, bufferKept)
		}
		if !c.finish() && have == 0 {
			return
		}
	}
}

// readFrame returns the next frame's payload, a part of *in, of which *have bytes are filled.
func (a *Agent) readFrame(c *conn, in *[]byte, have *int) ([]byte, error) {
	c.mu.Lock()
	if !c.over {
		c.net.SetReadDeadline(time.Now().Add(protocol.IdleTimeout))
	}
	c.mu.Unlock()
	partial := false
	for {
		if *have >= 4 {
			n := int(binary.BigEndian.Uint32(*in))
			if n < minFrame || n > protocol.MaxFrame {
				return nil, protocol.ErrFrame
			}
			if *have >= 4+n {
				return (*in)[4 : 4+n], nil
			}
			if len(*in) < 4+n {
				*in = append(make([]byte, 0, 4+n), (*in)[:*have]...)[:4+n]
			}
		}
		if *have > 0 && !partial {
			partial = true
			c.net.SetReadDeadline(time.Now().Add(protocol.FrameTimeout))
		}
		n, err := c.net.Read((*in)[*have:])
		*have += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// answer appends the reply to one request. A live token's takes no lock and allocates nothing.
func (a *Agent) answer(c *conn, frame, out []byte) ([]byte, error) {
	if h := a.hotFrame(frame); h != nil {
		return append(out, h.reply...), nil
	}
	ctx := context.WithValue(context.Background(), peerKey{}, c.peer)
	if controls(protocol.Op(frame[1])) {
		return protocol.Handle(ctx, a, frame, out)
	}
	// Others may wait for long. A peer that is gone must not take a place until then.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer attend(c.raw, c.net.SetReadDeadline, cancel)()
	return protocol.Handle(ctx, a, frame, out)
}

// hot is hotFrame for what has been read, if that is one whole frame.
func (a *Agent) hot(in []byte) *hand {
	if len(in) < 4+minFrame || int64(binary.BigEndian.Uint32(in)) != int64(len(in)-4) {
		return nil
	}
	return a.hotFrame(in[4:])
}

// hotFrame returns the token in hand that answers a frame's payload, nil where the request needs more than a look.
func (a *Agent) hotFrame(frame []byte) *hand {
	if len(frame) <= minFrame || protocol.Op(frame[1]) != protocol.OpToken {
		return nil
	}
	req, err := protocol.DecodeTokenRequest(frame)
	if err != nil || req.Force || req.HalfLife || req.ReaskWindow > 0 || req.ForHost() {
		return nil
	}
	return a.inHand(&req)
}

// inHand is the hot path: the token that answers req as it lies there, nil for every other case.
func (a *Agent) inHand(req *protocol.TokenRequest) *hand {
	t := a.table.Load()
	e := t.find(req.Profile)
	if e == nil || t.checkHome(req.Home, e) != nil {
		return nil
	}
	h, now := e.hand.Load(), a.now()
	if h == nil || !h.serves(now, req.MinTTL, false) || !h.meets(req.MinTTL, now) || !e.sight.Load().quick() {
		return nil
	}
	a.requests.Add(1)
	a.active.Store(now.UnixMilli())
	e.lastUsed.Store(now.Unix())
	return h
}

// Package server answers requests on a socket: it reads frames, has an agent answer them, and writes the replies
// (docs/protocol.md §2.3, §3 and §6). It bounds what peers can take, survives a request that panics, and answers what is under
// way before it stops. The agent's own socket and the restricted ones of package restricted are served by it.
package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// Listener is the socket that connections come from.
type Listener interface {
	// Accept returns a connection as a descriptor that does not block. It fails with os.ErrClosed once the listener is closed.
	Accept() (fd int, err error)
	// SetReadDeadline ends the wait of Accept.
	SetReadDeadline(time.Time) error
	// Retire is called once, when the server stops. It takes the socket's name away, so that nobody else connects, and reports
	// whether it did. Where it did not, somebody else goes on with the socket and its queue.
	Retire() bool
}

// Limits bounds what peers can take.
type Limits struct {
	// Connections is how many there may be at a time, User how many of them may be one user's (0: all). For one more, the
	// connection is closed that has been idle, or has watched, the longest: of that user's where it is User that is reached.
	Connections, User int
	// Reserved is how many further connections are taken while every place has a request under way: requests to see, lock or end
	// the agent are answered there, others are turned away.
	Reserved int
	// TellBusy answers a request that is turned away with an error (ErrUnavailable). Without it the connection is closed without
	// an answer. A client that can start an agent takes that for an agent that ends, and repeats the request until its time is up.
	TellBusy bool
	// Drain is how long requests under way are waited for once the server stops, before their contexts end; 0: until they are
	// done.
	Drain time.Duration
}

// Server answers requests. Set the fields before the first call of a method; a Server must not be copied after it. Its methods
// may be called concurrently.
type Server struct {
	Agent  protocol.Agent // whom requests are put to; required
	Limits Limits
	Log    *slog.Logger // required
	// Cached returns the whole reply to a request whose payload is given, where it can do so without waiting, and nil
	// otherwise. It runs on the goroutine that accepts, so it must not block or panic. It keeps nothing of the payload, and the
	// server does not change what it returns. It may be nil.
	Cached func(payload []byte) []byte
	// Ended is called whenever a peer is gone. It may be nil.
	Ended func()

	places  places
	repeats repeats
}

// serving is one call of Serve.
type serving struct {
	*Server
	ctx   context.Context // of every request; ends when the server stops and Limits.Drain is over
	admit func(protocol.Peer) error
	first []byte // room for what a connection sends first
	conns sync.WaitGroup
}

// Serve answers on l until stop is closed, then answers whoever came before that, and returns nil. Its error is the listener's.
// admit judges the peer of each connection, as the kernel tells it. Serve may be called for several listeners; the caller closes
// them.
func (s *Server) Serve(l Listener, admit func(protocol.Peer) error, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	v := &serving{Server: s, ctx: ctx, admit: admit, first: make([]byte, bufferSize)}
	defer v.conns.Wait()
	returned := make(chan struct{})
	defer close(returned)
	go func() {
		select {
		case <-stop:
			l.SetReadDeadline(time.Unix(1, 0)) // ends Accept without losing what waits in the queue
		case <-returned:
		}
	}()
	delay := time.Duration(0)
	for {
		fd, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			v.receive(fd)
		case errors.Is(err, os.ErrClosed):
			return err
		case isClosed(stop):
			if s.Limits.Drain > 0 {
				defer time.AfterFunc(s.Limits.Drain, cancel).Stop()
				defer v.conns.Wait() // before that timer is stopped
			}
			v.drain(l)
			return nil
		default:
			// Out of descriptors, or a peer that is gone already: no reason to end, nor to try again without a pause.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.repeats.warn(s.Log, "a connection could not be accepted", noUser, "error", err)
			select {
			case <-time.After(delay):
			case <-stop:
			}
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// drainQueue is how long connections are accepted that were made before the socket lost its name.
const drainQueue = 20 * time.Millisecond

// drain answers those whose connections wait in the queue of the socket, and then ends all connections.
func (v *serving) drain(l Listener) {
	defer v.places.closeIdle()
	if !l.Retire() {
		return
	}
	l.SetReadDeadline(time.Now().Add(drainQueue))
	for {
		fd, err := l.Accept()
		if err != nil {
			return
		}
		v.receive(fd)
	}
}

// receive takes a new connection. Most clients connect for one cached token, have sent their request already, and say that it is
// the only one. Those are answered here and now, because to wake another thread for it takes longer than all the rest. What can't
// be answered so is left to a goroutine.
func (v *serving) receive(fd int) {
	peer, err := protocol.PeerOf(fd)
	if err == nil {
		err = v.admit(peer)
	}
	if err != nil {
		v.conns.Go(func() {
			// Where the peer is not known, the uid that is logged means nothing; the reason says so.
			v.repeats.warn(v.Log, "a peer was refused", int64(peer.UID), "pid", peer.PID, "reason", err)
			unix.Close(fd)
		})
		return
	}
	n, _ := readSoon(fd, v.first) // the next read has the same error
	// Before the connection is counted: requests that wait for a slow provider keep nobody from what is cached.
	answered := false
	if reply := v.cached(v.first[:max(n, 0)]); reply != nil {
		if written, _ := unix.Write(fd, reply); written == len(reply) {
			answered = true
			if n, err = unix.Read(fd, v.first); n == 0 && err == nil {
				unix.Close(fd)
				v.ended()
				return
			}
		}
	}
	in := append(make([]byte, 0, bufferSize), v.first[:max(n, 0)]...)
	c, err := newConn(v.ctx, fd, peer)
	c.busy = hasFrame(in) // half of one keeps nobody out
	if err != nil || !v.places.add(c, v.Limits) {
		v.conns.Go(func() {
			if !answered {
				v.warnBusy(peer)
			}
			c.net.Close()
		})
		return
	}
	v.conns.Go(func() { v.serveConn(c, in) })
}

// cached returns the reply to what has been read, if that is one whole frame with a cached reply.
func (s *Server) cached(in []byte) []byte {
	if s.Cached == nil || !isFrame(in) {
		return nil
	}
	return s.Cached(in[lengthSize:])
}

// warnBusy logs that a peer is turned away.
func (s *Server) warnBusy(peer protocol.Peer) {
	s.repeats.warn(s.Log, "a connection was refused: too many are busy", int64(peer.UID), "pid", peer.PID)
}

// busy is the error of a request that is turned away.
func busy() error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "too many requests wait for an answer on this socket",
		Hint:    "ask again once some of them are answered",
	}
}

// ended notes that a peer is gone.
func (s *Server) ended() {
	if s.Ended != nil {
		s.Ended()
	}
}

// Connections returns how many there are. Those that were answered as they came are not counted.
func (s *Server) Connections() uint32 { return s.places.count() }

// peerKey is the key of the peer in a request's context.
type peerKey struct{}

// WithPeer returns a context that says who asks. [Server] puts each request to its agent with one.
func WithPeer(ctx context.Context, p protocol.Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerOf returns who asks, the zero Peer where the context does not say: a request that was made within the process.
func PeerOf(ctx context.Context) protocol.Peer {
	p, _ := ctx.Value(peerKey{}).(protocol.Peer)
	return p
}

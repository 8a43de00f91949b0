package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Export answers on a socket of its own with the tokens of some profiles, and with nothing else: for a container, or for another
// machine by way of ssh. It holds no record and no token: each request is put to an agent, and whatever would tell more of
// that, change it, or make it renew on demand is refused (ErrDenied).
type Export struct {
	Agent    protocol.Agent // who is asked; required
	Profiles []string       // whose tokens may be had; the first is the default. At least one
	Admit    Policy         // required
	Log      *slog.Logger   // required

	repeats repeats
}

// exportConnections bounds the connections of one export, exportOfUser those of one user: nobody who is let in keeps the others
// out.
const (
	exportConnections = 256
	exportOfUser      = 32
)

// Serve answers on l until ctx ends, and then ends every connection. It closes l. Its error is l's.
func (x *Export) Serve(ctx context.Context, l *net.UnixListener) error {
	guests := guests{open: map[*guest]struct{}{}}
	var work sync.WaitGroup
	defer work.Wait()
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		guests.closeAll()
	})
	defer stop()
	for {
		nc, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			x.repeats.warn(x.Log, "a connection could not be accepted", nobody, "error", err)
			select { // out of descriptors, or a peer that is gone already
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		peer, err := peerOf(nc)
		if err == nil {
			err = x.Admit(peer)
		}
		g := &guest{UnixConn: nc, uid: peer.UID, last: time.Now()}
		if err == nil {
			err = guests.add(g)
		}
		if err != nil {
			x.repeats.warn(x.Log, "a peer was refused", int64(peer.UID), "pid", peer.PID, "reason", err)
			nc.Close()
			continue
		}
		work.Go(func() {
			defer guests.remove(g)
			x.converse(ctx, &guests, g)
		})
	}
}

// guest is one connection of an export.
type guest struct {
	*net.UnixConn
	uid  uint32
	busy bool      // a request is under way
	last time.Time // when the last one began
}

// guests are those connections.
type guests struct {
	mu    sync.Mutex // guards also what changes of a guest
	open  map[*guest]struct{}
	ended bool
}

// add admits g. Where there are too many, of its user or in all, the one of them whose last request is oldest gives way, of those
// without a request under way.
func (s *guests) add(g *guest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ofUser := 0
	var oldest, oldestOfUser *guest
	for o := range s.open {
		if o.uid == g.uid {
			ofUser++
		}
		if o.busy {
			continue
		}
		if oldest == nil || o.last.Before(oldest.last) {
			oldest = o
		}
		if o.uid == g.uid && (oldestOfUser == nil || o.last.Before(oldestOfUser.last)) {
			oldestOfUser = o
		}
	}
	switch {
	case s.ended:
		return errors.New("it ends")
	case ofUser >= exportOfUser:
		oldest = oldestOfUser
	case len(s.open) < exportConnections:
		s.open[g] = struct{}{}
		return nil
	}
	if oldest == nil {
		return errors.New("too many connections")
	}
	oldest.Close()
	delete(s.open, oldest)
	s.open[g] = struct{}{}
	return nil
}

func (s *guests) remove(g *guest) {
	g.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, g)
}

func (s *guests) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for g := range s.open {
		g.Close()
	}
}

// begin and finish mark a request under way.
func (s *guests) begin(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.busy, g.last = true, time.Now()
}

func (s *guests) finish(g *guest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.busy = false
}

func peerOf(nc *net.UnixConn) (peer protocol.Peer, err error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return peer, err
	}
	if e := raw.Control(func(fd uintptr) { peer, err = protocol.PeerOf(int(fd)) }); e != nil {
		return peer, e
	}
	return peer, err
}

// converse answers on one connection until its end.
func (x *Export) converse(ctx context.Context, guests *guests, nc *guest) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return
	}
	var in, out []byte
	for {
		nc.SetReadDeadline(time.Now().Add(protocol.IdleTimeout))
		payload, err := protocol.ReadFrame(&patient{nc.UnixConn}, in, protocol.MaxFrame)
		if err != nil {
			if errors.Is(err, protocol.ErrFrame) {
				nc.SetWriteDeadline(time.Now().Add(protocol.FrameTimeout))
				nc.Write(protocol.AppendError(nil, err))
			}
			return
		}
		in = payload[:0]
		var misread error
		guests.begin(nc)
		asking, cancel := context.WithCancel(ctx)
		// A peer that is gone must not take a place for as long as a renewal takes.
		stop := attend(raw, nc.SetReadDeadline, cancel)
		out, misread = protocol.Handle(asking, x.restricted(), payload, out[:0])
		stop()
		cancel()
		guests.finish(nc)
		nc.SetWriteDeadline(time.Now().Add(protocol.FrameTimeout))
		if _, err := nc.Write(out); err != nil || misread != nil {
			return
		}
	}
}

// patient gives a frame that has begun its own, shorter deadline.
type patient struct{ *net.UnixConn }

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.UnixConn.Read(b)
	if n > 0 {
		p.SetReadDeadline(time.Now().Add(protocol.FrameTimeout))
	}
	return n, err
}

func (x *Export) restricted() protocol.Agent { return restricted{x} }

// restricted is the agent that an export shows.
type restricted struct{ export *Export }

func (r restricted) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	if req.Force {
		return protocol.Token{}, deniedHere("a renewal")
	}
	name := req.Profile
	if name == "" {
		name = r.export.Profiles[0]
	}
	i := slices.IndexFunc(r.export.Profiles, func(p string) bool { return protocol.FoldProfile(p) == protocol.FoldProfile(name) })
	if i < 0 {
		return protocol.Token{}, deniedHere("another profile than those that were chosen")
	}
	// Another machine's home says nothing here, and what it may have is what anybody gets: no more life than the margin, so that
	// nobody out there makes us renew at will.
	name = r.export.Profiles[i]
	t, err := r.export.Agent.Token(ctx, protocol.TokenRequest{
		Profile: name, MinTTL: min(req.MinTTL, protocol.Margin), Host: req.Host, Listed: req.Listed,
	})
	if err != nil {
		return protocol.Token{}, toldOutside(err, name, req.Host)
	}
	// What crosses is made anew from what may cross: a notice, as an error, is for the person at this machine.
	out := protocol.Token{Profile: name, Value: t.Value, Expiry: t.Expiry, Kind: shown(t.Kind)}
	if left := time.Until(t.Expiry); !t.Expiry.IsZero() && left < req.MinTTL {
		out.Notice = "--min-ttl can't be met: the token of profile " + name + " lives " + brief(left)
	}
	return out, nil
}

// shown is a kind as it may cross.
func shown(k protocol.Kind) protocol.Kind {
	switch k {
	case protocol.KindOAuth, protocol.KindAPIKey:
		return k
	}
	return protocol.KindBearer
}

// toldOutside is the agent's error as it may cross a restricted socket: its condition and the profile, in words of ours. The
// agent's own words name paths, commands and accounts, and what others said may be in them. host is the request's.
func toldOutside(err error, profile, host string) error {
	e := &protocol.Error{Code: protocol.CodeOf(err), Hint: "the machine that this socket comes from says more: ccagent status"}
	switch e.Code {
	case protocol.CodeConfig:
		e.Message = "profile " + profile + " is not set up as it should be"
		if host == protocol.UnnamedHost {
			e.Message += ", or wants to know the host, which the tool does not name"
		}
	case protocol.CodeNotFound:
		e.Message = "profile " + profile + " has no sign-in"
	case protocol.CodeLoginRequired, protocol.CodeExpired:
		e.Message = "the sign-in of profile " + profile + " is over"
	case protocol.CodeNoAgent:
		e.Message = "there is no agent behind this socket"
	case protocol.CodeDenied:
		e.Message = "profile " + profile + " gives no token for this request: it may not list the host"
	case protocol.CodeLocked:
		e.Message = "the agent is locked"
	case protocol.CodeUnavailable:
		e.Message = "profile " + profile + " has no token at the moment"
	case protocol.CodeStorage, protocol.CodeInvalid:
		e.Message = "the sign-in of profile " + profile + " can't be read"
	default:
		e.Code, e.Message = protocol.CodeInternal, "profile "+profile+" has no token, by a fault of the agent"
	}
	return e
}

func deniedHere(what string) error {
	return &protocol.Error{Code: protocol.CodeDenied, Message: "this socket does not give " + what,
		Hint: "it gives the tokens of chosen profiles alone; ask at the machine that it comes from"}
}

func (restricted) Status(context.Context, protocol.StatusRequest) (protocol.Status, error) {
	return protocol.Status{}, deniedHere("the agent's status")
}

func (restricted) Put(context.Context, protocol.PutRequest) (protocol.PutReply, error) {
	return protocol.PutReply{}, deniedHere("a place for a sign-in")
}

func (restricted) Control(context.Context, protocol.ControlRequest) (protocol.ControlReply, error) {
	return protocol.ControlReply{}, deniedHere("control of the agent")
}

func (restricted) Identify(context.Context, protocol.IdentifyRequest) (protocol.Identity, error) {
	return protocol.Identity{}, deniedHere("who is signed in")
}

// It is [protocol.Watcher] and [protocol.Keeper] too, so that the refusal says why: an agent that is neither is an older one.

func (restricted) Watch(context.Context, protocol.WatchRequest) (protocol.WatchReply, error) {
	return protocol.WatchReply{}, deniedHere("notice of changes")
}

func (restricted) Keep(context.Context, protocol.KeepRequest) (protocol.KeepReply, error) {
	return protocol.KeepReply{}, deniedHere("a say in where a sign-in rests")
}

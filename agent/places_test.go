package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// full is an agent with a profile whose provider hangs until the test ends.
func full(t *testing.T) (a *Agent, path string, release func()) {
	t.Helper()
	hang := make(chan struct{})
	p := &provider{lifetime: time.Hour}
	a = start(t, p, func(o *Options) {
		o.Load = func() (Config, error) { return config("claude", "slow"), nil }
		o.Runner = slowRunner{p, hang}
	})
	path = serve(t, a, me())
	released := false
	release = func() {
		if !released {
			released = true
			close(hang)
		}
	}
	t.Cleanup(release) // before the agent is waited for
	return a, path, release
}

// eventually waits until done, for less long than a watch takes by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// underWay counts the connections with a request under way.
func (a *Agent) underWay() (n int) {
	a.conns.mu.Lock()
	defer a.conns.mu.Unlock()
	for c := range a.conns.open {
		c.mu.Lock()
		if c.busy {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

func frameOf(t *testing.T, frame []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// watching opens n connections that watch.
func watching(t *testing.T, a *Agent, path string, n int) []net.Conn {
	t.Helper()
	reply, err := a.Watch(t.Context(), protocol.WatchRequest{Profile: "claude"})
	if err != nil {
		t.Fatal(err)
	}
	request, err := protocol.AppendWatchRequest(nil, protocol.WatchRequest{Profile: "claude", Known: reply.Version})
	frame := frameOf(t, request, err)
	var conns []net.Conn
	for range n {
		c := dial(t, path)
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	return conns
}

// TestWatchesKeepNobodyOut: as many watches as there are places are no reason to go without a token, or without control.
func TestWatchesKeepNobodyOut(t *testing.T) {
	a, path, _ := full(t)
	watching(t, a, path, protocol.MaxConnections)
	eventually(t, "the watches", func() bool { return a.underWay() == protocol.MaxConnections })
	client := protocol.NewClient(path)
	defer client.Close()
	if _, err := client.Token(t.Context(), protocol.TokenRequest{Profile: "claude", Force: true}); err != nil {
		t.Error(err)
	}
	if _, err := client.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandLock}); err != nil {
		t.Error(err)
	}
	if n := a.conns.count(); n > protocol.MaxConnections {
		t.Errorf("%d connections", n)
	}
}

// TestControlHasPlaces: while every place has a request that waits for a provider, the agent can be looked at, locked and ended.
func TestControlHasPlaces(t *testing.T) {
	a, path, release := full(t)
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "slow"})
	slow := frameOf(t, request, err)
	for range protocol.MaxConnections {
		if _, err := dial(t, path).Write(slow); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the requests", func() bool { return a.underWay() == protocol.MaxConnections })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 2 * kept { // whoever has no place does not take one of these
		c := dial(t, path)
		if _, err := c.Write(slow); err != nil {
			continue // it was closed already
		}
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Fatal("a request without a place is kept waiting")
		}
	}
	client := protocol.NewClient(path)
	defer client.Close()
	status, err := client.Status(ctx, protocol.StatusRequest{})
	if err != nil || status.Agent.Connections < protocol.MaxConnections {
		t.Errorf("status: %d connections, %v", status.Agent.Connections, err)
	}
	if _, err := client.Control(ctx, protocol.ControlRequest{Command: protocol.CommandLock}); err != nil {
		t.Errorf("lock: %v", err)
	}
	if _, err := client.Control(ctx, protocol.ControlRequest{Command: protocol.CommandStop, Force: true}); err != nil {
		t.Errorf("stop: %v", err)
	}
	release()
}

// TestHangUpIsNoticed frees the place of a peer that is gone, be it that it watches or waits for a provider, and not that of one
// that has only said that it writes no more.
func TestHangUpIsNoticed(t *testing.T) {
	a, path, release := full(t)
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "slow"})
	slow := frameOf(t, request, err)
	patient := dial(t, path).(*net.UnixConn)
	if _, err := patient.Write(slow); err != nil {
		t.Fatal(err)
	}
	if err := patient.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	conns := watching(t, a, path, 20)
	for range 20 {
		c := dial(t, path)
		if _, err := c.Write(slow); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	half := dial(t, path).(*net.UnixConn) // first no more requests, then gone
	if _, err := half.Write(slow); err != nil {
		t.Fatal(err)
	}
	half.CloseWrite()
	eventually(t, "the requests", func() bool { return a.underWay() == len(conns)+2 })
	for _, c := range append(conns, half) {
		c.Close()
	}
	eventually(t, "the places of those who are gone", func() bool { return a.conns.count() == 1 })
	release()
	reply, err := protocol.ReadFrame(patient, nil, protocol.MaxFrame)
	if err != nil || protocol.Op(reply[1]) != protocol.OpToken.Reply() {
		t.Errorf("who waits on is answered %q, %v", reply, err)
	}
}

// TestPipelinedRequestsWait: what a peer sends while its request is under way is its next request.
func TestPipelinedRequestsWait(t *testing.T) {
	a, path, release := full(t)
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "slow"})
	slow := frameOf(t, request, err)
	c := dial(t, path)
	for range 3 {
		if _, err := c.Write(slow); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the request", func() bool { return a.underWay() == 1 })
	}
	release()
	for range 3 {
		if reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame); err != nil ||
			protocol.Op(reply[1]) != protocol.OpToken.Reply() {
			t.Fatalf("%q, %v", reply, err)
		}
	}
}

// TestGuestsShareTheirPlaces: one user of an export takes no more than some places, whatever he does with them.
func TestGuestsShareTheirPlaces(t *testing.T) {
	s := guests{open: map[*guest]struct{}{}}
	at := time.Now()
	come := func(uid uint32, busy bool) (*guest, error) {
		at = at.Add(time.Second)
		g := &guest{UnixConn: &net.UnixConn{}, uid: uid, busy: busy, last: at}
		return g, s.add(g)
	}
	of := func(uid uint32) (n int) {
		for g := range s.open {
			if g.uid == uid {
				n++
			}
		}
		return n
	}
	first, err := come(1, false)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := come(1, false); err != nil {
			t.Fatalf("nobody of his gives way: %v", err)
		}
	}
	if _, there := s.open[first]; there || of(1) != exportOfUser {
		t.Errorf("%d places for one user, the longest idle still there: %v", of(1), there)
	}
	for range exportOfUser {
		if _, err := come(2, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := come(2, false); err == nil || of(2) != exportOfUser {
		t.Errorf("%d places for one user who waits in all of them, %v", of(2), err)
	}
	for uid := uint32(3); of(1) == exportOfUser; uid++ { // until all are taken, and the longest idle gives way
		if _, err := come(uid, true); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.open) != exportConnections {
		t.Errorf("%d places", len(s.open))
	}
	if _, err := come(1, false); err != nil {
		t.Errorf("who has few places: %v", err)
	}
}

// TestExportNoticesHangUps: a peer that is gone takes no place for as long as the agent takes.
func TestExportNoticesHangUps(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	dir := socketDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	slow := &hanging{hang: hang, came: make(chan struct{}), left: make(chan struct{})}
	x := &Export{Agent: slow, Profiles: []string{"claude"}, Admit: me(), Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx, l) }()
	c := dial(t, dir+"/s")
	if _, err := c.Write(tokenFrame(t)); err != nil {
		t.Fatal(err)
	}
	<-slow.came
	c.Close()
	select {
	case <-slow.left:
	case <-time.After(20 * time.Second):
		t.Error("the request goes on")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// hanging is an agent that does not answer.
type hanging struct {
	protocol.Agent
	hang, came, left chan struct{}
}

func (h *hanging) Token(ctx context.Context, _ protocol.TokenRequest) (protocol.Token, error) {
	close(h.came)
	defer close(h.left)
	select {
	case <-ctx.Done():
	case <-h.hang:
	}
	return protocol.Token{}, ctx.Err()
}

package server

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// eventually waits until done, for less long than a watch takes by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// watching opens n connections that watch.
func watching(t *testing.T, b *backend, path string, n int) []net.Conn {
	t.Helper()
	reply, err := b.Watch(t.Context(), protocol.WatchRequest{Profile: "claude"})
	if err != nil {
		t.Fatal(err)
	}
	frame, err := protocol.AppendWatchRequest(nil, protocol.WatchRequest{Profile: "claude", Known: reply.Version})
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range n {
		conns = append(conns, send(t, path, frame))
	}
	return conns
}

// TestWatchesKeepNobodyOut: as many watches as there are places are no reason to go without a token, or without control.
func TestWatchesKeepNobodyOut(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	watching(t, b, path, protocol.MaxConnections)
	eventually(t, "the watches", func() bool { return b.underWay() == protocol.MaxConnections })
	client := protocol.NewClient(path)
	defer client.Close()
	if _, err := client.Token(t.Context(), protocol.TokenRequest{Profile: "claude", Force: true}); err != nil {
		t.Error(err)
	}
	if _, err := client.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandLock}); err != nil {
		t.Error(err)
	}
	if n := b.Connections(); n > protocol.MaxConnections {
		t.Errorf("%d connections", n)
	}
}

// TestHalvesOfFramesKeepNobodyOut: as many connections as there are places, each with the beginning of a request, are no reason
// to go without a token.
func TestHalvesOfFramesKeepNobodyOut(t *testing.T) {
	few := limits
	few.Connections, few.Reserved = 8, 2
	b := newBackend(few)
	path := b.start(t, me())
	b.release()
	for range few.Connections {
		send(t, path, tokenFrame(t, "slow")[:7])
	}
	eventually(t, "the connections", func() bool { return b.Connections() == uint32(few.Connections) })
	c := send(t, path, tokenFrame(t, "slow"))
	reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame)
	if err != nil || protocol.Op(reply[1]) != protocol.OpToken.Reply() {
		t.Errorf("%q, %v", reply, err)
	}
}

// TestControlHasPlaces: while every place has a request that waits for a provider, the agent can be looked at, locked and ended.
func TestControlHasPlaces(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	slow := tokenFrame(t, "slow")
	for range protocol.MaxConnections {
		if _, err := dial(t, path).Write(slow); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the requests", func() bool { return b.underWay() == protocol.MaxConnections })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 2 * limits.Reserved { // whoever has no place does not take one of these
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
	b.release()
}

// TestHangUpIsNoticed frees the place of a peer that is gone, be it that it watches or waits for a provider, and not that of one
// that has only said that it writes no more.
func TestHangUpIsNoticed(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	slow := tokenFrame(t, "slow")
	patient := dial(t, path).(*net.UnixConn)
	if _, err := patient.Write(slow); err != nil {
		t.Fatal(err)
	}
	if err := patient.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	conns := watching(t, b, path, 20)
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
	eventually(t, "the requests", func() bool { return b.underWay() == len(conns)+2 })
	for _, c := range append(conns, half) {
		c.Close()
	}
	eventually(t, "the places of those who are gone", func() bool { return b.Connections() == 1 })
	b.release()
	reply, err := protocol.ReadFrame(patient, nil, protocol.MaxFrame)
	if err != nil || protocol.Op(reply[1]) != protocol.OpToken.Reply() {
		t.Errorf("who waits on is answered %q, %v", reply, err)
	}
}

// TestPipelinedRequestsWait: what a peer sends while its request is under way is its next request.
func TestPipelinedRequestsWait(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	slow := tokenFrame(t, "slow")
	c := dial(t, path)
	for range 3 {
		if _, err := c.Write(slow); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the request", func() bool { return b.underWay() == 1 })
	}
	b.release()
	for range 3 {
		if reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame); err != nil ||
			protocol.Op(reply[1]) != protocol.OpToken.Reply() {
			t.Fatalf("%q, %v", reply, err)
		}
	}
}

// TestUsersShareThePlaces: one user takes no more than some places, whatever he does with them.
func TestUsersShareThePlaces(t *testing.T) {
	limits := Limits{Connections: 256, User: 32, Reserved: 8}
	var p places
	at := time.Now()
	come := func(uid uint32, busy bool) (*conn, bool) {
		at = at.Add(time.Second)
		c := &conn{net: os.NewFile(^uintptr(0), "none"), peer: protocol.Peer{UID: uid}, busy: busy, last: at}
		return c, p.add(c, limits)
	}
	first, ok := come(1, false)
	if !ok {
		t.Fatal("the first gets no place")
	}
	for range 1000 {
		if c, ok := come(1, false); !ok || c.reserved {
			t.Fatal("none of his gives way")
		}
	}
	if _, there := p.open[first]; there || p.ofUser[1] != limits.User {
		t.Errorf("%d places for one user, the longest idle still there: %v", p.ofUser[1], there)
	}
	for range limits.User {
		if c, ok := come(2, true); !ok || c.reserved {
			t.Fatal("no place")
		}
	}
	var turnedAway []*conn
	for range limits.Reserved {
		c, ok := come(2, true)
		if !ok || !c.reserved || p.ofUser[2] != limits.User {
			t.Errorf("%d places for one user who waits in all of them, %v", p.ofUser[2], ok)
		}
		turnedAway = append(turnedAway, c)
	}
	if _, ok := come(2, true); ok {
		t.Error("more places than there are")
	}
	turnedAway[0].busy = false
	if c, ok := come(2, true); !ok || !c.reserved {
		t.Error("an idle connection keeps its reserved place")
	}
	if _, there := p.open[turnedAway[0]]; there {
		t.Error("it has given its place up, and still has it")
	}
	for uid := uint32(3); p.ofUser[1] == limits.User; uid++ { // until all are taken, and the longest idle gives way
		if c, ok := come(uid, true); !ok || c.reserved {
			t.Fatal("no place")
		}
	}
	if p.ordinary != limits.Connections || len(p.open) != limits.Connections+limits.Reserved {
		t.Errorf("%d places, %d connections", p.ordinary, len(p.open))
	}
	if c, ok := come(1, false); !ok || c.reserved {
		t.Error("who has few places gets none")
	}
	for c := range p.open {
		p.remove(c)
		p.remove(c) // as the goroutine of one does that had to give way
	}
	if p.ordinary != 0 || len(p.ofUser) != 0 {
		t.Errorf("all are gone, and %d places are taken, %v", p.ordinary, p.ofUser)
	}
}

package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
)

// socketDir is a short private folder: a socket's path is.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cca")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) *socket.Listener {
	t.Helper()
	l, err := socket.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

// serve runs a on a socket of its own until the test's end, and returns its path.
func serve(t *testing.T, a *Agent, admit func(protocol.Peer) error) string {
	t.Helper()
	l := listen(t, filepath.Join(socketDir(t), "s", "agent.sock"))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Serve(l, admit); err != nil {
			t.Errorf("Serve: %v", err)
		}
		l.Release()
	})
	t.Cleanup(func() { a.Stop(); wg.Wait() })
	return l.Path()
}

func me() func(protocol.Peer) error { return socket.OnlyUser(uint32(os.Geteuid())) }

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func tokenFrame(t testing.TB) []byte {
	t.Helper()
	b, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "claude"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A request that is under way when the agent stops is answered, and so is a connection that nobody has accepted yet.
func TestStopLosesNoRequest(t *testing.T) {
	p := &provider{latency: 100 * time.Millisecond}
	a := start(t, p)
	l := listen(t, filepath.Join(socketDir(t), "agent.sock"))
	var conns []net.Conn
	for range 20 {
		c := dial(t, l.Path())
		c.Write(tokenFrame(t))
		conns = append(conns, c)
	}
	a.Stop()
	served := make(chan error)
	go func() { served <- a.Serve(l, me()) }()
	for i, c := range conns {
		if reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame); err != nil ||
			!bytes.Contains(reply, []byte("fake-access-1")) {
			t.Errorf("connection %d: %q, %v", i, reply, err)
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Clients go on asking while agents come and go.
func TestClientsSurviveRestarts(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	done := make(chan struct{})
	var wg sync.WaitGroup
	l := listen(t, path)
	for range 4 {
		wg.Go(func() {
			c := protocol.NewClient(path)
			defer c.Close()
			for {
				select {
				case <-done:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_, err := c.Token(ctx, protocol.TokenRequest{})
				cancel()
				if err != nil && !errors.Is(err, protocol.ErrNoAgent) { // between two agents there is none
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	for range 10 {
		a := start(t, &provider{})
		served := make(chan error)
		go func() { served <- a.Serve(l, me()) }()
		for a.requests.Load() < 100 {
			time.Sleep(time.Millisecond)
		}
		a.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		l.Release()
		l = listen(t, path)
	}
	close(done)
	a := start(t, &provider{})
	served := make(chan error)
	go func() { served <- a.Serve(l, me()) }()
	wg.Wait()
	a.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// ending reports whether the agent was told to stop.
func (a *Agent) ending() bool {
	select {
	case <-a.stopping:
		return true
	default:
		return false
	}
}

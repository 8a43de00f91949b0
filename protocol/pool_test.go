//go:build unix

package protocol_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestPoolConformance(t *testing.T) {
	protocoltest.Run(t, func(t *testing.T, profiles []protocoltest.Profile) protocol.Agent {
		f := protocoltest.NewFake(profiles...)
		f.Home = protocoltest.Home
		p := protocol.NewPool(protocol.NewClient(protocoltest.Serve(t, f)), 2)
		t.Cleanup(func() { p.Close() })
		return p
	})
}

// TestPoolIsBounded: many callers wait for one renewal on the few connections of the pool, and each gets its answer.
func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	const size, herd = 3, 100
	var open, most atomic.Int32
	full, renewed := make(chan struct{}), make(chan struct{})
	filled := sync.OnceFunc(func() { close(full) })
	f := protocoltest.NewFake(fakeProfile)
	f.Answer = func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
		n := open.Add(1)
		defer open.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == size {
			filled()
		}
		<-renewed
		return protocol.Token{Profile: "claude", Value: protocol.NewSecret("fake-access-1")}, nil
	}
	p := protocol.NewPool(protocol.NewClient(protocoltest.Serve(t, f)), size)
	defer p.Close()
	var herded sync.WaitGroup
	for range herd {
		herded.Go(func() {
			if token, err := p.Token(t.Context(), protocol.TokenRequest{}); err != nil || token.Value.Reveal() != "fake-access-1" {
				t.Errorf("%q, %v", token.Value.Reveal(), err)
			}
		})
	}
	<-full

	// A caller that finds every connection in use waits until its own context ends, and no longer.
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(5*time.Millisecond))
	defer cancel()
	if _, err := p.Token(ctx, protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	if ctx.Err() == nil {
		t.Error("it gave up before its time")
	}
	close(renewed)
	herded.Wait()
	if most.Load() != size {
		t.Errorf("%d requests at a time, want %d", most.Load(), size)
	}
}

// TestPoolEndedContext: with a context that has ended, nothing is asked, even if a connection is free.
func TestPoolEndedContext(t *testing.T) {
	t.Parallel()
	f := protocoltest.NewFake(fakeProfile)
	path := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	stop := protocoltest.ServeAt(t, f, path)
	p := protocol.NewPool(protocol.NewClient(path), 0)
	defer p.Close()
	if _, err := p.Token(t.Context(), protocol.TokenRequest{}); err != nil { // leaves a connection open
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := p.Token(ctx, protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
			t.Fatalf("error %v, want ErrUnavailable", err)
		}
	}
	stop() // by now the server has read all that was sent
	if n := len(f.Requests()); n != 1 {
		t.Errorf("the agent was asked %d times, want once", n)
	}
}

// TestPoolRestart: while the agent is gone the error is ErrNoAgent, and once it is back the same pool finds it.
func TestPoolRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	p := protocol.NewPool(protocol.NewClient(path), 0)
	defer p.Close()
	for _, value := range []string{"fake-access-1", "fake-access-2", "fake-access-3"} {
		if _, err := p.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrNoAgent) {
			t.Errorf("without an agent: %v, want ErrNoAgent", err)
		}
		profile := fakeProfile
		profile.Token = value
		stop := protocoltest.ServeAt(t, protocoltest.NewFake(profile), path)
		for range 5 {
			token, err := p.Token(t.Context(), protocol.TokenRequest{})
			if err != nil || token.Value.Reveal() != value {
				t.Errorf("%q, %v, want %q", token.Value.Reveal(), err, value)
			}
		}
		stop()
	}
}

// TestErrorsCrossTheWire: the client gets the condition that the agent returned, and no other.
func TestErrorsCrossTheWire(t *testing.T) {
	t.Parallel()
	sentinels := []error{
		protocol.ErrConfig,
		protocol.ErrNotFound,
		protocol.ErrLoginRequired,
		protocol.ErrExpired,
		protocol.ErrDenied,
		protocol.ErrLocked,
		protocol.ErrUnavailable,
		protocol.ErrStorage,
		protocol.ErrInvalid,
		protocol.ErrLogin,
		protocol.ErrCallback,
	}
	failures := make(chan error, 1)
	f := protocoltest.NewFake(fakeProfile)
	f.Answer = func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
		return protocol.Token{}, <-failures
	}
	p := protocol.NewPool(protocol.NewClient(protocoltest.Serve(t, f)), 0)
	defer p.Close()
	for _, want := range sentinels {
		failures <- want
		_, err := p.Token(t.Context(), protocol.TokenRequest{})
		for _, s := range sentinels {
			if errors.Is(err, s) != (s == want) {
				t.Errorf("%v came back as %v: errors.Is(%v) is %v", want, err, s, errors.Is(err, s))
			}
		}
	}
}

// TestOldAgent: an agent that does not know of derived tokens gives the access token, which is not to be taken for another.
func TestOldAgent(t *testing.T) {
	fake := protocoltest.NewFake()
	fake.Answer = func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
		return protocol.Token{Profile: "main", Value: protocol.NewSecret("fake-access-1"), Kind: protocol.KindBearer}, nil
	}
	client := protocol.NewClient(protocoltest.Serve(t, fake))
	defer client.Close()
	token, err := client.Token(t.Context(), protocol.TokenRequest{Derived: protocol.Derived{IDToken: true}})
	if protocol.CodeOf(err) != protocol.CodeInternal || protocol.HintOf(err) == "" || !token.Value.Empty() {
		t.Errorf("%+v, %v", token, err)
	}
	if token, err := client.Token(t.Context(), protocol.TokenRequest{}); err != nil || token.Value.Reveal() != "fake-access-1" {
		t.Errorf("%+v, %v", token, err)
	}
}

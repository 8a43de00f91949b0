package httpauth

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// plain is an agent that can't be watched. It counts its requests.
type plain struct {
	protocol.Agent
	asked  atomic.Int32
	answer func(context.Context, protocol.TokenRequest) (protocol.Token, error)
}

func (p *plain) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	p.asked.Add(1)
	return p.answer(ctx, req)
}

func fake(value string, lifetime time.Duration) protocol.Token {
	t := protocol.Token{Profile: "main", Value: protocol.NewSecret(value)}
	if lifetime != 0 {
		t.Expiry = time.Now().Add(lifetime)
	}
	return t
}

func mustGet(t *testing.T, a *Agent, host string) string {
	t.Helper()
	l, err := a.get(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	return l.token.Value.Reveal()
}

// TestCacheTimes: a token is asked for again at its margin, and after half a minute at the latest if the agent can't be
// watched.
func TestCacheTimes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		watched  bool
		lifetime time.Duration
		kept     time.Duration
	}{
		{"long, watched", true, 8 * time.Hour, 8*time.Hour - protocol.Margin},
		{"short, watched", true, 4 * time.Minute, 3 * time.Minute},
		{"for ever, watched", true, 0, 1000 * time.Hour},
		{"long, not watched", false, 8 * time.Hour, maxUnwatched},
		{"very short, not watched", false, 20 * time.Second, 15 * time.Second},
		{"for ever, not watched", false, 0, maxUnwatched},
		{"expired already", true, -time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				answer := func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
					n++
					return fake(fmt.Sprint("fake-access-", n), tt.lifetime), nil
				}
				var agent protocol.Agent
				f := protocoltest.NewFake(protocoltest.Profile{Name: "main"})
				if f.Answer = answer; tt.watched {
					agent = f
				} else {
					agent = &plain{answer: answer}
				}
				a := NewAgent(agent, "")
				defer a.Close()
				mustGet(t, a, "")
				synctest.Wait() // the listener has its first version, and dropped what was asked for before
				first := mustGet(t, a, "")
				if tt.kept == 0 {
					if again := mustGet(t, a, ""); again == first {
						t.Error("an expired token was kept")
					}
					return
				}
				time.Sleep(tt.kept - time.Millisecond)
				if again := mustGet(t, a, ""); again != first {
					t.Errorf("asked again too soon: %s after %s", again, first)
				}
				time.Sleep(2 * time.Millisecond)
				if again := mustGet(t, a, ""); again == first && tt.kept != 1000*time.Hour {
					t.Error("kept too long")
				}
			})
		})
	}
}

// TestDerived asks for another token than the access token, each time.
func TestDerived(t *testing.T) {
	t.Parallel()
	f := protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1"})
	want := protocol.Derived{Scope: "jobs:read", Audience: "jobs"}
	a := NewDerived(f, "main", want)
	defer a.Close()
	if got := mustGet(t, a, ""); got != "fake-for-jobs:read" {
		t.Errorf("got %s", got)
	}
	if last := f.Requests()[0]; last.Derived != want || !last.Quiet {
		t.Errorf("asked %+v", last)
	}
}

// TestChange: when the agent says that a profile has changed, the cached token is dropped at once, and so is an older
// answer.
func TestChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		profile := protocoltest.Profile{Name: "main", Token: "fake-access-1", Expiry: time.Now().Add(8 * time.Hour)}
		f := protocoltest.NewFake(profile)
		a := NewAgent(f, "main")
		defer a.Close()
		for range 3 {
			mustGet(t, a, "")
			synctest.Wait()
		}
		before := len(f.Requests())
		if mustGet(t, a, ""); len(f.Requests()) != before {
			t.Error("what lives is asked for again")
		}
		profile.Token = "fake-access-2"
		f.Set(profile)
		synctest.Wait()
		if got := mustGet(t, a, ""); got != "fake-access-2" {
			t.Errorf("after the change: %s", got)
		}
		profile.Token, profile.Err = "", &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out"}
		f.Set(profile)
		synctest.Wait()
		if _, err := a.get(t.Context(), ""); !errors.Is(err, protocol.ErrLoginRequired) {
			t.Errorf("after the sign-out: %v", err)
		}

		// A token that the agent has withdrawn does not serve while the agent can't be reached.
		profile.Token, profile.Err = "fake-access-3", nil
		f.Set(profile)
		synctest.Wait()
		mustGet(t, a, "")
		profile.Err = &protocol.Error{Code: protocol.CodeNoAgent, Message: "no agent"}
		f.Set(profile)
		synctest.Wait()
		if _, err := a.get(t.Context(), ""); !errors.Is(err, protocol.ErrNoAgent) {
			t.Errorf("after a change by an agent that is gone: %v", err)
		}
	})
}

// TestOvertaken: an answer that was on its way when the profile changed is not used.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := protocoltest.NewFake(protocoltest.Profile{Name: "main"})
		asked, slow := make(chan int, 9), make(chan struct{})
		n := 0
		f.Answer = func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
			n++
			mine := n
			asked <- mine
			if mine == 2 {
				<-slow
			}
			return fake(fmt.Sprint("fake-access-", mine), 20*time.Minute), nil
		}
		a := NewAgent(f, "main")
		defer a.Close()
		mustGet(t, a, "")
		synctest.Wait() // the first version dropped the first answer
		<-asked
		got := make(chan string)
		go func() { got <- mustGet(t, a, "") }()
		<-asked
		f.Set(protocoltest.Profile{Name: "main"})
		synctest.Wait()
		close(slow)
		if token := <-got; token != "fake-access-3" {
			t.Errorf("got %s, which was overtaken", token)
		}
	})
}

// TestAgentAway: while the agent can't be reached, the cached token serves until it expires, and the agent is tried once a
// second.
func TestAgentAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gone error
		p := &plain{answer: func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
			return fake("fake-access-1", 2*time.Minute), gone
		}}
		a := NewAgent(p, "")
		defer a.Close()
		mustGet(t, a, "")
		gone = &protocol.Error{Code: protocol.CodeNoAgent, Message: "no agent"}
		time.Sleep(maxUnwatched)
		before := p.asked.Load()
		for range 100 {
			if got := mustGet(t, a, ""); got != "fake-access-1" {
				t.Errorf("while the agent is away: %s", got)
			}
		}
		if n := p.asked.Load() - before; n != 1 {
			t.Errorf("it was looked for %d times at once", n)
		}
		time.Sleep(90 * time.Second)
		if _, err := a.get(t.Context(), ""); !errors.Is(err, protocol.ErrNoAgent) {
			t.Errorf("an expired token: %v", err)
		}
		gone = nil
		mustGet(t, a, "")

		// A refusal is not an outage: it counts.
		gone = &protocol.Error{Code: protocol.CodeDenied, Message: "denied"}
		time.Sleep(maxUnwatched)
		if _, err := a.get(t.Context(), ""); !errors.Is(err, protocol.ErrDenied) {
			t.Errorf("a refusal: %v", err)
		}
	})
}

// deaf is a restricted socket, which does not report changes.
type deaf struct{ plain }

func (*deaf) Watch(context.Context, protocol.WatchRequest) (protocol.WatchReply, error) {
	return protocol.WatchReply{}, &protocol.Error{Code: protocol.CodeDenied, Message: "denied"}
}

// TestWatchDenied: a token stays valid if the agent refuses to report changes.
func TestWatchDenied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{plain{answer: func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
			return fake("fake-access-1", time.Hour), nil
		}}}
		a := NewAgent(d, "")
		defer a.Close()
		for range int(maxUnwatched/time.Second) - 1 {
			mustGet(t, a, "")
			time.Sleep(time.Second)
		}
		if n := d.asked.Load(); n != 1 {
			t.Errorf("asked %d times for a token that lives", n)
		}
	})
}

// TestShared: callers who wait share one request, each within its own context.
func TestShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &plain{answer: func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
			time.Sleep(5 * time.Second)
			return fake("fake-access-1", time.Hour), nil
		}}
		a := NewAgent(p, "")
		defer a.Close()
		var herd sync.WaitGroup
		for range 100 {
			herd.Go(func() { mustGet(t, a, "") })
		}
		herd.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 1234*time.Millisecond)
			defer cancel()
			began := time.Now()
			if _, err := a.get(ctx, ""); !errors.Is(err, protocol.ErrUnavailable) || time.Since(began) != 1234*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		})
		herd.Wait()
		if n := p.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestHosts: what is allowed for one host is not allowed for another.
func TestHosts(t *testing.T) {
	t.Parallel()
	f := protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1", Hosts: []string{"llm.example.com"}})
	a := NewAgent(f, "")
	defer a.Close()
	if token, err := a.For("LLM.example.com:443").Token(); err != nil || token.AccessToken != "fake-access-1" ||
		token.TokenType != "Bearer" {
		t.Errorf("%+v, %v", token, err)
	}
	if _, err := a.For("evil.example").Token(); !errors.Is(err, protocol.ErrDenied) {
		t.Errorf("another host: %v, want ErrDenied", err)
	}
	anywhere := NewAgent(&plain{answer: func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
		return fake("fake-access-1", time.Hour), nil
	}}, "")
	defer anywhere.Close()
	for i := range 3*maxHosts - 1 {
		mustGet(t, anywhere, fmt.Sprint("host-", i))
	}
	if n := len(anywhere.cache); n == 0 || n > maxHosts {
		t.Errorf("%d hosts are kept, want 1 to %d", n, maxHosts)
	}
}

// TestClose: afterwards every request fails, and those who wait are released.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &plain{answer: func(ctx context.Context, _ protocol.TokenRequest) (protocol.Token, error) {
			<-ctx.Done()
			return protocol.Token{}, protocol.ErrUnavailable
		}}
		a := NewAgent(p, "")
		waiting := make(chan error)
		go func() { _, err := a.get(t.Context(), ""); waiting <- err }()
		synctest.Wait()
		a.Close()
		if err := <-waiting; !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("who waited: %v", err)
		}
		if _, err := a.Token(); !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("who came later: %v", err)
		}
		a.Close()
	})
}

// TestRestart: an agent that comes back behind the same socket is watched again.
func TestRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	p := protocol.NewPool(protocol.NewClient(path), 0)
	defer p.Close()
	a := NewAgent(p, "")
	defer a.Close()
	profile := protocoltest.Profile{Name: "main", Token: "fake-access-1"} // never expires
	stop := protocoltest.ServeAt(t, protocoltest.NewFake(profile), path)
	mustGet(t, a, "")
	stop()
	if got := mustGet(t, a, ""); got != "fake-access-1" {
		t.Errorf("without an agent: %s", got)
	}
	profile.Token = "fake-access-2"
	protocoltest.ServeAt(t, protocoltest.NewFake(profile), path)
	for deadline := time.Now().Add(time.Minute); mustGet(t, a, "") != "fake-access-2"; {
		if time.Now().After(deadline) {
			t.Fatal("the new agent's token is not noticed")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAgentAsAuthenticator(t *testing.T) {
	t.Parallel()
	expiry := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	f := protocoltest.NewFake(
		protocoltest.Profile{
			Name:     "main",
			Token:    "fake-access-1",
			Expiry:   expiry,
			Kind:     protocol.KindOAuth,
			Identity: protocol.Identity{Account: "alice", Fetched: expiry},
		},
		protocoltest.Profile{Name: "nobody", Token: "fake-access-2"},
		protocoltest.Profile{Name: "out", Err: &protocol.Error{Code: protocol.CodeExpired, Message: "expired"}},
		protocoltest.Profile{Name: "down", Err: &protocol.Error{Code: protocol.CodeUnavailable, Message: "503"}},
	)
	of := func(profile string) *Agent {
		a := NewAgent(f, profile)
		t.Cleanup(func() { a.Close() })
		return a
	}
	main := of("")
	c, err := main.Credentials(t.Context())
	if err != nil || c.Profile != "main" || c.AccessToken.Reveal() != "fake-access-1" || !c.Expiry.Equal(expiry) ||
		c.Kind != protocol.KindOAuth ||
		c.Store != "memory" {
		t.Errorf("%+v, %v", c, err)
	}
	if who, err := main.UserProfile(t.Context()); err != nil || who.Account != "alice" {
		t.Errorf("%+v, %v", who, err)
	}
	if who, err := of("nobody").UserProfile(t.Context()); err != nil || who != nil {
		t.Errorf("%+v, %v; want none", who, err)
	}
	for profile, want := range map[string]struct {
		ok  bool
		err error
	}{"main": {true, nil}, "out": {false, nil}, "none": {false, nil}, "down": {false, protocol.ErrUnavailable}} {
		if ok, err := of(profile).Authenticated(t.Context()); ok != want.ok || !errors.Is(err, want.err) {
			t.Errorf("%s: %v, %v; want %+v", profile, ok, err, want)
		}
	}
	if _, err := of("out").Credentials(t.Context()); !errors.Is(err, protocol.ErrExpired) {
		t.Error(err)
	}
	token, err := TokenSource(t.Context(), main).Token()
	if err != nil || token.AccessToken != "fake-access-1" {
		t.Errorf("%+v, %v", token, err)
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"fake-1": "fake-1", "  fake-1\r\n": "fake-1", "": "", " \t\n": "", "fake 1": "",
		"fake\x001": "", "fäke": ""} {
		s, err := NewStatic(text)
		if want == "" {
			if !errors.Is(err, protocol.ErrInvalid) {
				t.Errorf("%q: %v, want ErrInvalid", text, err)
			}
			continue
		}
		token, tokenErr := s.AccessToken(t.Context())
		ok, okErr := s.Authenticated(t.Context())
		who, whoErr := s.UserProfile(t.Context())
		if err := errors.Join(err, tokenErr, okErr, whoErr); err != nil || token.Reveal() != want || !ok || who != nil {
			t.Errorf("%q: %q, %v, %v, %v", text, token.Reveal(), ok, who, err)
		}
		if _, err := s.Credentials(t.Context()); !errors.Is(err, protocol.ErrNotFound) {
			t.Errorf("credentials: %v, want ErrNotFound", err)
		}
		if shown := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(shown, want) {
			t.Errorf("it shows itself as %s", shown)
		}
	}
	if ok, err := (Static{}).Authenticated(t.Context()); ok || err != nil {
		t.Errorf("the zero Static: %v, %v", ok, err)
	}
	if _, err := (Static{}).AccessToken(t.Context()); !errors.Is(err, protocol.ErrInvalid) {
		t.Error(err)
	}
}

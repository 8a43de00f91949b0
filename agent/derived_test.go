package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// deriver is a Runner whose provider gives derived tokens as well.
type deriver struct {
	provider
	mu        sync.Mutex
	asked     int           // jobs for derived tokens
	with      []string      // the access tokens of these jobs
	lives     time.Duration // how long a derived token lives
	slow      time.Duration
	renewable bool // it comes with the access token, as an ID token does
	refuse    *protocol.Error
	after     time.Duration
	running   int
	most      int
}

func (d *deriver) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if j.Op != job.Derive {
		return d.provider.Run(ctx, j, handOver)
	}
	d.mu.Lock()
	d.asked++
	n := d.asked
	d.with = append(d.with, j.Token.Reveal())
	d.running++
	d.most = max(d.most, d.running)
	refuse, after, renewable, lives, slow := d.refuse, d.after, d.renewable, d.lives, d.slow
	d.mu.Unlock()
	time.Sleep(slow)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
	if refuse != nil {
		return job.Report{Kind: job.Done, Err: refuse, RetryAfter: after, Result: job.Result{Renewable: renewable}}, nil
	}
	r := job.Result{Token: protocol.NewSecret(fmt.Sprintf("fake-derived-%d", n)), Kind: protocol.KindBearer, Issued: time.Now(),
		Renewable: renewable}
	if renewable {
		d.set(func() { r.Issued = d.expiry.Add(-d.lifetime) })
	}
	r.Expiry = r.Issued.Add(lives)
	return job.Report{Kind: job.Done, Result: r}, nil
}

func (d *deriver) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *deriver) times() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func startDeriver(t *testing.T, d *deriver) *Agent {
	return startRunner(t, func(j job.Job, handOver func(job.Result)) (job.Report, error) {
		return d.Run(context.Background(), j, handOver)
	})
}

var idToken = protocol.TokenRequest{Derived: protocol.Derived{IDToken: true}}

// gets asks for a derived token, and fails the test unless it is the nth.
func gets(t *testing.T, a *Agent, req protocol.TokenRequest, n int) {
	t.Helper()
	if got := ask(t, a, req); got != fmt.Sprintf("fake-derived-%d", n) {
		t.Errorf("got %s, want the derived token %d", got, n)
	}
}

// TestDerivedTokens are kept while they live and their sign-in is the same, and no longer.
func TestDerivedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: time.Hour}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		for range 3 {
			gets(t, a, idToken, 1)
			time.Sleep(time.Minute)
		}
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
			t.Errorf("the access token: %s", got)
		}
		time.Sleep(55 * time.Minute) // within the margin
		gets(t, a, idToken, 2)
		if tok, err := a.Token(t.Context(), protocol.TokenRequest{Derived: idToken.Derived, MinTTL: 2 * time.Hour}); err != nil ||
			tok.Notice == "" {
			t.Errorf("a time that can't be met: notice %q, %v", tok.Notice, err)
		}
		forced := protocol.TokenRequest{Derived: idToken.Derived, Force: true, Since: time.Now().Add(time.Second)}
		time.Sleep(2 * time.Second)
		gets(t, a, forced, 3)
		gets(t, a, forced, 3) // repeated

		ask(t, a, protocol.TokenRequest{Force: true})
		gets(t, a, idToken, 4) // of the new access token
		for _, command := range []protocol.Command{protocol.CommandLock, protocol.CommandUnlock} {
			if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: command}); err != nil {
				t.Fatal(err)
			}
			if command == protocol.CommandLock {
				refused(t, a, idToken, protocol.ErrLocked)
			}
		}
		gets(t, a, idToken, 5)
		if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove, Profile: "claude"}); err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.fail = &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored"}; d.n = 0 })
		refused(t, a, idToken, protocol.ErrNotFound)
		if n := d.times(); n != 5 {
			t.Errorf("%d jobs", n)
		}
	})
}

// TestDerivedTokensAreShared: whoever asks for the same waits for one job.
func TestDerivedTokensAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: time.Hour, slow: 5 * time.Second}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		for range 5 {
			go gets(t, a, idToken, 1)
		}
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Token(ctx, idToken); !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("who gives up: %v", err)
		}
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
			t.Errorf("the access token meanwhile: %s", got)
		}
		time.Sleep(time.Minute)
		if n := d.times(); n != 1 {
			t.Errorf("%d jobs", n)
		}
	})
}

// TestDerivedTokenOfAnotherSignIn: what was asked with the sign-in before is not given to who waits.
func TestDerivedTokenOfAnotherSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: time.Hour, slow: 10 * time.Second}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		ask(t, a, protocol.TokenRequest{})
		go gets(t, a, idToken, 2)
		time.Sleep(2 * freshRenewal)
		ask(t, a, protocol.TokenRequest{Force: true})
		time.Sleep(time.Minute)
		d.change(func() {
			if d.with[0] != "fake-access-1" || d.with[1] != "fake-access-2" {
				t.Errorf("asked with %q", d.with)
			}
		})
	})
}

// TestDerivedTokenNeedsARenewal: an ID token that is due comes anew with the access token, once.
func TestDerivedTokenNeedsARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: 5 * time.Minute, renewable: true}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		gets(t, a, idToken, 1)
		time.Sleep(4 * time.Minute)
		gets(t, a, idToken, 2)
		if n := d.renewed(); n != 2 {
			t.Errorf("%d renewals", n)
		}
		d.set(func() { d.fail = &protocol.Error{Code: protocol.CodeUnavailable, Message: "no network"} })
		time.Sleep(4 * time.Minute)
		gets(t, a, idToken, 2) // while it lives
		time.Sleep(2 * time.Minute)
		refused(t, a, idToken, protocol.ErrUnavailable)
		d.set(func() { d.fail = nil })
		time.Sleep(maxBackoff)
		gets(t, a, idToken, 3)
	})
}

// TestDerivedTokenRefused: a refusal is not asked for again at once, and leaves the profile as it is.
func TestDerivedTokenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: time.Hour, refuse: &protocol.Error{Code: protocol.CodeConfig, Message: "no such token"}}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		for range 20 {
			refused(t, a, idToken, protocol.ErrConfig)
		}
		if n := d.times(); n != 1 {
			t.Errorf("%d jobs at once", n)
		}
		if s := profileOf(t, a); s.State != protocol.StateLive || s.LastError != "" {
			t.Errorf("the profile is %s: %s", s.State, s.LastError)
		}
		for range 600 {
			time.Sleep(time.Second)
			refused(t, a, idToken, protocol.ErrConfig)
		}
		if n := d.times(); n < 15 || n > 40 {
			t.Errorf("%d jobs in ten minutes", n)
		}
		d.change(func() { d.refuse = nil })
		time.Sleep(maxDerivePause)
		if tok, err := a.Token(t.Context(), idToken); err != nil || !tok.Derived {
			t.Errorf("once it is allowed: %v", err)
		}
	})
}

// TestDerivedTokensAreFew: a profile has so many derived tokens in memory, and so many workers that bring them. What is wanted is
// told apart by what it is for, and not by the order of words.
func TestDerivedTokensAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: time.Hour, slow: time.Second}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		of := func(scope string) protocol.TokenRequest {
			return protocol.TokenRequest{Derived: protocol.Derived{Scope: scope, Audience: "jobs"}}
		}
		var waiting sync.WaitGroup
		for i := range maxDerived + 4 {
			waiting.Go(func() { ask(t, a, of(fmt.Sprintf("scope-%d", i))) })
		}
		waiting.Wait()
		if d.times() != maxDerived+4 || d.most != maxDeriving {
			t.Errorf("%d jobs, %d at a time", d.times(), d.most)
		}
		time.Sleep(time.Second)
		ask(t, a, of("b a"))
		e := a.table.Load().byName[0]
		e.mu.Lock()
		kept := len(e.deriving.last)
		e.mu.Unlock()
		if kept != maxDerived {
			t.Errorf("%d are kept", kept)
		}
		n := d.times()
		for _, same := range []string{"a b", "b a", " a  b a"} {
			gets(t, a, of(same), n)
		}
		for i := range maxDerived + 4 { // it is wanted between, so the others go
			time.Sleep(time.Second)
			ask(t, a, of(fmt.Sprintf("other-%d", i)))
			gets(t, a, of("a b"), n)
		}
		if ask(t, a, of("a")) == ask(t, a, protocol.TokenRequest{Derived: protocol.Derived{Scope: "a"}}) {
			t.Error("the audience does not matter")
		}
		for _, bad := range []protocol.Derived{{IDToken: true, Scope: "a"}, {Scope: `a"b`}, {Resource: "jobs"}, {Resource: "https://a/#b"},
			{Audience: "a\nb"}} {
			refused(t, a, protocol.TokenRequest{Derived: bad}, protocol.ErrConfig)
		}
	})
}

// TestDerivedTokenOfARefusedToken: if the provider refuses the access token that is exchanged, that is renewed, once.
func TestDerivedTokenOfARefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deriver{lives: time.Hour, renewable: true, refuse: &protocol.Error{Code: protocol.CodeExpired, Message: "revoked"}}
		d.lifetime = 8 * time.Hour
		a := startDeriver(t, d)
		ask(t, a, protocol.TokenRequest{})
		time.Sleep(time.Minute)
		req := protocol.TokenRequest{Derived: protocol.Derived{Audience: "jobs"}}
		refused(t, a, req, protocol.ErrExpired)
		if d.renewed() != 2 || d.times() != 2 || d.with[1] != "fake-access-2" {
			t.Errorf("%d renewals, %d jobs with %q", d.renewed(), d.times(), d.with)
		}
		d.change(func() { d.refuse, d.renewable = nil, false })
		time.Sleep(maxDerivePause)
		gets(t, a, req, 3)
	})
}

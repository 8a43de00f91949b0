package agent

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestRequestsDoNotHammerTheProvider has somebody ask ten times a second for a quarter of an hour, in every way in which a
// request can cause a renewal. most is how many the provider may see: what the token's life costs anyway, and what the budget
// has.
func TestRequestsDoNotHammerTheProvider(t *testing.T) {
	const minutes = 15
	for _, test := range []struct {
		name     string
		lifetime time.Duration
		req      protocol.TokenRequest
		fail     *protocol.Error
		most     int
	}{
		{"nothing special", 5 * time.Minute, protocol.TokenRequest{}, nil, 5},
		{"more than the token lives", 5 * time.Minute, protocol.TokenRequest{MinTTL: 6 * time.Minute}, nil, 7},
		{"more than any token lives", 5 * time.Minute, protocol.TokenRequest{MinTTL: 24 * time.Hour}, nil, 7},
		{"more than a long token lives", 8 * time.Hour, protocol.TokenRequest{MinTTL: 24 * time.Hour}, nil, 1},
		{"half of its life", 5 * time.Minute, protocol.TokenRequest{HalfLife: true}, nil, 7},
		{"both", 5 * time.Minute, protocol.TokenRequest{HalfLife: true, MinTTL: time.Hour}, nil, 7},
		{"forced", 8 * time.Hour, protocol.TokenRequest{Force: true}, nil, 1 + budgetBurst + 2*minutes},
		{"forced, while the provider fails", 8 * time.Hour, protocol.TokenRequest{Force: true},
			&protocol.Error{Code: protocol.CodeUnavailable, Message: "down"}, budgetBurst + 2*minutes},
		{"tokens that come dead", -time.Second, protocol.TokenRequest{}, nil, 15},
		{"forced, tokens that come dead", -time.Second, protocol.TokenRequest{Force: true}, nil, 15 + budgetBurst + 2*minutes},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &provider{lifetime: test.lifetime}
				a := start(t, p)
				if test.lifetime > 0 {
					ask(t, a, protocol.TokenRequest{})
					time.Sleep(freshRenewal)
				}
				p.set(func() { p.fail = test.fail })
				began := len(p.all())
				for until := time.Now().Add(minutes * time.Minute); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
					got, err := a.Token(t.Context(), test.req)
					switch {
					case err != nil && !errors.Is(err, protocol.ErrUnavailable):
						t.Fatal(err)
					case err == nil && !time.Now().Before(got.Expiry):
						t.Fatal("a dead token")
					case err != nil && !test.req.Force && test.lifetime > 0:
						t.Fatalf("what lives is not given: %v", err)
					}
				}
				if n := len(p.all()) - began; n > test.most || n == 0 && test.req.Force {
					t.Errorf("%d renewals in %d minutes, want %d at most", n, minutes, test.most)
				}
			})
		})
	}
}

// TestBudgetKeepsNothingDueFromBeingRenewed: a person refreshes as often as a person does, and what is due is renewed though
// somebody has spent the budget.
func TestBudgetKeepsNothingDueFromBeingRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		for range budgetBurst {
			time.Sleep(freshRenewal)
			n := p.renewed()
			if ask(t, a, protocol.TokenRequest{Force: true}); p.renewed() != n+1 {
				t.Fatalf("no renewal after %d", n)
			}
		}
		time.Sleep(freshRenewal)
		_, err := a.Token(t.Context(), protocol.TokenRequest{Profile: "CLAUDE", Force: true, Since: time.Now()})
		if !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), "too often") {
			t.Fatalf("an empty budget: %v", err)
		}
		n := p.renewed()
		time.Sleep(58 * time.Minute) // the background sees to that
		if got := ask(t, a, protocol.TokenRequest{}); got == "" || p.renewed() <= n {
			t.Errorf("a token that was due is not renewed: %d renewals", p.renewed()-n)
		}
		n = p.renewed()
		if ask(t, a, protocol.TokenRequest{Force: true, Since: time.Now()}); p.renewed() != n+1 {
			t.Error("the budget has not grown again")
		}
	})
}

// TestSpentBudgetHidesNoFailure: who forces a renewal is told what keeps it from coming, not how often that was tried.
func TestSpentBudgetHidesNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: 8 * time.Hour}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeStorage, Message: "the disk is full"} })
		for i := range 2 * budgetBurst {
			time.Sleep(freshRenewal)
			if _, err := a.Token(t.Context(), protocol.TokenRequest{Force: true}); !errors.Is(err, protocol.ErrStorage) {
				t.Fatalf("request %d: %v", i, err)
			}
		}
	})
}

// TestMinTTLThatCantBeMet says so, in a word for the person, and gives what there is.
func TestMinTTLThatCantBeMet(t *testing.T) {
	for _, test := range []struct {
		lifetime, minTTL time.Duration
		notice           string
	}{
		{5 * time.Minute, 6 * time.Minute, "--min-ttl can't be met: tokens of profile claude live 5m"},
		{90 * time.Second, 24 * time.Hour, "--min-ttl can't be met: tokens of profile claude live 1m30s"},
		{8 * time.Hour, 24 * time.Hour, "--min-ttl can't be met: tokens of profile claude live 8h"},
		{8 * time.Hour, 7*time.Hour + 59*time.Minute,
			"--min-ttl can't be met: half of a token's life can be asked for, which is 4h for profile claude"},
		{8 * time.Hour, 3 * time.Hour, ""},
		{8 * time.Hour, 0, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := start(t, &provider{lifetime: test.lifetime})
			ask(t, a, protocol.TokenRequest{})
			time.Sleep(2 * time.Minute % test.lifetime)
			got, err := a.Token(t.Context(), protocol.TokenRequest{MinTTL: test.minTTL})
			if err != nil || got.Notice != test.notice {
				t.Errorf("%v of %v: %q, %v; want %q", test.minTTL, test.lifetime, got.Notice, err, test.notice)
			}
		})
	}
}

package embed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// losing is a store whose lock is lost a moment before the provider is asked.
type losing struct {
	store.Store
	looks *int // how often the lock was asked whether it is held still
	after int  // it was, so often
}

type losingLock struct {
	store.Lock
	s losing
}

func (s losing) Lock(ctx context.Context) (store.Lock, error) {
	l, err := s.Store.Lock(ctx)
	return losingLock{l, s}, err
}

func (l losingLock) Check() error {
	if *l.s.looks++; *l.s.looks > l.s.after {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the lock was lost"}
	}
	return l.Lock.Check()
}

func expired(t *testing.T, st store.Store, refresh string) {
	t.Helper()
	r := store.Record{AccessToken: protocol.NewSecret("fake-access-0"), RefreshToken: protocol.NewSecret(refresh),
		Expiry: time.Now().Add(-time.Minute).Truncate(time.Millisecond)}
	_, version, _ := st.Load(t.Context())
	if _, err := st.Save(t.Context(), r, version); err != nil {
		t.Fatal(err)
	}
}

// TestLockRightBefore: the lock is looked at when nothing is left to be done but to send the refresh token.
func TestLockRightBefore(t *testing.T) {
	t.Parallel()
	for _, refresh := range []string{"fake-refresh", ""} {
		p, looks := &spender{sent: map[string]int{}}, 0
		st := losing{store.NewFile(t.TempDir(), "main"), &looks, 0}
		expired(t, st, refresh)
		runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: t.TempDir()}
		report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: "main"}, func(job.Result) {})
		if err != nil || report.Err == nil || !errors.Is(report.Err, protocol.ErrUnavailable) || len(p.sent) > 0 {
			t.Errorf("refresh token %q: %+v, %v, sent %v", refresh, report.Err, err, p.sent)
		}
	}
}

// TestRotatedAnyway: what the provider rotated is kept though the access token beside it can't be used.
func TestRotatedAnyway(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(store.Record) (store.Record, error){
		"unusable": func(r store.Record) (store.Record, error) {
			r.AccessToken = protocol.NewSecret("fake access with blanks")
			return r, nil
		},
		"with an error": func(r store.Record) (store.Record, error) {
			return r, &protocol.Error{Code: protocol.CodeUnavailable, Message: "half of an answer"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := store.NewFile(t.TempDir(), "main")
			expired(t, st, "fake-refresh-1")
			p := embed.ProviderFunc(func(_ context.Context, r store.Record) (store.Record, error) {
				r.RefreshToken = protocol.NewSecret("fake-refresh-2")
				return give(r)
			})
			runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: t.TempDir()}
			report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: "main"}, func(job.Result) {})
			if err != nil || report.Err == nil || !report.Result.Token.Empty() {
				t.Errorf("%+v, %v", report, err)
			}
			if r, _, err := st.Load(t.Context()); err != nil || r.RefreshToken.Reveal() != "fake-refresh-2" {
				t.Errorf("stored: %q, %v", r.RefreshToken.Reveal(), err)
			}
		})
	}
}

// TestOvertaken: a program that takes no lock has renewed meanwhile, so what the provider refused is no longer in force.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	st := store.NewFile(t.TempDir(), "main")
	expired(t, st, "fake-refresh-1")
	var once sync.Once
	p := embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
		once.Do(func() {
			_, version, _ := st.Load(ctx)
			theirs := store.Record{AccessToken: protocol.NewSecret("fake-theirs"), RefreshToken: protocol.NewSecret("fake-refresh-2"),
				Expiry: time.Now().Add(time.Hour).Truncate(time.Millisecond)}
			if _, err := st.Save(ctx, theirs, version); err != nil {
				t.Error(err)
			}
		})
		return store.Record{}, &protocol.Error{Code: protocol.CodeLoginRequired, Message: "the refresh token was used before"}
	})
	runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: t.TempDir()}
	report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: "main"}, func(job.Result) {})
	if err != nil || report.Err != nil || report.Result.Token.Reveal() != "fake-theirs" {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestRetryAfter: how long a provider wants not to be asked is told to the agent.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{})
	client := &oauth.Client{TokenURL: server.TokenURL()}
	st := store.NewFile(t.TempDir(), "main")
	expired(t, st, server.Issue().RefreshToken)
	server.SetFault(oauthtest.Fault{Status: 429, Body: "{}", Header: map[string]string{"Retry-After": "77"}})
	p := embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
		_, err := client.Refresh(ctx, r.RefreshToken)
		return r, err
	})
	runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: t.TempDir()}
	report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: "main"}, func(job.Result) {})
	if err != nil || report.Err == nil || !errors.Is(report.Err, protocol.ErrUnavailable) ||
		report.RetryAfter != 77*time.Second || report.Local {
		t.Errorf("%+v, %v", report, err)
	}
}

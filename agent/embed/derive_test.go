package embed_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// narrowing is a provider that brings tokens for other scopes too.
type narrowing struct{ embed.ProviderFunc }

func (narrowing) Derive(_ context.Context, r store.Record, want protocol.Derived) (protocol.Token, error) {
	if want.Scope == "too much" {
		return protocol.Token{}, protocol.ErrDenied
	}
	return protocol.Token{Value: protocol.NewSecret(r.AccessToken.Reveal() + "-for-" + want.Scope),
		Expiry: time.Now().Add(time.Hour)}, nil
}

// TestDerive: a program's provider may bring derived tokens, and its records may have an ID token.
func TestDerive(t *testing.T) {
	t.Parallel()
	issued := time.Now().Truncate(time.Millisecond)
	renew := embed.ProviderFunc(func(_ context.Context, r store.Record) (store.Record, error) {
		r.AccessToken, r.Issued, r.Expiry = protocol.NewSecret("fake-access-1"), issued, issued.Add(time.Hour)
		return r, nil
	})
	withID := embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
		r, err := renew(ctx, r)
		r.IDToken, r.IDTokenExpiry, r.IDTokenIssued = protocol.NewSecret("fake-id-1"), issued.Add(time.Minute), issued
		return r, err
	})
	for _, tt := range []struct {
		name     string
		provider embed.Provider
		want     protocol.Derived
		gets     string
		err      error
	}{
		{"scope", narrowing{renew}, protocol.Derived{Scope: "a"}, "fake-access-1-for-a", nil},
		{"refused", narrowing{renew}, protocol.Derived{Scope: "too much"}, "", protocol.ErrDenied},
		{"can't", renew, protocol.Derived{Scope: "a"}, "", protocol.ErrConfig},
		{"no ID token", renew, protocol.Derived{IDToken: true}, "", protocol.ErrConfig},
		{"ID token", withID, protocol.Derived{IDToken: true}, "fake-id-1", nil},
	} {
		main := embed.Profile{Provider: tt.provider, Store: store.NewFile(t.TempDir(), "main")}
		runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": main}}
		for _, j := range []job.Job{{Op: job.Renew}, {Op: job.Derive, Derived: tt.want}} {
			j.Profile = "main"
			report, err := runner.Run(t.Context(), j, func(job.Result) {})
			switch {
			case err != nil:
				t.Fatal(err)
			case j.Op == job.Renew:
			case tt.err != nil && !errors.Is(report.Err, tt.err), tt.err == nil && report.Err != nil,
				report.Result.Token.Reveal() != tt.gets:
				t.Errorf("%s: %q, %v", tt.name, report.Result.Token.Reveal(), report.Err)
			}
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/restricted"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// renewer is an agent that says of each profile when it was last renewed.
type renewer struct {
	*protocoltest.Fake
	last atomic.Pointer[time.Time]
}

func (r *renewer) Status(ctx context.Context, req protocol.StatusRequest) (protocol.Status, error) {
	s, err := r.Fake.Status(ctx, req)
	for i := range s.Profiles {
		s.Profiles[i].LastRenewal = *r.last.Load()
	}
	return s, err
}

// TestRefreshSaysWhenItWasRenewed holds `ccagent refresh` to what happened: the agent renewed the token now, or had done so just
// before, or took over what another program has stored.
func TestRefreshSaysWhenItWasRenewed(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond)
	earlier, old, fresh := now.Add(-90*time.Minute), now.Add(2*time.Hour), now.Add(8*time.Hour)
	const taken = "gw: not renewed, because another program has stored a new token meanwhile; expires "
	for _, tt := range []struct {
		name             string
		lastBefore, last time.Time
		expiry           time.Time // of the token that is answered with
		want             string
		wantRenewed      bool
	}{
		{name: "first renewal", last: now, expiry: fresh, want: "gw: renewed, expires ", wantRenewed: true},
		{name: "another renewal", lastBefore: earlier, last: now, expiry: fresh, want: "gw: renewed, expires ", wantRenewed: true},
		{name: "of a moment ago", lastBefore: earlier, last: earlier, expiry: old,
			want: "gw: not renewed again, because it was renewed 1h30m ago; expires ", wantRenewed: true},
		{name: "by another program", expiry: fresh, want: taken},
		{name: "by another program, later", lastBefore: earlier, last: earlier, expiry: fresh, want: taken},
	} {
		for _, args := range [][]string{{"-p", "gw"}, {}} {
			t.Run(tt.name+strings.Join(args, " "), func(t *testing.T) {
				a := &renewer{Fake: protocoltest.NewFake(
					protocoltest.Profile{Name: "gw", Token: "fake-access-1", Kind: protocol.KindOAuth, Expiry: old},
					protocoltest.Profile{Name: "another"},
				)}
				a.Answer = func(_ context.Context, req protocol.TokenRequest) (protocol.Token, error) {
					if !req.Force {
						t.Error("no renewal is asked for")
					}
					a.last.Store(&tt.last)
					return protocol.Token{Profile: "gw", Value: protocol.NewSecret("fake-access-2"), Kind: protocol.KindOAuth,
						Expiry: tt.expiry}, nil
				}
				t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, a))
				t.Setenv("CCAGENT_PROFILE", "")
				refresh := func(more ...string) string {
					t.Helper()
					a.last.Store(&tt.lastBefore)
					var stdout, stderr strings.Builder
					all := append(append([]string{"ccagent", "refresh"}, args...), more...)
					if code := run(t.Context(), all, strings.NewReader(""), &stdout, &stderr); code != 0 {
						t.Fatalf("exit code %d: %s", code, stderr.String())
					}
					return stdout.String()
				}
				if got := refresh(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				var got refreshJSON
				if err := json.Unmarshal([]byte(refresh("--json")), &got); err != nil {
					t.Fatal(err)
				}
				if !got.Expires.Equal(tt.expiry) || (got.LastRenewal != nil) != tt.wantRenewed ||
					tt.wantRenewed && !got.LastRenewal.Equal(tt.last) {
					t.Errorf("got %+v", got)
				}
			})
		}
	}
}

// TestRefreshIsDenied holds `ccagent refresh` to telling what was refused, which is the renewal, where an agent gives no status
// either.
func TestRefreshIsDenied(t *testing.T) {
	a := restricted.Agent{Of: protocoltest.NewFake(protocoltest.Profile{Name: "gw"}), Profiles: []string{"gw"}}
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, a))
	var stdout, stderr strings.Builder
	code := run(t.Context(), []string{"ccagent", "refresh"}, strings.NewReader(""), &stdout, &stderr)
	if code != protocol.ExitCode(protocol.ErrDenied) || !strings.Contains(stderr.String(), "does not give a renewal") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

package worker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/store"
)

// What a provider says of the end of the sign-in reaches the record and the agent. Where it says nothing the old end stays, and 0
// means that there is none.
func TestEndOfSignIn(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name   string
		says   map[string]any
		before time.Duration // 0: none was known
		want   time.Duration // 0: none
	}{
		{"Keycloak names one", map[string]any{"refresh_expires_in": 7200}, 0, 2 * time.Hour},
		{"Keycloak moves it", map[string]any{"refresh_expires_in": "7200"}, day, 2 * time.Hour},
		{"GitHub", map[string]any{"refresh_token_expires_in": 15897600}, 0, 184 * day},
		{"it says nothing", nil, day, day},
		{"Keycloak, offline", map[string]any{"refresh_expires_in": 0}, day, 0},
		{"it has passed", nil, -time.Minute, 0},
	} {
		w := newGateway(t, oauthtest.Options{})
		w.put(w.server.Issue(), func(r *store.Record) {
			if tt.before != 0 {
				r.GrantExpiry, r.GrantSince = time.Now().Add(tt.before).Truncate(time.Millisecond), time.UnixMilli(1767225600123)
			}
		})
		w.server.SetFault(oauthtest.Fault{Edit: func(reply map[string]any) {
			for name, value := range tt.says {
				reply[name] = value
			}
		}})
		_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
		r := w.kept()
		if done.Err != nil || !done.Result.SignInEnds.Equal(r.GrantExpiry) || r.GrantExpiry.IsZero() != (tt.want == 0) {
			t.Fatalf("%s: %+v, %v; kept: %v", tt.name, done.Result, done.Err, r.GrantExpiry)
		}
		if got := time.Until(r.GrantExpiry).Round(time.Minute); tt.want != 0 && got != tt.want {
			t.Errorf("%s: it ends in %v, want %v", tt.name, got, tt.want)
		}
		if moved := r.GrantSince.Equal(r.Issued); tt.want != 0 && moved == (tt.says == nil) {
			t.Errorf("%s: known since %v", tt.name, r.GrantSince)
		}
	}
}

// Scopes that a renewal leaves out are said, until they come back or somebody signs in anew.
func TestLostScopes(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), nil)
	renew := func(scope string) string {
		t.Helper()
		w.server.SetFault(oauthtest.Fault{Edit: func(reply map[string]any) { reply["scope"] = scope }})
		_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
		if done.Err != nil {
			t.Fatal(done.Err)
		}
		return done.Result.Note
	}
	if note := renew("user:inference user:profile"); note != "" {
		t.Errorf("all is well: %q", note)
	}
	for range 2 {
		if note := renew("user:profile"); !strings.Contains(note, "left out scopes at a renewal: user:inference") ||
			!strings.Contains(note, "sign in again with: ccagent login gateway") {
			t.Errorf("note %q", note)
		}
	}
	_, _, done := w.run(job.Job{Op: job.Renew})
	if !strings.Contains(done.Result.Note, "user:inference") || !slices.Equal(done.Result.LostScopes, []string{"user:inference"}) {
		t.Errorf("read from the store: %q, %q", done.Result.Note, done.Result.LostScopes)
	}
	if note := renew("user:profile user:inference"); note != "" {
		t.Errorf("they are back: %q", note)
	}
}

// A renewal sends what the profile has for renewals, and where the token is to be used.
func TestRefreshParams(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.settings.Scopes, w.settings.Audience, w.settings.Resource = []string{"a"}, "fake-audience", []string{"https://one.example"}
	w.settings.Params = map[string]string{"prompt": "consent"}
	w.put(w.server.Issue(), nil)
	for _, tt := range []struct {
		extra           map[string]string
		scope, audience string
	}{
		{nil, "", "fake-audience"},
		{map[string]string{"scope": "a offline_access", "audience": ""}, "a offline_access", ""},
	} {
		w.settings.RefreshParams = tt.extra
		if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
			t.Fatal(done.Err)
		}
		sent := w.server.Sent("/v1/oauth/token")
		if sent["scope"] != tt.scope || sent["audience"] != tt.audience || sent["resource"] != "https://one.example" ||
			sent["prompt"] != "" {
			t.Errorf("%q: sent scope %q, audience %q, resource %q", tt.extra, sent["scope"], sent["audience"], sent["resource"])
		}
	}
}

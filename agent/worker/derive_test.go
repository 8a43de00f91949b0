package worker

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func encode(claims string) string { return base64.RawURLEncoding.EncodeToString([]byte(claims)) }

// TestIDToken keeps the ID token of a sign-in and of its renewals, and gives it while it lives.
func TestIDToken(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Now().Truncate(time.Millisecond) }
	jwt := func(claims string) protocol.Secret {
		return protocol.NewSecret("eyJhbGciOiJub25lIn0." + encode(claims) + ".fake")
	}
	alice := jwt(`{"iss":"PROVIDER","sub":"alice-1"}`)
	for _, tt := range []struct {
		name   string
		change func(*world, *store.Record)
		fault  oauthtest.IDFault
		edit   func(map[string]any)
		renew  bool
		want   error
		hint   string
		same   bool // the ID token that was there
		again  bool // another comes with a renewal
	}{
		{name: "of the sign-in", same: true, again: true},
		{name: "of the renewal", renew: true, again: true},
		{name: "renewals bring none", renew: true, fault: oauthtest.IDFault{Once: true}, same: true},
		{name: "none any more", renew: true, fault: oauthtest.IDFault{Once: true}, want: protocol.ErrExpired,
			hint:   "ccagent login gateway",
			change: func(_ *world, r *store.Record) { r.IDTokenExpiry = now().Add(-time.Second) }},
		{name: "another comes", again: true, same: true,
			change: func(_ *world, r *store.Record) { r.IDTokenExpiry = now().Add(-time.Second) }},
		{name: "nothing renews it", want: protocol.ErrExpired, hint: "ccagent login gateway", change: func(_ *world, r *store.Record) {
			r.IDTokenExpiry, r.RefreshToken = now().Add(-time.Second), protocol.Secret{}
		}},
		{name: "no openid", want: protocol.ErrConfig, hint: "openid: add that to scopes", change: func(_ *world, r *store.Record) {
			r.IDToken, r.IDTokenIssued, r.Scopes = protocol.Secret{}, time.Time{}, []string{"a"}
		}},
		{name: "of before it was kept", want: protocol.ErrConfig, hint: "ccagent refresh -p gateway",
			change: func(_ *world, r *store.Record) { r.IDToken, r.IDTokenIssued = protocol.Secret{}, time.Time{} }},
		{name: "which brings it", renew: true, again: true,
			change: func(_ *world, r *store.Record) { r.IDToken, r.IDTokenIssued = protocol.Secret{}, time.Time{} }},
		{name: "of another account", renew: true, fault: oauthtest.IDFault{Subject: "bob"}, same: true},
		{name: "of another issuer", renew: true, fault: oauthtest.IDFault{Issuer: "https://other.example"}, same: true},
		{name: "no token", renew: true, edit: func(r map[string]any) { r["id_token"] = "two words" }, same: true},
		{name: "a number", renew: true, edit: func(r map[string]any) { r["id_token"] = 1 }, same: true},
		{name: "no end", renew: true, edit: func(r map[string]any) { r["id_token"] = alice.Reveal() }, same: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newGateway(t, oauthtest.Options{})
			w.settings.TokenURL = w.server.TokenURL() // so that what its description says does not matter
			old := protocol.NewSecret(strings.Replace(alice.Reveal(), encode(`{"iss":"PROVIDER","sub":"alice-1"}`),
				encode(`{"iss":"`+w.server.Issuer()+`","sub":"alice-1"}`), 1))
			w.put(w.server.IssueFor("openid", "offline_access"), func(r *store.Record) {
				r.Issued = now()
				r.IDToken, r.IDTokenExpiry, r.IDTokenIssued = old, now().Add(5*time.Minute), r.Issued
				if tt.change != nil {
					tt.change(w, r)
				}
			})
			w.server.ID = tt.fault
			w.server.SetFault(oauthtest.Fault{Edit: tt.edit})
			if tt.renew {
				if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
					t.Fatal(done.Err)
				}
			}
			before, sent := w.kept(), w.server.Counts()
			_, _, done := w.run(job.Job{Op: job.Derive, Derived: protocol.Derived{IDToken: true}})
			if tt.want != nil {
				if !is(done.Err, tt.want) || !strings.Contains(done.Err.Hint, tt.hint) {
					t.Errorf("%v (%q)", done.Err, protocol.HintOf(done.Err))
				}
			} else if r := done.Result; done.Err != nil || r.Token.Empty() || (r.Token.Reveal() == old.Reveal()) != tt.same ||
				r.Renewable != tt.again || r.Kind != protocol.KindBearer {
				t.Errorf("%+v, %v", r, done.Err)
			}
			if left := time.Until(done.Result.Expiry); !tt.same && tt.want == nil && (left > 5*time.Minute || left < 4*time.Minute) {
				t.Errorf("it lives %v", left)
			}
			if w.kept().Version() != before.Version() || w.server.Counts() != sent {
				t.Error("the record was changed, or the provider asked")
			}
		})
	}
}

// TestDeriveNeedsASignIn: a key has no other tokens.
func TestDeriveNeedsASignIn(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.settings.Provider = "static"
	w.put(oauthtest.SignIn{AccessToken: "fake-key"}, nil)
	if _, _, done := w.run(job.Job{Op: job.Derive, Derived: protocol.Derived{IDToken: true}}); !is(done.Err, protocol.ErrConfig) {
		t.Errorf("%v", done.Err)
	}
	w.settings.Provider, w.settings.Command, w.settings.Store = "command", []string{"/bin/echo", "fake-key"}, ""
	if _, _, done := w.run(job.Job{Op: job.Derive, Derived: protocol.Derived{IDToken: true}}); !is(done.Err, protocol.ErrConfig) {
		t.Errorf("%v", done.Err)
	}
}

package worker

import (
	"encoding/base64"
	"os"
	"path/filepath"
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

// TestNarrowed brings tokens for other scopes and audiences: by token exchange, or by the grant of a machine. The refresh token
// is not sent, and the record stays as it is.
func TestNarrowed(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	robot := func(w *world) { w.settings.Grant, w.settings.ClientAuth = "client_credentials", "client_secret_basic" }
	for _, tt := range []struct {
		name   string
		server oauthtest.Options
		change func(*world)
		want   protocol.Derived
		fault  oauthtest.Fault
		err    error
		says   string // in the message, the hint or the notice
		again  bool
	}{
		{name: "scope", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}},
		{name: "audience and resources", server: oauthtest.Options{Exchange: true},
			want: protocol.Derived{Audience: "jobs", Resource: "https://a.example https://b.example"}},
		{name: "not described, and configured", server: oauthtest.Options{Exchange: true, HideExchange: true},
			change: func(w *world) { w.settings.TokenExchange = &yes }, want: protocol.Derived{Scope: "a"}},
		{name: "endpoints of one's own", server: oauthtest.Options{Exchange: true},
			change: func(w *world) { w.settings.TokenURL = w.server.TokenURL() }, want: protocol.Derived{Scope: "a"}},
		{name: "not described", server: oauthtest.Options{Exchange: true, HideExchange: true}, want: protocol.Derived{Scope: "a"},
			err: protocol.ErrConfig, says: "its description names no token exchange"},
		{name: "plain OAuth", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"},
			change: func(w *world) {
				w.settings.Provider, w.settings.Issuer, w.settings.TokenURL = "oauth2", "", w.server.TokenURL()
			}, err: protocol.ErrConfig, says: "token_exchange = true in [profiles.gateway]"},
		{name: "switched off", server: oauthtest.Options{Exchange: true}, change: func(w *world) { w.settings.TokenExchange = &no },
			want: protocol.Derived{Scope: "a"}, err: protocol.ErrConfig, says: "token_exchange = false"},
		{name: "configured, and not there", change: func(w *world) { w.settings.TokenExchange = &yes },
			want: protocol.Derived{Scope: "a"}, err: protocol.ErrConfig, says: "has no token exchange"},
		{name: "a scope that the sign-in has not", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "more"},
			err: protocol.ErrConfig, says: "check the scope, audience and resource"},
		{name: "another audience", server: oauthtest.Options{Exchange: true, Audiences: []string{"jobs"}},
			want: protocol.Derived{Audience: "mail"}, err: protocol.ErrConfig, says: "check the scope, audience and resource"},
		{name: "access token revoked", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}, again: true,
			change: func(w *world) { w.server.RevokeToken("fake-access-1") }, err: protocol.ErrExpired},
		{name: "forbidden", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}, err: protocol.ErrDenied,
			fault: oauthtest.Fault{Status: 403, Body: `{"error":"access_denied"}`}, says: "must allow this client"},
		{name: "not this client", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"},
			err:   protocol.ErrConfig,
			fault: oauthtest.Fault{Status: 400, Body: `{"error":"unauthorized_client"}`}, says: "must allow this client"},
		{name: "an outage", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}, err: protocol.ErrUnavailable,
			fault: oauthtest.Fault{Status: 503}},
		{name: "lost", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}, err: protocol.ErrUnavailable,
			fault: oauthtest.Fault{Truncate: true}},
		{name: "a page", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}, err: protocol.ErrUnavailable,
			fault: oauthtest.Fault{Status: 200, Body: "<html>sign in to the network</html>"}},
		{name: "an assertion of SAML", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"},
			err: protocol.ErrConfig, says: "saml2", fault: oauthtest.Fault{Edit: func(r map[string]any) {
				r["issued_token_type"] = "urn:ietf:params:oauth:token-type:saml2"
			}}},
		{name: "not an access token by name", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"},
			fault: oauthtest.Fault{Edit: func(r map[string]any) { r["token_type"] = "N_A" }}},
		{name: "bound to a key", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"}, err: protocol.ErrConfig,
			fault: oauthtest.Fault{Edit: func(r map[string]any) { r["token_type"] = "DPoP" }}, says: "bearer tokens"},
		{name: "a refresh token too", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a"},
			fault: oauthtest.Fault{Edit: func(r map[string]any) { r["refresh_token"] = "fake-refresh-of-exchange" }}},
		{name: "more than was asked for", server: oauthtest.Options{Exchange: true}, want: protocol.Derived{Scope: "a b"},
			fault: oauthtest.Fault{Edit: func(r map[string]any) { r["scope"] = "a c" }},
			says:  "the provider left out b; the provider gave more than was asked for: c"},
		{name: "a machine", server: oauthtest.Options{ClientID: "cli", ClientSecret: "fake-secret"}, change: robot,
			want: protocol.Derived{Scope: "jobs:read", Audience: "jobs"}},
		{name: "a machine with extra parameters", server: oauthtest.Options{ClientID: "cli", ClientSecret: "fake-secret"},
			change: func(w *world) {
				robot(w)
				w.settings.Scopes, w.settings.Audience = []string{"all"}, "everything"
				w.settings.TokenParams = map[string]string{"scope": "x", "audience": "y", "tenant": "z"}
			}, want: protocol.Derived{Scope: "jobs:read", Audience: "jobs"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newGateway(t, tt.server)
			view := filepath.Join(t.TempDir(), "token")
			w.settings.Views = []store.ViewPlace{{Kind: store.ViewToken, Path: view}}
			w.put(w.server.IssueFor("a", "b"), func(r *store.Record) {
				r.ClientSecret = protocol.NewSecret("fake-secret")
			})
			if tt.change != nil {
				tt.change(w)
			}
			w.server.SetFault(tt.fault)
			before, refreshes := w.kept(), w.server.Counts().Refreshes
			_, _, done := w.run(job.Job{Op: job.Derive, Derived: tt.want, Token: before.AccessToken})
			r := done.Result
			switch {
			case tt.err != nil && !is(done.Err, tt.err), tt.err == nil && done.Err != nil:
				t.Errorf("%v (%q), want %v", done.Err, protocol.HintOf(done.Err), tt.err)
			case tt.err != nil:
				if said := done.Err.Message + done.Err.Hint; !strings.Contains(said, tt.says) || strings.Contains(said, "fake-") {
					t.Errorf("it says %q", said)
				}
			case !w.server.Live(r.Token.Reveal()) || r.Token.Reveal() == before.AccessToken.Reveal() || r.Notice != tt.says ||
				r.Kind != protocol.KindBearer || r.Issued.IsZero() || !r.Expiry.After(time.Now()):
				t.Errorf("%+v", r)
			}
			if r.Renewable != tt.again {
				t.Errorf("renewable: %v", r.Renewable)
			}
			sent := w.server.Sent("/v1/oauth/token")
			if tt.err == nil && (tt.want.Scope != sent["scope"] || tt.want.Audience != sent["audience"] ||
				tt.want.Resource != sent["resource"]) || sent["refresh_token"] != "" {
				t.Errorf("sent %q", sent)
			}
			if w.kept().Version() != before.Version() || w.server.Counts().Refreshes != refreshes ||
				!w.server.Renewable(before.RefreshToken.Reveal()) {
				t.Error("the record was touched")
			}
			if shown, err := os.ReadFile(view); err != nil || string(shown) != before.AccessToken.Reveal() {
				t.Errorf("the view shows %q, %v", shown, err)
			}
		})
	}
}

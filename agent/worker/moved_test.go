package worker

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// elsewhere makes an issuer that describes the world's server, with the changed endpoints at another place. It counts the
// requests that come to that.
func (w *world) elsewhere(changed ...string) (place string, got *atomic.Int32) {
	got = new(atomic.Int32)
	stranger := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		rw.Write([]byte(`{"sub":"alice-1"}`))
	}))
	w.t.Cleanup(stranger.Close)
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		said := map[string]string{"issuer": issuer.URL, "authorization_endpoint": w.server.AuthorizeURL(),
			"token_endpoint": w.server.TokenURL(), "revocation_endpoint": w.server.URL() + "/revoke",
			"userinfo_endpoint": w.server.URL() + "/userinfo"}
		for _, name := range changed {
			said[name] = stranger.URL + "/" + name
		}
		json.NewEncoder(rw).Encode(said)
	}))
	w.t.Cleanup(issuer.Close)
	w.settings.Issuer = issuer.URL
	return stranger.URL, got
}

// Where an issuer's description leads elsewhere after the sign-in, nothing of the sign-in follows.
func TestEndpointsMove(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(r *store.Record, s *Settings, stranger string)
		goes   bool // the person was shown the place, or names it
	}{
		{"a record of before", func(*store.Record, *Settings, string) {}, false},
		{"bound elsewhere", func(r *store.Record, s *Settings, _ string) {
			r.Origins = []string{s.Issuer, r.TokenOrigin}
		}, false},
		{"of another port", func(r *store.Record, _ *Settings, stranger string) { r.Origins = []string{stranger + "0"} }, false},
		{"without a refresh token", func(r *store.Record, _ *Settings, _ string) { r.RefreshToken = protocol.Secret{} }, false},
		{"bound there", func(r *store.Record, _ *Settings, stranger string) { r.Origins = []string{stranger} }, true},
		{"named", func(_ *store.Record, s *Settings, stranger string) {
			s.RevokeURL, s.ProfileURL = stranger+"/revocation_endpoint", stranger+"/userinfo_endpoint"
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newGateway(t, oauthtest.Options{ClientID: "fake-client"})
			stranger, got := w.elsewhere("revocation_endpoint", "userinfo_endpoint")
			w.put(w.server.Issue(), func(r *store.Record) { tt.change(r, &w.settings, stranger) })
			_, _, who := w.run(job.Job{Op: job.Identify, Force: true})
			refused := is(who.Err, protocol.ErrLoginRequired) && strings.Contains(who.Err.Message, stranger)
			if refused == tt.goes || tt.goes && who.Err != nil {
				t.Errorf("who: %v", who.Err)
			}
			if !w.kept().RefreshToken.Empty() {
				if _, _, renewed := w.run(job.Job{Op: job.Renew, Force: true}); renewed.Err != nil || !renewed.Result.Renewed {
					t.Errorf("renewed: %+v", renewed)
				}
			}
			_, _, out := w.run(job.Job{Op: job.Logout})
			notice := out.Result.Notice
			left := strings.Contains(notice, "nothing was revoked") && strings.Contains(notice, stranger)
			if out.Err != nil || left == tt.goes || tt.goes && notice != "" {
				t.Errorf("logout: %q, %v", notice, out.Err)
			}
			if (got.Load() > 0) != tt.goes {
				t.Errorf("the other place got %d requests", got.Load())
			}
		})
	}
}

// What a machine proves itself with goes to the token endpoint of its sign-in. That holds for the first renewal too, although an
// assertion that comes from a file is no part of the record.
func TestTokenEndpointMoves(t *testing.T) {
	t.Parallel()
	for _, grant := range []string{"jwt-bearer", "client_credentials", ""} {
		w := newGateway(t, oauthtest.Options{})
		_, got := w.elsewhere("token_endpoint")
		w.settings.Grant, w.settings.AssertionFile = grant, filepath.Join(t.TempDir(), "assertion")
		if err := os.WriteFile(w.settings.AssertionFile, []byte("fake.assertion.1"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.put(w.server.Issue(), func(r *store.Record) { r.RefreshToken = protocol.Secret{} })
		for _, op := range []job.Op{job.Renew, job.Identify} {
			if _, _, done := w.run(job.Job{Op: op, Force: true}); !is(done.Err, protocol.ErrLoginRequired) {
				t.Errorf("%q, %v: %v", grant, op, done.Err)
			}
		}
		if got.Load() > 0 {
			t.Errorf("%q: the other place got %d requests", grant, got.Load())
		}
	}
}

// An issuer whose description is away for a while ends no sign-in.
func TestDescriptionAway(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), nil)
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		w.server.SetFaultAt(path, oauthtest.Fault{Status: 404, Body: "default backend"})
	}
	if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); !is(done.Err, protocol.ErrUnavailable) {
		t.Errorf("got %v", done.Err)
	}
}

// A user profile of somebody else than the ID token named is nobody's.
func TestProfileOfAnother(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), func(r *store.Record) {
		r.Identity = protocol.Identity{Account: "bob-1", Email: "bob@example.com", Fetched: time.UnixMilli(1767225600123)}
	})
	_, _, done := w.run(job.Job{Op: job.Identify, Force: true})
	if who := done.Result.Identity; !is(done.Err, protocol.ErrLoginRequired) || who.Email == "alice@example.com" ||
		w.kept().Identity.Account != "bob-1" {
		t.Errorf("got %+v, %v", who, done.Err)
	}
}

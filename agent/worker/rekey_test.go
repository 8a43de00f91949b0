package worker

import (
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// The record has another client secret only once the provider has accepted that one, in whatever store it rests.
func TestRekey(t *testing.T) {
	t.Parallel()
	for _, kind := range []store.Kind{store.KindFile, store.KindMemory} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.settings.Provider, w.settings.Store, w.settings.ClientAuth = "oauth2", kind, "client_secret_post"
			w.server.SetClientSecret("fake-secret-2")
			s := w.server.Issue()
			before := store.Record{
				Kind: protocol.KindBearer, Expiry: time.Now().Add(time.Hour), ClientSecret: protocol.NewSecret("fake-secret-1"),
				AccessToken: protocol.NewSecret(s.AccessToken), RefreshToken: protocol.NewSecret(s.RefreshToken),
			}
			held := protocol.Secret{}
			file := store.NewFile(w.settings.DataDir, "fake")
			current := func() store.Record {
				t.Helper()
				r, _, err := file.Load(t.Context())
				if kind == store.KindMemory {
					r, err = store.Unmarshal(held)
				}
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			put, err := before.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, _, done := w.run(job.Job{Op: job.Put, Record: put})
			held = done.Result.Record
			version := done.Result.Version

			rekey := func(secret string) job.Report {
				_, _, done := w.run(job.Job{Op: job.Rekey, Base: version, Record: held, ClientSecret: protocol.NewSecret(secret)})
				if kind == store.KindMemory && !done.Result.Record.Empty() {
					held = done.Result.Record
				}
				return done
			}
			if done := rekey("fake-wrong"); done.Err == nil || done.Err.Code != protocol.CodeConfig {
				t.Errorf("a wrong secret: %v", done.Err)
			}
			if r := current(); r.ClientSecret.Reveal() != "fake-secret-1" || r.RefreshToken.Reveal() != s.RefreshToken {
				t.Errorf("after a wrong secret: %q, %q", r.ClientSecret.Reveal(), r.RefreshToken.Reveal())
			}
			if done := rekey("fake-secret-2"); done.Err != nil || !done.Result.Renewed || !done.Result.Saved {
				t.Errorf("the right secret: %v, %+v", done.Err, done.Result)
			}
			if r := current(); r.ClientSecret.Reveal() != "fake-secret-2" || r.RefreshToken.Reveal() == s.RefreshToken {
				t.Errorf("after the right secret: %q, %q", r.ClientSecret.Reveal(), r.RefreshToken.Reveal())
			}
		})
	}
}

// A profile whose client has no secret can't be given one.
func TestRekeyWithoutSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(time.Hour)
	_, _, done := w.run(job.Job{Op: job.Rekey, ClientSecret: protocol.NewSecret("fake-secret-2")})
	if done.Err == nil || done.Err.Code != protocol.CodeConfig || w.server.Counts().Requests > 0 {
		t.Errorf("%v, %d requests", done.Err, w.server.Counts().Requests)
	}
}

package worker

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
)

var stubFile = []byte(`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0},"other":1}`)

// known signs in, and has an agent know it.
func (w *world) known(left time.Duration) (oauthtest.SignIn, job.Version) {
	w.t.Helper()
	s := w.signIn(left)
	_, _, done := w.run(job.Job{Op: job.Renew})
	if done.Err != nil || done.Result.Token.Reveal() != s.AccessToken {
		w.t.Fatalf("got %+v, %v", done.Result, done.Err)
	}
	return s, done.Result.Version
}

// TestMend puts a sign-in back that a losing racer has emptied: as it is while the provider accepts it, else renewed.
func TestMend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		profile   bool // the provider can be asked who is signed in
		left      time.Duration
		refreshes int
	}{
		{"accepted", true, time.Hour, 0},
		{"expired", true, -time.Second, 1},
		{"nobody to ask", false, time.Hour, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.profile {
				w.settings.ProfileURL = w.server.ProfileURL()
			}
			s, base := w.known(time.Hour)
			if tt.left < 0 { // what is kept of it expires
				w.server.SetLifetime(time.Second)
				_, _, done := w.run(job.Job{Op: job.Renew, Force: true, Base: base})
				base = done.Result.Version
				w.server.SetLifetime(time.Hour)
				time.Sleep(time.Until(done.Result.Expiry))
			}
			before := w.server.Counts().Refreshes
			w.write(stubFile)
			_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
			if done.Err != nil || done.Result.Gone || !done.Result.Saved ||
				!bytes.Contains([]byte(done.Result.Note), []byte("was mended at")) {
				t.Fatalf("got %+v, %v", done.Result, done.Err)
			}
			r, _ := w.stored()
			if got := w.server.Counts(); got.Refreshes-before != tt.refreshes || got.Reuses != 0 ||
				!w.server.Renewable(r.RefreshToken.Reveal()) || !w.server.Live(done.Result.Token.Reveal()) {
				t.Errorf("%+v", got)
			}
			if tt.refreshes == 0 && r.AccessToken.Reveal() != s.AccessToken {
				t.Error("another token than the one that was emptied")
			}
			if data, _ := os.ReadFile(w.credentials()); !bytes.Contains(data, []byte(`"other":1`)) {
				t.Errorf("the file is %s", data)
			}
		})
	}
}

// TestMendEnds leaves a stub alone that somebody means, or that the provider will not have again.
func TestMendEnds(t *testing.T) {
	t.Parallel()
	t.Run("again and again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.ProfileURL = w.server.ProfileURL()
		_, base := w.known(time.Hour)
		for i := range renewal.MaxRepairs + 1 {
			w.write(stubFile)
			_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
			if last := i == renewal.MaxRepairs; last != is(done.Err, protocol.ErrLoginRequired) || last != done.Result.Gone {
				t.Fatalf("time %d: %+v, %v", i, done.Result, done.Err)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.ProfileURL = w.server.ProfileURL()
		s, base := w.known(time.Hour)
		w.server.RevokeGrant(s.RefreshToken)
		for range 2 {
			w.write(stubFile)
			_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
			if !is(done.Err, protocol.ErrLoginRequired) || !done.Result.Gone || !done.Result.Token.Empty() {
				t.Fatalf("got %+v, %v", done.Result, done.Err)
			}
		}
		if n := w.server.Counts().Requests; n != 1 {
			t.Errorf("%d requests with a refresh token that was refused, want 1", n)
		}
	})
	t.Run("signed out", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.ProfileURL = w.server.ProfileURL()
		_, base := w.known(time.Hour)
		os.Remove(w.credentials())
		w.run(job.Job{Op: job.Renew, Base: base})
		w.write(stubFile) // of a session that went on
		_, _, done := w.run(job.Job{Op: job.Renew})
		if !is(done.Err, protocol.ErrLoginRequired) || !done.Result.Token.Empty() {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		_, _, done = w.run(job.Job{Op: job.History})
		if _, _, done = w.run(job.Job{Op: job.Restore, PastID: done.Result.Past[0].ID}); done.Err != nil {
			t.Fatal(done.Err)
		}
		w.write(stubFile)
		if _, _, done = w.run(job.Job{Op: job.Renew, Base: done.Result.Version}); done.Err != nil {
			t.Errorf("what was brought back is not mended: %v", done.Err)
		}
	})
	t.Run("another sign-in", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.ProfileURL = w.server.ProfileURL()
		first, base := w.known(time.Hour)
		data, _ := os.ReadFile(w.credentials())
		w.signIn(time.Hour)
		_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
		unseen := done.Result.Version
		w.write(data) // who has two accounts exchanges files
		_, _, done = w.run(job.Job{Op: job.Renew, Base: unseen})
		base = done.Result.Version
		w.write(stubFile)
		if _, _, done = w.run(job.Job{Op: job.Renew, Base: unseen}); !is(done.Err, protocol.ErrLoginRequired) {
			t.Errorf("mended with another record than was last seen: %+v, %v", done.Result, done.Err)
		}
		if _, _, done = w.run(job.Job{Op: job.Renew, Base: base}); done.Err != nil ||
			done.Result.Token.Reveal() != first.AccessToken {
			t.Errorf("mended with the wrong account: %+v, %v", done.Result, done.Err)
		}
	})
	t.Run("another account meanwhile", func(t *testing.T) {
		t.Parallel()
		for _, how := range []struct{ guarded, elsewhere bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			guarded := how.guarded
			w := newWorld(t)
			w.settings.ProfileURL = w.server.ProfileURL()
			settings := w.settings.ConfigDir + ".json"
			if how.elsewhere { // than the credentials: what lies beside those is another Claude Code's
				if err := os.WriteFile(settings, []byte(`{"oauthAccount":{"accountUuid":"fake-third"}}`), 0o600); err != nil {
					t.Fatal(err)
				}
				settings = filepath.Join(t.TempDir(), ".claude.json")
				w.settings.AccountFile = settings
			}
			_, base := w.known(time.Hour)
			if guarded {
				w.settings.Views = guarding
				w.run(job.Job{Op: job.Guard, Target: "file", Base: base})
			}
			_, _, who := w.run(job.Job{Op: job.Identify})
			account := who.Result.Identity.Account
			for _, named := range []string{"fake-other", account} {
				w.write(stubFile)
				if err := os.WriteFile(settings, []byte(`{"oauthAccount":{"accountUuid":"`+named+`"}}`), 0o600); err != nil {
					t.Fatal(err)
				}
				_, _, done := w.run(job.Job{Op: job.Renew}) // of an agent that has just started
				data, _ := os.ReadFile(w.credentials())
				if mended := !bytes.Equal(data, stubFile); account == "" || mended != (named == account) {
					t.Errorf("%+v, Claude Code says %q, it was %q: mended is %v; %+v, %v", how, named, account, mended, done.Result, done.Err)
				}
				if guarded || named == account {
					continue
				}
				// An agent that runs may know whose it was, also while the provider can't be asked.
				w.server.SetFault(oauthtest.Fault{Status: 503})
				_, _, done = w.run(job.Job{Op: job.Renew, Base: base})
				w.server.SetFault(oauthtest.Fault{})
				if !is(done.Err, protocol.ErrLoginRequired) || !done.Result.Gone {
					t.Errorf("of an account that is known to be another: %+v, %v", done.Result, done.Err)
				}
			}
		}
	})
	t.Run("spoilt answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, base := w.known(time.Hour)
		w.server.SetFault(oauthtest.Fault{Times: 1, Edit: func(reply map[string]any) { delete(reply, "access_token") }})
		w.write(stubFile)
		_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
		if !is(done.Err, protocol.ErrUnavailable) || !done.Result.Saved {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if r, _ := w.stored(); !w.server.Renewable(r.RefreshToken.Reveal()) {
			t.Error("the rotated refresh token is lost")
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, base := w.known(time.Hour)
		w.server.SetFault(oauthtest.Fault{Status: 503})
		w.write(stubFile)
		_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
		if !is(done.Err, protocol.ErrUnavailable) || done.Result.Gone {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
	})
}

// TestSignOut tells a sign-out from a file that is written in two steps, and from a home that is not mounted.
func TestSignOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		happens func(w *world, back []byte)
		wantErr error
		gone    bool
	}{
		{"the file", func(w *world, _ []byte) { os.Remove(w.credentials()) }, protocol.ErrLoginRequired, true},
		{"the key", func(w *world, _ []byte) { w.write([]byte(`{"other":1}`)) }, protocol.ErrLoginRequired, true},
		{"not for long", func(w *world, back []byte) {
			os.Remove(w.credentials())
			time.AfterFunc(300*time.Millisecond, func() { os.WriteFile(w.credentials(), back, 0o600) })
		}, nil, false},
		{"the folder that a link leads to", func(w *world, back []byte) {
			elsewhere := filepath.Join(w.t.TempDir(), "elsewhere")
			os.Remove(w.credentials())
			os.Symlink(filepath.Join(elsewhere, "credentials.json"), w.credentials())
		}, protocol.ErrStorage, false},
		{"the folder", func(w *world, _ []byte) { os.RemoveAll(w.settings.ConfigDir) }, protocol.ErrStorage, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s, base := w.known(time.Hour)
			back, _ := os.ReadFile(w.credentials())
			tt.happens(w, back)
			_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
			if !is(done.Err, tt.wantErr) || done.Result.Gone != tt.gone {
				t.Fatalf("got %+v, %v", done.Result, done.Err)
			}
			if n := w.server.Counts(); n.Requests != 0 || !w.server.Renewable(s.RefreshToken) {
				t.Errorf("a sign-out at this machine is no business of the provider's: %+v", n)
			}
			if tt.gone {
				_, _, done = w.run(job.Job{Op: job.History})
				_, _, done = w.run(job.Job{Op: job.Restore, PastID: done.Result.Past[0].ID})
				if r, _ := w.stored(); done.Err != nil || r.RefreshToken.Reveal() != s.RefreshToken {
					t.Errorf("restored: %+v, %v", done.Result, done.Err)
				}
			}
		})
	}
}

// TestOldCopy has a backup bring back a record whose refresh token we have spent since: to send that again would end the sign-in.
func TestOldCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, base := w.known(time.Hour)
	_, _, done := w.run(job.Job{Op: job.Renew, Force: true, Base: base})
	if _, _, past := w.run(job.Job{Op: job.History}); len(past.Result.Past) != 1 {
		t.Errorf("one sign-in is listed as %d: %+v", len(past.Result.Past), past.Result.Past)
	}
	for i := range renewal.MaxRepairs {
		s.Expiry = time.Now().Add(time.Duration(i-1) * time.Hour) // a session would renew it some time, whether it lives or not
		w.write(s.CredentialsFile())
		_, _, again := w.run(job.Job{Op: job.Renew, Base: done.Result.Version})
		if again.Err != nil || again.Result.Token.Reveal() != done.Result.Token.Reveal() {
			t.Fatalf("got %+v, %v", again.Result, again.Err)
		}
		if r, _ := w.stored(); !w.server.Renewable(r.RefreshToken.Reveal()) {
			t.Fatal("the old copy is still there")
		}
	}
	s.Expiry = time.Now().Add(-time.Hour)
	w.write(s.CredentialsFile())
	if _, _, done = w.run(job.Job{Op: job.Renew, Base: done.Result.Version}); !is(done.Err, protocol.ErrLoginRequired) {
		t.Errorf("put back without end: %+v, %v", done.Result, done.Err)
	}
	if n := w.server.Counts(); n.Reuses != 0 || n.Requests != 1 {
		t.Errorf("%+v", n)
	}
}

package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// shelved are the stores whose record is a file that a backup may bring back, with how a sign-in comes into one that no job has
// seen.
var shelved = map[string]func(w *world, s oauthtest.SignIn) (path string){
	"claude-code": func(w *world, s oauthtest.SignIn) string {
		w.write(s.CredentialsFile())
		return w.credentials()
	},
	"file": func(w *world, s oauthtest.SignIn) string {
		w.settings.Store = "file"
		st := store.NewFile(w.settings.DataDir, w.settings.Name)
		w.saveIn(st, s)
		return st.Place().Location
	},
	"encrypted": func(w *world, s oauthtest.SignIn) string {
		w.settings.Store = "encrypted"
		w.settings.Identity = filepath.Join(w.settings.DataDir, "key.txt")
		if _, err := os.Stat(w.settings.Identity); err != nil {
			key, err := age.GenerateX25519Identity()
			if err == nil {
				err = errors.Join(os.MkdirAll(w.settings.DataDir, 0o700), os.WriteFile(w.settings.Identity, []byte(key.String()), 0o600))
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}
		identity, err := newTask(w.settings, job.Job{}).identity()
		if err != nil {
			w.t.Fatal(err)
		}
		st := store.NewEncrypted(w.settings.DataDir, w.settings.Name, identity)
		w.saveIn(st, s)
		return st.Place().Location
	},
}

// saveIn writes a sign-in over whatever is stored, as a backup does.
func (w *world) saveIn(st store.Store, s oauthtest.SignIn) {
	w.t.Helper()
	_, version, _ := st.Load(w.t.Context())
	if _, err := st.Save(w.t.Context(), recordOf(s), version); err != nil {
		w.t.Fatal(err)
	}
}

func recordOf(s oauthtest.SignIn) store.Record {
	return store.Record{
		Kind:         protocol.KindOAuth,
		AccessToken:  protocol.NewSecret(s.AccessToken),
		RefreshToken: protocol.NewSecret(s.RefreshToken),
		Expiry:       s.Expiry,
	}
}

// TestSpentIsNotSentAgain: a backup, a switcher or a synchronised folder brings a file back whose refresh token a renewal of
// ours has spent, be it the first job that ever saw the record. It is not sent again, and the newest is put back.
func TestSpentIsNotSentAgain(t *testing.T) {
	t.Parallel()
	for name, put := range shelved {
		for _, tt := range []struct {
			name     string
			renewals int
			known    bool // by the agent that sees the old file
			left     time.Duration
			before   func(w *world, path string) // the last renewal
		}{
			{name: "first contact", renewals: 1, known: true},
			{name: "first contact, another agent", renewals: 1},
			{name: "first contact, the old token lives", renewals: 1, known: true, left: 3 * time.Hour},
			{name: "two rotations while the agent was off", renewals: 2},
			{name: "its save fails", renewals: 1, before: func(w *world, path string) {
				original, _ := os.ReadFile(path)
				w.during(func() { os.Remove(path); os.Mkdir(path, 0o700) })
				if _, _, done := w.run(job.Job{Op: job.Renew}); done.Result.Saved {
					w.t.Fatalf("got %+v", done)
				}
				os.Remove(path)
				os.WriteFile(path, original, 0o600)
			}},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				s := w.server.Issue()
				s.Expiry = time.Now().Add(-time.Minute).Truncate(time.Millisecond)
				path := put(w, s)
				old, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if tt.before != nil {
					tt.before(w, path)
				}
				var last job.Report
				for range tt.renewals {
					_, _, last = w.run(job.Job{Op: job.Renew, Force: tt.before == nil})
					if last.Err != nil || !last.Result.Saved {
						t.Fatalf("got %+v, %v", last.Result, last.Err)
					}
				}
				asked := w.server.Counts().Requests
				if tt.left != 0 {
					s.Expiry = time.Now().Add(tt.left).Truncate(time.Millisecond)
					put(w, s)
				} else if err := os.WriteFile(path, old, 0o600); err != nil {
					t.Fatal(err)
				}
				j := job.Job{Op: job.Renew}
				if tt.known {
					j.Base, j.Lineage = last.Result.Version, last.Result.Lineage
				}
				_, _, done := w.run(j)
				if done.Err != nil || done.Result.Token.Reveal() != last.Result.Token.Reveal() || !done.Result.Saved {
					t.Errorf("got %+v, %v, want the newest", done.Result, done.Err)
				}
				if n := w.server.Counts(); n.Reuses != 0 || n.Requests != asked {
					t.Errorf("%d requests for the old file: %+v", n.Requests-asked, n)
				}
			})
		}
	}
}

// TestSpentLongAgo: a backup may be older than what the history remembers of a sign-in.
func TestSpentLongAgo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(time.Hour)
	var old []byte
	for i := range 70 {
		if i == 1 { // the first is known by the id that it gave the sign-in
			old, _ = os.ReadFile(w.credentials())
		}
		if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
			t.Fatal(done.Err)
		}
	}
	w.write(old)
	for range 2 {
		_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
		if !is(done.Err, protocol.ErrLoginRequired) || !strings.Contains(done.Err.Hint, "ccagent restore -p") {
			t.Errorf("got %+v, %v", done.Result, done.Err)
		}
	}
	if n := w.server.Counts(); n.Reuses != 0 {
		t.Errorf("a spent refresh token was sent: %+v", n)
	}
}

// TestForgetful: where nothing can be remembered the token is renewed all the same, and the person is told.
func TestForgetful(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	if err := errors.Join(os.MkdirAll(w.settings.StateDir, 0o700),
		os.WriteFile(filepath.Join(w.settings.StateDir, "history"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, _, done := w.run(job.Job{Op: job.Renew})
	if done.Err != nil || !done.Result.Saved || !strings.Contains(done.Result.Note, "can't be remembered") {
		t.Errorf("got %+v, %v", done.Result, done.Err)
	}
}

// TestRefusedIsRemembered: a refresh token that the provider has refused at the first contact is not offered to be brought back.
func TestRefusedIsRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.signIn(-time.Minute)
	w.server.RevokeGrant(s.RefreshToken)
	for range 2 {
		if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrLoginRequired) || !done.Result.Token.Empty() {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
	}
	if p := w.past(); len(p) != 1 || p[0].Renewable {
		t.Errorf("kept are %+v", p)
	}
}

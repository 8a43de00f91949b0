package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// neighbour is another profile of the same user, with a Claude Code directory of its own.
func (w *world) neighbour(name string) *world {
	w.t.Helper()
	n := *w
	n.settings.Name, n.settings.ConfigDir = name, filepath.Join(w.settings.ConfigDir, "..", name)
	if err := os.Mkdir(n.settings.ConfigDir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	return &n
}

// TestOneHome: of two profiles with a copy of one sign-in, the first to use it renews it, and the other never sends its refresh
// token.
func TestOneHome(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		left time.Duration // the life of the access token in both copies
		copy func(w, n *world)
	}{
		"a copied file": {left: time.Hour, copy: func(w, n *world) {
			data, err := os.ReadFile(w.credentials())
			if err != nil {
				w.t.Fatal(err)
			}
			n.write(data)
		}},
		"a hard link": {left: time.Hour, copy: func(w, n *world) {
			if err := os.Link(w.credentials(), n.credentials()); err != nil {
				w.t.Fatal(err)
			}
		}},
		"a copy that is due": {left: -time.Hour, copy: func(w, n *world) {
			data, err := os.ReadFile(w.credentials())
			if err != nil {
				w.t.Fatal(err)
			}
			n.write(data)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			n := w.neighbour("second")
			w.signIn(tt.left)
			tt.copy(w, n)
			for range 2 { // the token of before is renewed, and then the one that this brought
				if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil || !done.Result.Renewed {
					t.Fatalf("the first: %+v, %v", done.Result, done.Err)
				}
			}
			asked := w.server.Counts().Requests
			_, _, done := n.run(job.Job{Op: job.Renew, Force: true})
			if !is(done.Err, protocol.ErrLoginRequired) || !strings.Contains(done.Err.Hint, "sign in anew for profile second") {
				t.Errorf("the second: %+v, %v", done.Result, done.Err)
			}
			if tt.left > 0 && done.Result.Token.Empty() {
				t.Error("its token lives and is not served")
			}
			if now := w.server.Counts().Requests; now != asked {
				t.Errorf("a spent refresh token was sent %d times", now-asked)
			}
			if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
				t.Errorf("the first, again: %v", done.Err)
			}
		})
	}
}

// TestOneHomeAtEveryDoor: no job gives a profile the sign-in that another one has.
func TestOneHomeAtEveryDoor(t *testing.T) {
	t.Parallel()
	issued := func(s oauthtest.SignIn) store.Record { return record(s, time.Now().Add(time.Hour)) }
	doors := map[string]func(n *world, s oauthtest.SignIn) job.Job{
		"put": func(n *world, s oauthtest.SignIn) job.Job {
			return job.Job{Op: job.Put, Record: mustMarshal(n.t, issued(s)), Force: true}
		},
		"sign in": func(n *world, s oauthtest.SignIn) job.Job {
			return job.Job{Op: job.Put, Record: mustMarshal(n.t, issued(s)), SignIn: true}
		},
		"guard": func(n *world, s oauthtest.SignIn) job.Job {
			n.write(s.CredentialsFile())
			n.settings.Views = guarding
			return job.Job{Op: job.Guard, Target: "file"}
		},
		"move": func(n *world, s oauthtest.SignIn) job.Job {
			n.write(s.CredentialsFile())
			return job.Job{Op: job.Move, Target: "file", Force: true}
		},
		"restore": func(n *world, s oauthtest.SignIn) job.Job {
			n.settings.Store = "claude-code"
			st := store.NewClaudeCode(n.settings.ConfigDir)
			if err := store.NewHistory(n.settings.StateDir, st).Keep(n.t.Context(), issued(s), false, time.Now()); err != nil {
				n.t.Fatal(err)
			}
			past := n.past()
			if len(past) != 1 {
				n.t.Fatalf("kept are %v", past)
			}
			return job.Job{Op: job.Restore, PastID: past[0].ID}
		},
	}
	for name, door := range doors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.settings.Store = "claude-code"
			n := w.neighbour("second")
			n.settings.Store = "auto"
			s := w.signIn(time.Hour)
			if _, _, done := w.run(job.Job{Op: job.Renew}); done.Err != nil {
				t.Fatal(done.Err)
			}
			j := door(n, s)
			before := n.standing()
			_, _, done := n.run(j)
			if !is(done.Err, protocol.ErrConfig) || !strings.Contains(done.Err.Message, "this sign-in already, in "+w.credentials()) {
				t.Errorf("got %+v, %v", done.Result, done.Err)
			}
			after := n.standing()
			delete(before, "choice")
			delete(after, "choice")
			if len(before) != len(after) {
				t.Errorf("before %v\nafter  %v", before, after)
			}

			// Another sign-in of the same person is none of its business, and a home that was left is free.
			if err := os.Remove(w.credentials()); err != nil {
				t.Fatal(err)
			}
			if _, _, done := n.run(j); done.Err != nil {
				t.Errorf("once the first has it no more: %v", done.Err)
			}
		})
	}
}

// TestHomeOfALink: a home whose file is a link that leads elsewhere now is no second home of what is there.
func TestHomeOfALink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(time.Hour)
	for _, place := range []string{"monday", "tuesday"} {
		data, err := os.ReadFile(w.credentials())
		if err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(t.TempDir(), place)
		os.Remove(w.credentials())
		if err := errors.Join(os.WriteFile(link, data, 0o600), os.Symlink(link, w.credentials())); err != nil {
			t.Fatal(err)
		}
		if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil || !done.Result.Renewed || !done.Result.Saved {
			t.Fatalf("%s: %+v, %v", place, done.Result, done.Err)
		}
	}
}

// TestSpentStaysSpent: an old copy of a sign-in is no sign-in, wherever it is to go: its refresh token was spent here.
func TestSpentStaysSpent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.neighbour("second")
	n.settings.Store = "file"
	old := w.signIn(-time.Minute)
	if _, _, done := w.run(job.Job{Op: job.Renew}); done.Err != nil {
		t.Fatal(done.Err)
	}
	inForce, _ := w.stored()
	put := job.Job{Op: job.Put, Force: true, Record: mustMarshal(t, recordOf(old))}
	if _, _, done := w.run(put); !is(done.Err, protocol.ErrConfig) || !strings.Contains(done.Err.Message, "old copy") {
		t.Errorf("put in its own place: %+v, %v", done.Result, done.Err)
	}
	if r, _ := w.stored(); !renewal.Same(r, inForce) {
		t.Error("the sign-in that is in force was replaced by an old copy of it")
	}
	// A file that is put back without asking us makes no home of a refresh token that was spent there.
	home := store.HomeOf(store.NewClaudeCode(w.settings.ConfigDir), w.settings.Name, recordOf(old))
	store.NewHomes(w.settings.StateDir).Claim(t.Context(), home, recordOf(old), nil)
	if _, _, done := n.run(put); !is(done.Err, protocol.ErrConfig) || !strings.Contains(done.Err.Message, "this sign-in already") {
		t.Errorf("put as another profile: %+v, %v", done.Result, done.Err)
	}
}

// TestCopiesOfALastingToken: where the provider does not rotate, two profiles may share a refresh token.
func TestCopiesOfALastingToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.neighbour("second")
	w.signIn(time.Hour)
	data, err := os.ReadFile(w.credentials())
	if err != nil {
		t.Fatal(err)
	}
	n.write(data)
	w.server.SetFault(oauthtest.Fault{Status: 200, Body: `{"access_token": "fake-access-lasting", "expires_in": 3600}`})
	for _, p := range []*world{w, n, w, n} {
		if _, _, done := p.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil || !done.Result.Renewed {
			t.Errorf("%s: %+v, %v", p.settings.Name, done.Result, done.Err)
		}
	}
	if shared := SharedSignIns(t.Context(), []Settings{w.settings, n.settings}); len(shared) != 0 {
		t.Errorf("doctor finds fault with %+v", shared)
	}
	if err := SoleHome(t.Context(), n.settings, []Settings{w.settings, n.settings}); err != nil {
		t.Errorf("add finds fault with it: %v", err)
	}

	// From the first rotation on there is one home.
	w.server.SetFault(oauthtest.Fault{})
	if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
		t.Fatal(done.Err)
	}
	asked := w.server.Counts().Requests
	_, _, done := n.run(job.Job{Op: job.Renew, Force: true})
	if !is(done.Err, protocol.ErrLoginRequired) || w.server.Counts().Requests != asked {
		t.Errorf("the second, with a spent one: %+v, %v", done.Result, done.Err)
	}
}

// TestCopyInAGuardedFile: somebody puts the sign-in of another profile where the view of a guarded one was. It is not taken over,
// and the person is told to sign in anew.
func TestCopyInAGuardedFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.neighbour("second")
	n.settings.Store = "auto"
	n.write(w.server.Issue().CredentialsFile())
	if _, _, done := n.run(job.Job{Op: job.Guard, Target: "file"}); done.Err != nil {
		t.Fatal(done.Err)
	}
	n.settings.Views = guarding
	s := w.signIn(time.Hour)
	if _, _, done := w.run(job.Job{Op: job.Renew}); done.Err != nil {
		t.Fatal(done.Err)
	}
	n.write(s.CredentialsFile())
	_, _, done := n.run(job.Job{Op: job.Renew})
	if !is(done.Err, protocol.ErrLoginRequired) || !strings.Contains(done.Err.Hint, "sign in anew for profile second") {
		t.Errorf("got %+v, %v", done.Result, done.Err)
	}
}

package worker

import (
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

// past lists what restore offers.
func (w *world) past() []protocol.PastSignIn {
	w.t.Helper()
	_, _, done := w.run(job.Job{Op: job.History})
	if done.Err != nil {
		w.t.Fatal(done.Err)
	}
	return done.Result.Past
}

// killedAfterItsSave has the history say what it said before the last renewal, as a worker leaves it that dies between the two.
func (w *world) killedAfterItsSave(renew func()) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.settings.StateDir, "history", "*.json"))
	if err != nil || len(files) != 1 {
		w.t.Fatalf("the history is in %v, %v", files, err)
	}
	before, err := os.ReadFile(files[0])
	if err != nil {
		w.t.Fatal(err)
	}
	renew()
	if err := os.WriteFile(files[0], before, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestRestoreAfterAKill: the worker that saved the record in force died before the history had it, where its predecessor stands
// as if it were good. That one is not sent once more, and the one in force is kept when another takes its place.
func TestRestoreAfterAKill(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{ClientID: "fake-client"})
	first := w.server.Issue()
	if _, done := w.put(first, nil); done.Err != nil {
		t.Fatal(done.Err)
	}
	other := w.server.Issue()
	if _, done := w.put(other, nil); done.Err != nil {
		t.Fatal(done.Err)
	}
	spent := w.past()[0].ID
	stale := func() {
		w.killedAfterItsSave(func() {
			if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil || !done.Result.Renewed {
				t.Fatalf("%+v", done)
			}
		})
	}
	stale()

	if _, _, done := w.run(job.Job{Op: job.Restore, PastID: spent}); !is(done.Err, protocol.ErrNotFound) {
		t.Errorf("the predecessor of the record in force: %+v", done)
	}
	if p := w.past(); len(p) != 2 || !p[0].Current || !p[1].Renewable {
		t.Fatalf("kept are %+v", p)
	}
	id := w.past()[1].ID
	stale()
	inForce := w.kept()
	if _, _, done := w.run(job.Job{Op: job.Restore, PastID: id}); done.Err != nil || !renewal.Same(w.kept(), store.Record{
		AccessToken: protocol.NewSecret(first.AccessToken), RefreshToken: protocol.NewSecret(first.RefreshToken)}) {
		t.Fatalf("the first sign-in: %+v", done)
	}
	back := w.past()[1]
	if !back.Renewable || back.Current {
		t.Errorf("the one that was in force is %+v", back)
	}
	if _, _, done := w.run(job.Job{Op: job.Restore, PastID: back.ID}); done.Err != nil || !renewal.Same(w.kept(), inForce) {
		t.Errorf("and back: %+v", done)
	}
	if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
		t.Error(done.Err)
	}
	if n := w.server.Counts(); n.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", n.Reuses)
	}
}

// TestRestoreKeepsWhatIsInForce: where that can't be kept, it is not replaced.
func TestRestoreKeepsWhatIsInForce(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{ClientID: "fake-client"})
	for range 2 {
		if _, done := w.put(w.server.Issue(), nil); done.Err != nil {
			t.Fatal(done.Err)
		}
	}
	id := w.past()[1].ID
	w.killedAfterItsSave(func() {
		if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
			t.Fatal(done.Err)
		}
	})
	inForce := w.kept()
	locks, _ := filepath.Glob(filepath.Join(w.settings.StateDir, "history", "*.lock"))
	if len(locks) != 1 || os.Remove(locks[0]) != nil || os.Mkdir(locks[0], 0o700) != nil {
		t.Fatal(locks)
	}
	_, _, done := w.run(job.Job{Op: job.Restore, PastID: id})
	if !is(done.Err, protocol.ErrStorage) || !renewal.Same(w.kept(), inForce) {
		t.Errorf("%+v", done)
	}
}

// TestReplacedIsKept: a sign-in of Claude Code's that no job has seen is replaced by another, and can be had again.
func TestReplacedIsKept(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{false, true} {
		w := newWorld(t)
		before := w.signIn(time.Hour)
		next := w.server.Issue()
		r := store.Record{
			AccessToken:  protocol.NewSecret(next.AccessToken),
			RefreshToken: protocol.NewSecret(next.RefreshToken),
			Expiry:       next.Expiry,
		}
		if _, _, done := w.run(job.Job{Op: job.Put, SignIn: fresh, Force: true, Record: mustMarshal(t, r)}); done.Err != nil ||
			done.Result.Store != "claude-code" {
			t.Fatalf("%+v", done)
		}
		kept := w.past()
		if len(kept) != 2 || !kept[0].Current || !kept[1].Renewable {
			t.Fatalf("kept are %+v", kept)
		}
		if _, _, done := w.run(job.Job{Op: job.Restore, PastID: kept[1].ID}); done.Err != nil {
			t.Fatal(done.Err)
		}
		if r, _ := w.stored(); r.AccessToken.Reveal() != before.AccessToken {
			t.Errorf("in force is another than was")
		}
	}
}

// unreadable are contents of a record's file that nobody can read.
var unreadable = map[string]string{
	"empty":     "",
	"blank":     " \n",
	"truncated": `{"claudeAiOauth":{"accessToken":"fake-acc`,
	"no object": `[1, 2]`,
	"nonsense":  "\x00\xff fake",
	"huge":      strings.Repeat("fake ", store.MaxFile/4),
}

// copies are what is kept of what was written over.
func (w *world) copies() (texts []string) {
	paths, _ := filepath.Glob(filepath.Join(w.settings.StateDir, "broken", "*.copy"))
	for _, path := range paths {
		info, err := os.Stat(path)
		text, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || info.Mode().Perm() != 0o600 {
			w.t.Errorf("%s: %v, %v, %v", path, info, err, readErr)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// TestRestoreOverBroken: what a person asks for is written over what nobody can read, of which a copy is kept. By itself nothing
// is.
func TestRestoreOverBroken(t *testing.T) {
	t.Parallel()
	for name, text := range unreadable {
		for _, kind := range []string{"claude-code", "file"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.settings.Store = store.Kind(kind)
				s := w.server.Issue()
				if _, _, done := w.run(job.Job{Op: job.Put, Record: mustMarshal(t, record(s, time.Now().Add(time.Hour)))}); done.Err != nil {
					t.Fatal(done.Err)
				}
				path := w.credentials()
				if kind == "file" {
					path = filepath.Join(w.settings.DataDir, w.settings.Name+".json")
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); !is(done.Err, protocol.ErrInvalid) {
					t.Errorf("a renewal: %+v, %v", done.Result, done.Err)
				}
				other := job.Job{Op: job.Put, Record: mustMarshal(t, record(w.server.Issue(), time.Now().Add(time.Hour)))}
				if _, _, done := w.run(other); !is(done.Err, protocol.ErrInvalid) || !strings.Contains(done.Err.Hint, "--force") {
					t.Errorf("a put without force: %+v, %v", done.Result, done.Err)
				}
				if left, _ := os.ReadFile(path); string(left) != text || w.copies() != nil {
					t.Fatalf("the file holds %q now", left)
				}

				past := w.past()
				if len(past) != 1 || past[0].Current {
					t.Fatalf("kept are %+v", past)
				}
				_, _, done := w.run(job.Job{Op: job.Restore, PastID: past[0].ID})
				if done.Err != nil || done.Result.Token.Reveal() != s.AccessToken {
					t.Fatalf("got %+v, %v", done.Result, done.Err)
				}
				wanted := strings.TrimSpace(text) != ""
				if copies := w.copies(); wanted != (len(copies) == 1 && copies[0] == text) ||
					wanted != strings.Contains(done.Result.Notice, "is kept in "+w.settings.StateDir) {
					t.Errorf("copies are %q; said is %q", copies, done.Result.Notice)
				}

				for _, j := range []job.Job{{Op: job.Put, Force: true, Record: other.Record},
					{Op: job.Put, SignIn: true, Record: other.Record}} {
					if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					if _, _, done := w.run(j); done.Err != nil || !done.Result.Saved {
						t.Errorf("sign in %v: %+v, %v", j.SignIn, done.Result, done.Err)
					}
				}
				if _, _, done := w.run(job.Job{Op: job.Delete}); done.Err != nil || w.copies() != nil {
					t.Errorf("deleted: %v, and copies are left: %d", done.Err, len(w.copies()))
				}
			})
		}
	}
}

// TestRestoreKeepsOtherKeys: of a file whose sign-in alone is broken the rest stays.
func TestRestoreKeepsOtherKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.known(time.Hour)
	w.write([]byte(`{"mcpOAuth": {"fake": 1}, "claudeAiOauth": {"accessToken": 7}}`))
	past := w.past()
	if len(past) != 1 {
		t.Fatalf("kept are %+v", past)
	}
	if _, _, done := w.run(job.Job{Op: job.Restore, PastID: past[0].ID}); done.Err != nil {
		t.Fatal(done.Err)
	}
	if data, _ := os.ReadFile(w.credentials()); !strings.Contains(string(data), `{"mcpOAuth": {"fake": 1}`) {
		t.Errorf("the file holds %s", data)
	}
}

// TestRestoreKept: a record that was set aside because somebody else's had taken its place is listed, comes back, and goes when
// the profile is signed out.
func TestRestoreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, base := w.known(time.Hour)
	st := store.NewClaudeCode(w.settings.ConfigDir)
	lost := record(w.server.Issue(), time.Now().Add(time.Hour))
	w.signIn(time.Hour) // an account was switched while the record was renewed
	if err := store.Spill(w.settings.StateDir, st, store.Version(base), lost); err != nil {
		t.Fatal(err)
	}
	if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil ||
		!strings.Contains(done.Result.Note, "see: ccagent restore -p fake") {
		t.Fatalf("%+v, %v", done.Result, done.Err)
	}
	if a := ProbeHome(t.Context(), w.settings); a.Kept != 1 {
		t.Errorf("doctor sees %+v", a)
	}
	if n := store.CountSetAside(w.settings.StateDir, st); n != 1 {
		t.Fatalf("%d are kept", n)
	}
	id := store.Past{Record: lost}.ID()
	find := func() (found protocol.PastSignIn) {
		for _, p := range w.past() {
			if p.ID == id {
				found = p
			}
		}
		return found
	}
	if p := find(); !p.Renewable || p.Current || p.Problem != "" || p.Saved.IsZero() {
		t.Fatalf("listed is %+v", p)
	}
	_, _, done := w.run(job.Job{Op: job.Restore, PastID: id})
	if done.Err != nil || done.Result.Token.Reveal() != lost.AccessToken.Reveal() {
		t.Fatalf("got %+v, %v", done.Result, done.Err)
	}
	if p := find(); p.ID != "" ||
		store.CountSetAside(w.settings.StateDir, st) != 0 { // the file adds its subscription, so that it has another id
		t.Errorf("still set aside is %+v", p)
	}

	// It moves with the record, and goes with it.
	if err := store.Spill(w.settings.StateDir, st, store.Version{1},
		record(w.server.Issue(), time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if _, _, done := w.run(job.Job{Op: job.Move, Target: "file", Force: true}); done.Err != nil {
		t.Fatal(done.Err)
	}
	file := store.NewFile(w.settings.DataDir, w.settings.Name)
	was, now := store.CountSetAside(w.settings.StateDir, st), store.CountSetAside(w.settings.StateDir, file)
	if was != 0 || now != 1 {
		t.Errorf("set aside at the old place are %d, at the new one %d", was, now)
	}
	if _, _, done := w.run(job.Job{Op: job.Logout, KeepRemote: true}); done.Err != nil ||
		store.CountSetAside(w.settings.StateDir, file) != 0 {
		t.Errorf("signed out: %v, and %d are left", done.Err, store.CountSetAside(w.settings.StateDir, file))
	}
}

// TestBrokenView: the view of a guarded profile is written over what is broken, and a copy of that is kept.
func TestBrokenView(t *testing.T) {
	t.Parallel()
	for _, op := range []job.Op{job.Renew, job.Show, job.Guard} {
		w, base := newGuarded(t)
		r, _ := w.own()
		w.write([]byte(unreadable["truncated"]))
		_, _, done := w.run(job.Job{Op: op, Base: base})
		if said := done.Result.Note + done.Result.Notice; done.Err != nil ||
			!strings.Contains(said, "is kept in "+w.settings.StateDir) {
			t.Errorf("%v: %+v, %v", op, done.Result, done.Err)
		}
		w.wantView(r.AccessToken.Reveal())
		if copies := w.copies(); len(copies) != 1 || copies[0] != unreadable["truncated"] {
			t.Errorf("%v: copies are %q", op, copies)
		}
	}
}

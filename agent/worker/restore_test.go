package worker

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
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

// TestRestoreAfterAKill: the worker that saved the record in force died before the history had it, where its predecessor stands as if it
// were good. That one is not sent once more, and the one in force is kept when another takes its place.
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
	if _, _, done := w.run(job.Job{Op: job.Restore, PastID: id}); done.Err != nil || !same(w.kept(), store.Record{
		AccessToken: protocol.NewSecret(first.AccessToken), RefreshToken: protocol.NewSecret(first.RefreshToken)}) {
		t.Fatalf("the first sign-in: %+v", done)
	}
	back := w.past()[1]
	if !back.Renewable || back.Current {
		t.Errorf("the one that was in force is %+v", back)
	}
	if _, _, done := w.run(job.Job{Op: job.Restore, PastID: back.ID}); done.Err != nil || !same(w.kept(), inForce) {
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
	if !is(done.Err, protocol.ErrStorage) || !same(w.kept(), inForce) {
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
		r := store.Record{AccessToken: protocol.NewSecret(next.AccessToken), RefreshToken: protocol.NewSecret(next.RefreshToken), Expiry: next.Expiry}
		if _, _, done := w.run(job.Job{Op: job.Put, SignIn: fresh, Force: true, Record: mustMarshal(t, r)}); done.Err != nil || done.Result.Store != "claude-code" {
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

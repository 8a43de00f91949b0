package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// blocks make Claude Code's home one in which nothing can be saved, as a look tells.
var blocks = map[string]func(w *world){
	"the write lock is a file": func(w *world) {
		os.WriteFile(filepath.Join(w.settings.ConfigDir, ".storage-write.lock"), nil, 0o600)
	},
	"a volume of Kubernetes": func(w *world) {
		data, _ := os.ReadFile(w.credentials())
		day := filepath.Join(w.settings.ConfigDir, "..2026_01_01")
		os.Mkdir(day, 0o700)
		os.WriteFile(filepath.Join(day, ".credentials.json"), data, 0o600)
		os.Remove(w.credentials())
		os.Symlink("..2026_01_01", filepath.Join(w.settings.ConfigDir, "..data"))
		os.Symlink("..data/.credentials.json", w.credentials())
	},
}

// TestNotRenewedWhereNotSaved: where the new record could not be saved no refresh token is sent, whatever asks for a renewal. The
// token in hand serves while it lives, and while it does the job says what is wrong.
func TestNotRenewedWhereNotSaved(t *testing.T) {
	t.Parallel()
	for name, block := range blocks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.signIn(time.Hour)
			block(w)
			_, _, done := w.run(job.Job{Op: job.Renew})
			if done.Err != nil || done.Result.Token.Reveal() != s.AccessToken ||
				!strings.Contains(done.Result.Note, "the next token can't be saved") {
				t.Errorf("while the token lives: %+v, %v", done.Result, done.Err)
			}
			base := done.Result.Version
			_, _, done = w.run(job.Job{Op: job.Renew, Base: base, MinTTL: 2 * time.Hour})
			if !is(done.Err, protocol.ErrStorage) || done.Result.Token.Reveal() != s.AccessToken || !done.Result.Saved || !done.Local {
				t.Errorf("when it is to be renewed: %+v, %v", done.Result, done.Err)
			}
			if n := w.server.Counts().Requests; n != 0 {
				t.Errorf("the provider was asked %d times", n)
			}
		})
		t.Run(name+", a stub", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, base := w.known(time.Hour)
			asked := w.server.Counts().Requests
			w.write(stubFile)
			block(w)
			for range renewal.MaxRepairs + 1 { // what was not tried does not count
				_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
				if !is(done.Err, protocol.ErrStorage) {
					t.Errorf("%+v, %v", done.Result, done.Err)
				}
			}
			if n := w.server.Counts().Requests - asked; n != 0 {
				t.Errorf("the provider was asked %d times", n)
			}
		})
	}
}

// TestOurOwnIsSpilled: a store of ours that can't be written is renewed while a spill can take the record.
func TestOurOwnIsSpilled(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("modes don't stop root")
	}
	w := newWorld(t)
	w.signIn(-time.Minute)
	r, _ := w.stored()
	w.settings.Store = "file"
	st := store.NewFile(w.settings.DataDir, w.settings.Name)
	if _, err := st.Save(t.Context(), r, store.Version{}); err != nil {
		t.Fatal(err)
	}
	os.Chmod(w.settings.DataDir, 0o500)
	t.Cleanup(func() { os.Chmod(w.settings.DataDir, 0o700) })
	_, handOver, done := w.run(job.Job{Op: job.Renew})
	if !done.Result.Renewed || done.Result.Saved || handOver.Result.Record.Empty() || w.aside("fake") != 1 {
		t.Fatalf("%+v, %v, %d spills", done.Result, done.Err, w.aside("fake"))
	}
	os.Chmod(w.settings.DataDir, 0o700)
	_, _, again := w.run(job.Job{Op: job.Renew})
	if again.Err != nil || again.Result.Token.Reveal() != done.Result.Token.Reveal() || w.aside("fake") != 0 {
		t.Errorf("%+v, %v", again.Result, again.Err)
	}
}

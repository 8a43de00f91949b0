package worker

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// newMover has an oidc profile with two sign-ins behind it, store auto, and a key file for store encrypted.
func newMover(t *testing.T) *world {
	t.Helper()
	w := newGateway(t, oauthtest.Options{ClientID: "fake-client"})
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w.settings.Store, w.settings.Identity = "auto", filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(w.settings.Identity, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, done := w.put(w.server.Issue(), nil); done.Err != nil || done.Result.Store != "file" {
			t.Fatalf("%+v", done)
		}
	}
	return w
}

func (w *world) move(to string) job.Report {
	w.t.Helper()
	_, _, done := w.run(job.Job{Op: job.Move, Target: to})
	return done
}

// encrypted is where the profile's encrypted record is.
func (w *world) encrypted(suffix string) string {
	return filepath.Join(w.settings.DataDir, "encrypted", w.settings.Name+suffix)
}

// TestMoveTakesTheHistory: what is known of earlier sign-ins goes with the record, or nothing goes.
func TestMoveTakesTheHistory(t *testing.T) {
	t.Parallel()
	w := newMover(t)
	before := w.past()
	if len(before) != 2 {
		t.Fatalf("kept are %+v", before)
	}

	// It can't be kept where the record is to go.
	if err := os.MkdirAll(filepath.Join(w.encrypted("+past.age"), "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	record := w.kept()
	if done := w.move("encrypted"); !is(done.Err, protocol.ErrStorage) || !renewal.Same(w.kept(), record) || len(w.past()) != 2 {
		t.Fatalf("%+v, and %d are kept", done, len(w.past()))
	}
	if _, err := os.Stat(w.encrypted(".age")); !os.IsNotExist(err) {
		t.Errorf("a copy is left: %v", err)
	}
	if err := os.RemoveAll(w.encrypted("+past.age")); err != nil {
		t.Fatal(err)
	}

	// It is of a later version, and stays untouched.
	files, _ := filepath.Glob(filepath.Join(w.settings.StateDir, "history", "*.json"))
	if len(files) != 1 {
		t.Fatal(files)
	}
	known, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	later := bytes.Replace(known, []byte(`"version":1`), []byte(`"version":7`), 1)
	if err := os.WriteFile(files[0], later, 0o600); err != nil {
		t.Fatal(err)
	}
	if done := w.move("encrypted"); !is(done.Err, protocol.ErrInvalid) || !strings.Contains(done.Err.Message, "version 7") ||
		!renewal.Same(w.kept(), record) {
		t.Fatalf("%+v", done)
	}
	if now, _ := os.ReadFile(files[0]); !bytes.Equal(now, later) {
		t.Errorf("it was changed to %s", now)
	}
	if err := os.WriteFile(files[0], known, 0o600); err != nil {
		t.Fatal(err)
	}

	if done := w.move("encrypted"); done.Err != nil || done.Result.Store != "encrypted" || done.Result.Notice != "" {
		t.Fatalf("%+v", done)
	}
	after := w.past()
	if len(after) != 2 || after[0].ID != before[0].ID || after[1].ID != before[1].ID {
		t.Errorf("kept were %+v and are %+v", before, after)
	}
	if left, _ := filepath.Glob(filepath.Join(w.settings.StateDir, "history", "*.json")); left != nil {
		t.Errorf("left are %s", left)
	}
}

// TestSignedOutOfCopies: what an interrupted move has left elsewhere is not found by the next request.
func TestSignedOutOfCopies(t *testing.T) {
	t.Parallel()
	for _, op := range []job.Op{job.Logout, job.Delete} {
		w := newMover(t)
		file := filepath.Join(w.settings.DataDir, w.settings.Name+".json")
		copied, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if done := w.move("encrypted"); done.Err != nil {
			t.Fatal(done.Err)
		}
		if err := os.WriteFile(file, copied, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, done := w.run(job.Job{Op: op}); done.Err != nil {
			t.Fatal(done.Err)
		}
		if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) {
			t.Errorf("after op %d: %+v", op, done)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("after op %d the copy is there: %v", op, err)
		}
	}
}

// TestLogoutRevokesWhatWasSpilled: the newest refresh token is in a spill file, and the one that is stored is spent.
func TestLogoutRevokesWhatWasSpilled(t *testing.T) {
	t.Parallel()
	w := newMover(t)
	stored := w.kept()
	s, v, err := store.NewFile(w.settings.DataDir, w.settings.Name).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, done := w.run(job.Job{Op: job.Renew, Force: true}); done.Err != nil {
		t.Fatal(done.Err)
	}
	newest := w.kept()
	// As a worker leaves it whose save failed and whose agent is gone.
	st := store.NewFile(w.settings.DataDir, w.settings.Name)
	_, now, err := st.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Save(t.Context(), s, now); err != nil || !renewal.Same(w.kept(), stored) {
		t.Fatal(err)
	}
	if err := store.Spill(w.settings.StateDir, st, v, newest); err != nil {
		t.Fatal(err)
	}
	if _, _, done := w.run(job.Job{Op: job.Logout}); done.Err != nil {
		t.Fatal(done.Err)
	}
	if w.server.Live(newest.AccessToken.Reveal()) {
		t.Error("the newest token is still good")
	}
	if w.aside("fake") != 0 {
		t.Error("a spill file is left")
	}
}

// standing is what a profile's stores hold, by kind: nothing of the rest is compared.
func (w *world) standing() map[string]string {
	held := map[string]string{}
	for _, st := range []store.Store{
		store.NewClaudeCode(w.settings.ConfigDir), store.NewFile(w.settings.DataDir, w.settings.Name),
	} {
		if r, _, err := st.Load(w.t.Context()); err == nil {
			held[string(st.Place().Kind)] = r.AccessToken.Reveal() + " " + r.RefreshToken.Reveal()
		}
	}
	choice, _ := os.ReadFile(filepath.Join(w.settings.StateDir, "auto", w.settings.Name+".json"))
	held["choice"] = string(choice)
	return held
}

// TestMoveWholeOrNotAtAll has each step of a guard and of a move fail: afterwards all is as it was before, or the error says that
// it is not.
func TestMoveWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	writeLock := func(w *world) string { return filepath.Join(w.settings.ConfigDir, ".storage-write.lock") }
	blocked := func(path func(w *world) string) func(w *world) { // a folder with something in it is in the way
		return func(w *world) {
			if err := os.MkdirAll(filepath.Join(path(w), "in the way"), 0o700); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	state := func(parts ...string) func(w *world) string {
		return func(w *world) string { return filepath.Join(append([]string{w.settings.StateDir}, parts...)...) }
	}
	tests := map[string]struct {
		guarded bool // before
		job     job.Job
		fault   func(w *world)
		want    error
	}{
		"guard: the view can't be written": {
			job:  job.Job{Op: job.Guard, Target: "file"},
			want: protocol.ErrStorage,
			fault: func(w *world) {
				if err := os.WriteFile(writeLock(w), nil, 0o600); err != nil { // where Claude Code has a folder
					w.t.Fatal(err)
				}
			},
		},
		"guard: our store can't be written": {
			job:  job.Job{Op: job.Guard, Target: "file"},
			want: protocol.ErrInvalid,
			fault: blocked(func(w *world) string {
				return filepath.Join(w.settings.DataDir, w.settings.Name+".json")
			}),
		},
		"guard: the view's mark can't be written": {
			job:  job.Job{Op: job.Guard, Target: "file"},
			want: protocol.ErrStorage,
			fault: func(w *world) {
				if err := os.WriteFile(state("views")(w), nil, 0o600); err != nil {
					w.t.Fatal(err)
				}
			},
		},
		"move: the place can't be written down": {
			job:  job.Job{Op: job.Move, Target: "file", Force: true},
			want: protocol.ErrStorage,
			fault: func(w *world) {
				if err := os.Remove(state("auto", w.settings.Name+".json")(w)); err != nil {
					w.t.Fatal(err)
				}
				blocked(state("auto", w.settings.Name+".json"))(w)
			},
		},
		"move: the old record can't be removed": {
			job:  job.Job{Op: job.Move, Target: "file", Force: true},
			want: protocol.ErrStorage,
			fault: func(w *world) {
				if err := os.WriteFile(writeLock(w), nil, 0o600); err != nil {
					w.t.Fatal(err)
				}
			},
		},
		"undo: Claude Code's file can't be written": {
			guarded: true,
			job:     job.Job{Op: job.Move, Target: "claude-code", Force: true},
			want:    protocol.ErrStorage,
			fault: func(w *world) {
				if err := os.WriteFile(writeLock(w), nil, 0o600); err != nil {
					w.t.Fatal(err)
				}
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.guarded {
				w, _ = newGuarded(t)
			} else {
				w.known(time.Hour)
				w.settings.Views = guarding
			}
			tt.fault(w)
			before := w.standing()
			_, _, done := w.run(tt.job)
			if !is(done.Err, tt.want) {
				t.Fatalf("got %+v, %v; want %v", done.Result, done.Err, tt.want)
			}
			if after := w.standing(); !maps.Equal(before, after) {
				t.Errorf("before %v\nafter  %v", before, after)
			}
			if !tt.guarded && store.NewClaudeCode(w.settings.ConfigDir).View(w.settings.StateDir).Known() {
				t.Error("the file is taken for a view")
			}
		})
	}
}

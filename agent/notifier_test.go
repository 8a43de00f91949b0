package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// shelf is a Runner whose record is a file: its content is the token, and a missing one is a sign-out.
type shelf struct {
	path string
	jobs atomic.Int32
	gate chan struct{} // not nil: every job but the first waits for it
}

func (s *shelf) Run(context.Context, job.Job, func(job.Result)) (job.Report, error) {
	if n := s.jobs.Add(1); n > 1 && s.gate != nil {
		<-s.gate
	}
	r := job.Result{Store: "claude-code", Location: s.path, Watch: []string{s.path}, Saved: true, Expiry: time.Now().Add(time.Hour)}
	text, err := os.ReadFile(s.path)
	if err != nil {
		r.Gone = true
		return job.Report{
			Kind:   job.Done,
			Result: r,
			Err:    &protocol.Error{Code: protocol.CodeLoginRequired, Message: "fake sign-out"},
		}, nil
	}
	r.Token, r.Version = protocol.NewSecret(string(text)), job.Version{byte(len(text))}
	return job.Report{Kind: job.Done, Result: r}, nil
}

// TestNotifier has another program replace the record, remove it and sign in again. No request causes a job, and none is
// waited for half a minute.
func TestNotifier(t *testing.T) {
	s := &shelf{path: filepath.Join(t.TempDir(), "record")}
	write := func(text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(s.path+".new", []byte(text), 0o600), os.Rename(s.path+".new", s.path)); err != nil {
			t.Fatal(err)
		}
	}
	write("fake-1")
	a := New(Options{Runner: s, Load: func() (Config, error) {
		return Config{
			Default:  "claude",
			Profiles: []Profile{{Name: "claude", Provider: "claude", Store: "auto", Settings: []byte("{}")}},
		}, nil
	}})
	defer a.Close(context.Background())
	token := func() string {
		got, err := a.Token(t.Context(), protocol.TokenRequest{})
		if err != nil && !errors.Is(err, protocol.ErrLoginRequired) {
			t.Fatal(err)
		}
		return got.Value.Reveal()
	}
	if got := token(); got != "fake-1" {
		t.Fatalf("got %q", got)
	}
	until := func(want string) {
		t.Helper()
		for begun := time.Now(); token() != want; time.Sleep(5 * time.Millisecond) {
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("%q is still served, want %q", token(), want)
			}
		}
	}
	write("fake-22")
	until("fake-22")
	os.Remove(s.path)
	until("")
	write("fake-333")
	until("fake-333")
	if n := s.jobs.Load(); n > 20 {
		t.Errorf("%d jobs for three changes", n)
	}
}

// TestRereadIsNoRenewal has the record written by another program: to read it again is no renewal, and nobody is told of one.
func TestRereadIsNoRenewal(t *testing.T) {
	s := &shelf{path: filepath.Join(t.TempDir(), "record"), gate: make(chan struct{})}
	if err := os.WriteFile(s.path, []byte("fake-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := New(Options{Runner: s, Load: func() (Config, error) {
		return Config{
			Default:  "claude",
			Profiles: []Profile{{Name: "claude", Provider: "claude", Store: "auto", Settings: []byte("{}")}},
		}, nil
	}})
	defer a.Close(context.Background())
	defer close(s.gate)
	ask(t, a, protocol.TokenRequest{})
	if err := errors.Join(os.WriteFile(s.path+".new", []byte("fake-22"), 0o600), os.Rename(s.path+".new", s.path)); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); s.jobs.Load() < 2; time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 40*time.Second {
			t.Fatal("nobody reads it again")
		}
	}
	if p := profileOf(t, a); p.State != protocol.StateLive {
		t.Errorf("while it is read the state is %v", p.State)
	}
}

// TestSnapshotBeforeUse: where the kernel tells nothing, the next request sees what others have written all the same, on every
// kind of file system. Where nothing was written, that allocates nothing.
func TestSnapshotBeforeUse(t *testing.T) {
	for _, local := range []bool{true, false} {
		s := &shelf{path: filepath.Join(t.TempDir(), "record")}
		os.WriteFile(s.path, []byte("fake-1"), 0o600)
		a := New(Options{Runner: s, Load: func() (Config, error) {
			return Config{
				Default:  "claude",
				Profiles: []Profile{{Name: "claude", Provider: "claude", Store: "auto", Settings: []byte("{}")}},
			}, nil
		}})
		defer a.Close(context.Background())
		a.notifier.mu.Lock()
		a.notifier.failed = true
		a.notifier.mu.Unlock()
		e := a.table.Load().find("", ours)
		known := func() *snapshot { // once it is known that nobody has written since
			for begun := time.Now(); ; time.Sleep(time.Millisecond) {
				if v := e.snapshot.Load(); v != nil && v.names != nil {
					return v
				}
				if time.Since(begun) > 20*time.Second {
					t.Fatal("the record's file is never known")
				}
			}
		}
		for _, text := range []string{"fake-1", "fake-22", "fake-333"} { // one right after the other
			os.WriteFile(s.path, []byte(text), 0o600)
			if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Value.Reveal() != text {
				t.Fatalf("got %q, %v, want %s", got.Value.Reveal(), err, text)
			}
		}
		for i, text := range []string{"fake-1", "fake-22", "fake-333"} {
			os.WriteFile(s.path, []byte(text), 0o600)
			if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Value.Reveal() != text {
				t.Fatalf("request %d: got %q, %v, want %s", i, got.Value.Reveal(), err, text)
			}
			v := known()
			v = newSnapshot(v.fileStates, true)
			if n := testing.AllocsPerRun(100, func() { v.knownUnchanged() }); n != 0 || !v.knownUnchanged() {
				t.Errorf("%v allocations to compare a snapshot", n)
			}
			e.snapshot.Store(newSnapshot(v.fileStates, local))
			if e.snapshot.Load().knownUnchanged() != local {
				t.Error("a request would wait for a file system that may hang, where everybody waits for it")
			}
		}
		os.Remove(s.path)
		if got, err := a.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrLoginRequired) {
			t.Errorf("signed out, and got %q, %v", got.Value.Reveal(), err)
		}
	}
}

// TestMissingIsNoProof has a record removed while a job reads it: a file that is missing afterwards does not count as seen so.
func TestMissingIsNoProof(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	before := statesOf([]string{path})
	if before.changed() {
		t.Error("still missing, and it counts as changed")
	}
	if statesOf([]string{path}).olderThan(time.Now().Add(time.Hour), true) {
		t.Error("a missing file proves that it was missing before")
	}
	if !unknownStates([]string{path}).changed() {
		t.Error("an unknown state equals a missing file")
	}
}

// TestHangingFolder: while one request waits for a file system that hangs, no other does, and a failure stands meanwhile. A wait
// with the profile's mutex held would stop the clock, and with it every other profile.
func TestHangingFolder(t *testing.T) {
	s := &shelf{path: filepath.Join(t.TempDir(), "record")}
	a := New(Options{Runner: s, Load: func() (Config, error) {
		return Config{
			Default:  "claude",
			Profiles: []Profile{{Name: "claude", Provider: "claude", Store: "auto", Settings: []byte("{}")}},
		}, nil
	}})
	defer a.Close(context.Background())
	request := func() error {
		_, err := a.Token(t.Context(), protocol.TokenRequest{})
		return err
	}
	if err := request(); !errors.Is(err, protocol.ErrLoginRequired) {
		t.Fatalf("signed out, and the answer is %v", err)
	}
	e := a.table.Load().find("", ours)
	hanging := newSnapshot(statesOf([]string{filepath.Join(t.TempDir(), "other")}), false)
	hanging.checking.Store(true)
	e.mu.Lock()
	e.snapshot.Store(hanging)
	e.mu.Unlock()
	os.WriteFile(hanging.paths[0], []byte("fake-1"), 0o600)
	jobs := s.jobs.Load()
	if err := request(); !errors.Is(err, protocol.ErrLoginRequired) || s.jobs.Load() != jobs {
		t.Errorf("while the file system hangs the answer is %v, after %d more jobs", err, s.jobs.Load()-jobs)
	}
	hanging.checking.Store(false)
	os.WriteFile(s.path, []byte("fake-1"), 0o600)
	if err := request(); err != nil {
		t.Errorf("once it answers again: %v", err)
	}
}

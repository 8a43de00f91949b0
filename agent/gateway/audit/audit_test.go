package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func begin(t *testing.T, folder string) *Log {
	t.Helper()
	l, err := Open(folder, Began{PID: int32(os.Getpid()), Routes: []string{"llm"}, Listen: "here"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// read returns the paths of all requests, and "began" for the beginning of a session.
func read(t *testing.T, folder, session string) (paths []string, lost int) {
	t.Helper()
	if err := Read(folder, session, func(e Entry) error {
		lost += e.Lost
		if e.Began != nil {
			e.Path = "began"
		}
		paths = append(paths, e.Path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return paths, lost
}

func TestSessions(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "a[b]", "gateway")
	if paths, _ := read(t, folder, ""); paths != nil {
		t.Errorf("a folder that is missing holds %q", paths)
	}
	one, two, silent := begin(t, folder), begin(t, folder), begin(t, folder)
	one.Add(Entry{Path: "/1", Time: time.Now()})
	two.Add(Entry{Path: "/2", Time: time.Now()})
	running, err := Running(folder)
	if err != nil || len(running) != 3 || running[0].Began.Listen != "here" {
		t.Errorf("%+v run, %v", running, err)
	}
	for _, l := range []*Log{one, one, silent} {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if running, _ := Running(folder); len(running) != 1 || running[0].Session != two.Session {
		t.Errorf("%+v run, want %s", running, two.Session)
	}
	two.Close()
	if paths, _ := read(t, folder, ""); fmt.Sprint(paths) != "[began /1 began /2]" {
		t.Errorf("all: %q", paths)
	}
	if paths, _ := read(t, folder, one.Session); fmt.Sprint(paths) != "[began /1]" {
		t.Errorf("one: %q", paths)
	}
	one.Add(Entry{Path: "/late"}) // a request that outlives its session
}

// TestRunningWhileAFileIsFull: a session runs also in the moment in which its file becomes the older one.
func TestRunningWhileAFileIsFull(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l, err := newLog(folder, Began{PID: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	full := strings.TrimSuffix(l.path, newest) + older
	if err := os.Rename(l.path, full); err != nil { // as the writer does before it makes the next file
		t.Fatal(err)
	}
	if running, err := Running(folder); len(running) != 1 || err != nil {
		t.Errorf("%+v run, %v", running, err)
	}
	if err := os.Rename(full, l.path); err != nil {
		t.Fatal(err)
	}
	l.turn()
	if running, err := Running(folder); len(running) != 1 || err != nil {
		t.Errorf("afterwards %+v run, %v", running, err)
	}
}

// TestBounded: a session has two files at most, neither is too large, and the newest lines are there.
func TestBounded(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	l := begin(t, folder)
	long := strings.Repeat("x", 1000)
	const n = 3 * maxSize / 1000
	for i := range n {
		l.Add(Entry{Path: fmt.Sprintf("/%d/%s", i, long)})
		for len(l.waiting) > maxWaiting/2 {
			time.Sleep(time.Millisecond)
		}
	}
	l.Close()
	files, _ := os.ReadDir(folder)
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > maxSize || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v bytes, mode %v, %v", f.Name(), info.Size(), info.Mode(), err)
		}
	}
	paths, lost := read(t, folder, "")
	if len(files) != 2 || len(paths) < n/3 || paths[0] != "began" || lost != 0 {
		t.Fatalf("%d files, %d lines of %d, %d lost", len(files), len(paths), n, lost)
	}
	for i, path := range paths[1:] {
		if want := fmt.Sprintf("/%d/", n-len(paths)+1+i); !strings.HasPrefix(path, want) {
			t.Fatalf("line %d is %.20q, want %s", i, path, want)
		}
	}
}

// TestFullDisk: a line that can't be written is counted, and leaves no half of itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var notices []error
	l, err := newLog(folder, Began{}, func(err error) { notices = append(notices, err) })
	if err != nil {
		t.Fatal(err)
	}
	l.put(Entry{Path: "/before"})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	good := l.file
	l.file = full
	for range 3 {
		l.put(Entry{Path: "/lost"})
	}
	l.file = good
	l.put(Entry{Path: "/after"})
	l.Close()
	paths, lost := read(t, folder, "")
	if fmt.Sprint(paths) != "[began /before /after]" || lost != 3 {
		t.Errorf("%q, %d lost", paths, lost)
	}
	if len(notices) != 1 || !strings.Contains(notices[0].Error(), unix.ENOSPC.Error()) {
		t.Errorf("the notices are %v", notices)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	running := begin(t, folder)
	old := time.Now().Add(-keepTime - time.Hour)
	for _, name := range []string{"a.jsonl", "a.1.jsonl", "young.jsonl", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "young.jsonl" {
			os.Chtimes(filepath.Join(folder, name), old, old)
		}
	}
	os.Chtimes(running.path, old, old)
	begin(t, folder)
	for name, want := range map[string]bool{"a.jsonl": false, "a.1.jsonl": false, "young.jsonl": true, "notes.txt": true,
		filepath.Base(running.path): true} {
		if _, err := os.Stat(filepath.Join(folder, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFollow: what is written later comes too, also from a session that begins later, and from one whose file is full meanwhile.
func TestFollow(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	one, err := newLog(folder, Began{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	one.put(Entry{Path: "/1"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	came := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, folder, "", func(e Entry) error {
			if e.Began == nil {
				came <- e.Path
			}
			return nil
		})
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-came; got != want {
			t.Fatalf("%s came, want %s", got, want)
		}
	}
	expect("/1")
	two := begin(t, folder)
	two.Add(Entry{Path: "/2"})
	expect("/2")
	one.size = maxSize // the next line begins another file
	one.put(Entry{Path: "/3"})
	expect("/3")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wrong := errors.New("fake")
	if err := Read(folder, "", func(Entry) error { return wrong }); err != wrong {
		t.Errorf("the reader's error became %v", err)
	}
}

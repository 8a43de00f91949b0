package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLogFileIsBounded has two writers write far more than the limit at the same time. There are never more than two files. Their
// size is limited, nobody else may read them, and no line is missing among the latest.
func TestLogFileIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "sub/agent.log")
	var writers sync.WaitGroup
	const lines, width = 25_000, 100
	for w := range 2 {
		l, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		writers.Go(func() {
			for i := range lines {
				line := fmt.Sprintf("%d %d ", w, i)
				if _, err := l.Write([]byte(line + strings.Repeat("x", width-len(line)-1) + "\n")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	files, err := filepath.Glob(dir + "/sub/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 2*maxLog || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes and mode %v", file, info.Size(), info.Mode())
		}
	}
	old, err := os.ReadFile(name + ".1")
	if err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for w := range 2 { // of each writer the lines from its first in these files on
		var got []int
		for line := range bytes.Lines(append(old, now...)) {
			var writer, n int
			if _, err := fmt.Sscanf(string(line), "%d %d ", &writer, &n); err != nil || len(line) != width {
				t.Fatalf("a broken line %.40q", line)
			}
			if writer == w {
				got = append(got, n)
			}
		}
		for i := range got {
			if got[i] != got[0]+i {
				t.Fatalf("writer %d: line %d comes after line %d", w, got[i], got[i-1])
			}
		}
	}
}

// TestLogFileWaitsForNobody: anybody who may read a log can lock it. That must not stop a writer.
func TestLogFileWaitsForNobody(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "agent.log")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reader, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := unix.Flock(int(reader.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 4096)
	for range 4 * maxLog / len(line) {
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Size() > 2*maxLog+int64(len(line)) {
			t.Fatalf("%v, %v", info, err)
		}
	}
}

// TestLogFileIsMadeAnew: a writer creates the file again if somebody has deleted it or moved it away.
func TestLogFileIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(path string) error{
		"deleted":                 os.Remove,
		"moved":                   func(path string) error { return os.Rename(path, path+".old") },
		"deleted with its folder": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"replaced":                func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state", "agent.log")
			l, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			l.Write([]byte("before\n"))
			if err := take(path); err != nil {
				t.Fatal(err)
			}
			l.Write([]byte("after\n"))
			if b, err := os.ReadFile(path); err != nil || string(b) != "after\n" {
				t.Errorf("the log has %q, %v", b, err)
			}
		})
	}
}

// TestLogFileOfAnother: in a folder like /tmp, somebody else may have created the file.
func TestLogFileOfAnother(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(path, victim string) error{
		"a link":             func(path, victim string) error { return os.Symlink(victim, path) },
		"a second name":      func(path, victim string) error { return os.Link(victim, path) },
		"writable by others": func(path, _ string) error { return os.WriteFile(path, nil, 0o622) },
		"somebody else's FIFO": func(path, victim string) error {
			if os.Geteuid() != 0 {
				return os.Symlink(victim, path) // root alone can make one
			}
			if err := errors.Join(unix.Mkfifo(path, 0o600), os.Chown(path, 1, 1)); err != nil {
				return err
			}
			reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
			t.Cleanup(func() { reader.Close() })
			return err
		},
		"somebody else's": func(path, _ string) error {
			if os.Geteuid() != 0 {
				return os.Symlink("/nonexistent", path) // root alone can make one
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Chown(path, 1, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "agent.log")
			if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := put(path, victim); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "writable") {
				if err := os.Chmod(path, 0o622); err != nil {
					t.Fatal(err)
				}
			}
			if l, err := Open(path); err == nil {
				l.Write([]byte("a line\n"))
				l.Close()
				t.Error("it is taken for a log")
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "untouched" {
				t.Errorf("the other file has %q, %v", b, err)
			}
		})
	}
}

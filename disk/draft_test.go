package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, tt := range []struct {
		data string
		mode fs.FileMode
	}{{"first", 0o644}, {"second", 0o600}, {"", 0o640}} {
		d, err := NewDraft(path, "file", tt.mode)
		check(t, err)
		if info, err := os.Stat(d.Temp()); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("before it is whole: %v, %v", info.Mode(), err)
		}
		check(t, d.Reserve(100))
		check(t, d.Replace([]byte(tt.data), Always))
		d.Discard()
		info, err := os.Stat(path)
		check(t, err)
		if contentOf(t, path) != tt.data || info.Mode().Perm() != tt.mode {
			t.Errorf("%q of mode %v", contentOf(t, path), info.Mode())
		}
	}
	if _, err := NewDraft(filepath.Join(path, "below"), "file", 0o600); err == nil || strings.Contains(err.Error(), tempMark) ||
		!strings.Contains(err.Error(), filepath.Join(path, "below")) {
		t.Errorf("%v: it names the temporary file, and not the one that it is for", err)
	}
	check(t, Write(path, []byte("kept"), Always))
	refused := errors.New("the lock was lost")
	if err := Write(path, []byte("another"), func() error { return refused }); err != refused || contentOf(t, path) != "kept" {
		t.Errorf("written in spite of its check: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(dir, ".file.ccagent-DEAD.tmp"), []byte("half"), 0o600))
	check(t, Write(path, []byte("last"), Always))
	check(t, WriteUnlocked(path, []byte("last of all")))
	if left := names(t, dir, "file"); left != nil || contentOf(t, path) != "last of all" {
		t.Errorf("left %v, and %q", left, contentOf(t, path))
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "large"), []byte("12345"), 0o600))
	for name, want := range map[string]error{
		"pipe": ErrNotRegular, ".": ErrNotRegular, "large": ErrTooLarge, "missing": fs.ErrNotExist,
	} {
		if got, err := Read(filepath.Join(dir, name), 4); !errors.Is(err, want) || got != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := Read(filepath.Join(dir, "large"), 5); err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTargetAndMissingFolder(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	check(t, err)
	check(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	check(t, os.Symlink("real/file", filepath.Join(dir, "link")))
	check(t, os.Symlink("gone/file", filepath.Join(dir, "lost")))
	check(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	if got, err := Target(filepath.Join(dir, "link")); err != nil || got != filepath.Join(dir, "real/file") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Target(filepath.Join(dir, "loop")); !errors.Is(err, unix.ELOOP) {
		t.Error(err)
	}
	for name, want := range map[string]string{"link": "", "lost": filepath.Join(dir, "gone"), "real/file": "", "loop": ""} {
		if got := MissingFolder(filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	_, err := os.Open("/nowhere/at all")
	got := Error("opening", "/nowhere/at all", err)
	if !errors.Is(got, protocol.ErrStorage) || strings.Count(got.Error(), "/nowhere") != 1 {
		t.Error(got)
	}
	if again := Error("writing", "/elsewhere", got); again != got {
		t.Error(again)
	}
	for err, want := range map[error]string{unix.ENOSPC: "free", unix.EROFS: "mount", unix.EACCES: "belong", unix.EISDIR: "move"} {
		if got := Hint(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q", err, got)
		}
	}
}

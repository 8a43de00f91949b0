package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRootGivesAwayItsOwnAlone: what root makes in a user's folder is given to the user. What the user has put there is not.
func TestRootGivesAwayItsOwnAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root alone gives files away")
	}
	t.Parallel()
	dir := t.TempDir()
	roots := filepath.Join(dir, "roots")
	check(t, os.WriteFile(roots, nil, 0o600))
	home := filepath.Join(dir, "home")
	check(t, os.Mkdir(home, 0o700))
	check(t, os.Chown(home, 1, 1))
	ours, link := filepath.Join(home, "ours"), filepath.Join(home, "link")
	check(t, os.Link(roots, link))
	moved := filepath.Join(home, "moved") // root's file, which the user has moved here
	check(t, os.WriteFile(moved, []byte("root's"), 0o600))
	for path, want := range map[string]uint32{ours: 1, link: 0, moved: 0} {
		l, err := TakeLock(context.Background(), path)
		check(t, err)
		var st unix.Stat_t
		check(t, unix.Stat(path, &st))
		check(t, l.Release())
		if st.Uid != want {
			t.Errorf("%s belongs to %d, want %d", filepath.Base(path), st.Uid, want)
		}
	}
	for name, want := range map[string]uint32{"empty": 1, "full": 0} {
		path := filepath.Join(home, name)
		check(t, os.Mkdir(path, 0o700))
		if name == "full" {
			check(t, os.WriteFile(filepath.Join(path, "root's"), nil, 0o644))
		}
		d, err := os.Open(path)
		check(t, err)
		giveToOwner(d, home)
		check(t, d.Close())
		var st unix.Stat_t
		check(t, unix.Stat(path, &st))
		if st.Uid != want {
			t.Errorf("the folder %s belongs to %d, want %d", name, st.Uid, want)
		}
	}
}

// TestLock runs alone: a process that another test starts has the locked file, too, until it runs its own program.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := TakeLock(t.Context(), path)
	check(t, err)
	check(t, l.Write([]byte("who holds it\n")))
	check(t, l.Write([]byte("me\n")))
	if got := contentOf(t, path); got != "me\n" {
		t.Errorf("it holds %q", got)
	}
	other, err := os.Open(path)
	check(t, err)
	defer other.Close()
	if taken, err := TryLock(other); taken || err != nil {
		t.Errorf("a lock that is held was taken: %v", err)
	}
	if !Locked(other) {
		t.Error("a lock that is held is said to be free")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := WaitLock(ctx, other); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited in vain, and %v", err)
	}
	if !l.StillAt(path) {
		t.Error("the lock file is there")
	}
	check(t, l.Release())
	if Locked(other) {
		t.Error("a lock that was given back is said to be held")
	}
	check(t, WaitLock(t.Context(), other))
	check(t, Unlock(other))

	l, err = TakeLock(t.Context(), path)
	check(t, err)
	defer l.Release()
	check(t, os.Remove(path))
	if l.StillAt(path) {
		t.Error("the lock file was removed")
	}
	check(t, os.WriteFile(path, nil, 0o600))
	if l.StillAt(path) {
		t.Error("another file has the name of the lock file")
	}
}

// TestLockWithoutWriting: where nothing can be written, what is there is locked.
func TestLockWithoutWriting(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("modes don't stop root")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	check(t, os.Chmod(dir, 0o500))
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	l, err := TakeLock(t.Context(), path)
	check(t, err)
	defer l.Release()
	if l.Name() != dir || !l.StillAt(path) {
		t.Errorf("%s is locked", l.Name())
	}
	if err := l.Write(nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("written: %v", err)
	}
	folder, err := os.Open(dir)
	check(t, err)
	defer folder.Close()
	if !Locked(folder) {
		t.Error("the folder is not locked")
	}
}

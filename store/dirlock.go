package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
)

// dirLock is one lock directory. While we hold it, it is open, so that no other directory can get its inode number.
type dirLock struct {
	path     string
	patience patience
	dir      *os.File // nil: not held

	// The directory of another holder as it has been since then.
	seen  os.FileInfo
	since time.Time
}

// observe remembers the directory of another holder, which info describes, if it was touched since the last call. A holder may
// set the same time again and again. That changes the time at which the file system last changed the entry.
func (l *dirLock) observe(info os.FileInfo) {
	if l.seen == nil || !os.SameFile(l.seen, info) ||
		!l.seen.ModTime().Equal(info.ModTime()) || disk.Changed(l.seen) != disk.Changed(info) {
		l.seen, l.since = info, time.Now()
	}
}

// abandoned reports whether a lock may be taken over although its owner is not known to be dead. If its time is in the future,
// that tells nothing: then only what we have seen counts.
func (l *dirLock) abandoned() bool {
	untouched := time.Since(l.since)
	return untouched > l.patience.watch &&
		(untouched > l.patience.stale || clockBeside(l.path).Sub(l.seen.ModTime()) > l.patience.stale)
}

// clockBeside is the time by the clock that gives files beside path their times. On a network file system that is the clock of
// the server.
func clockBeside(path string) time.Time {
	probe := path + ".ccagent-clock"
	os.Remove(probe) // one that a killed process has left
	if os.Mkdir(probe, 0o700) == nil {
		defer os.Remove(probe)
		if info, err := os.Lstat(probe); err == nil {
			return info.ModTime()
		}
	}
	return time.Now()
}

// take makes the directory, and waits for a living holder as long as ctx allows. dead, if not nil, reports whether the owner of
// an open lock directory is known to be dead.
func (l *dirLock) take(ctx context.Context, p pace, dead func(*os.File) bool) error {
	if err := disk.Changeable(filepath.Dir(l.path)); err != nil {
		return &lockError{err, true}
	}
	err := disk.Poll(ctx, p.first, p.last, func() (bool, error) {
		err := os.Mkdir(l.path, 0o700)
		if err == nil {
			err = l.open()
			return err == nil, err
		}
		if !errors.Is(err, fs.ErrExist) {
			return false, err
		}
		held, info, err := lookAt(l.path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if held != nil {
			defer held.Close()
		}
		l.observe(info)
		if dead != nil && held != nil && dead(held) || l.abandoned() {
			return false, takeAway(l.path, info)
		}
		return false, nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return busy(l.path, "Claude Code")
	}
	return &lockError{disk.Error("locking", l.path, err), disk.Unwritable(err)}
}

// lookAt opens the lock directory of another holder, so that no other directory can get its inode number meanwhile. It may belong
// to another user, if somebody has run Claude Code as root, and be closed to us: then held is nil, and info is all that there is.
func lookAt(path string) (held *os.File, info os.FileInfo, err error) {
	held, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		info, err = os.Lstat(path)
		return nil, info, err
	case err != nil:
		return nil, nil, err
	}
	if info, err = held.Stat(); err != nil {
		held.Close()
		return nil, nil, err
	}
	return held, info, nil
}

// lockError is a lock directory that can't be made.
type lockError struct {
	error
	unwritable bool
}

func (e *lockError) Unwrap() error { return e.error }

func (l *dirLock) open() error {
	d, err := os.OpenFile(l.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	l.dir = d
	return nil
}

// takeAway removes an abandoned lock. It is renamed first: if somebody else has removed it meanwhile, and made a new lock, that
// new lock was renamed, and gets its name back. No other process of ours is here at the same time, so the other name is free.
func takeAway(path string, abandoned os.FileInfo) error {
	aside := path + ".ccagent-stale"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if moved, err := os.Lstat(aside); err == nil && !os.SameFile(moved, abandoned) {
		if disk.RenameNew(aside, path) == nil {
			return nil
		}
	}
	return os.Remove(aside)
}

// check fails if the directory is not the one we made.
func (l *dirLock) check() error {
	if l.dir == nil {
		return nil
	}
	mine, err := l.dir.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Lstat(l.path); err == nil && os.SameFile(mine, now) {
			return nil
		}
	}
	return lost(l.path)
}

// touch shows that we are alive. It touches the directory that we have made, even if another one has its name by now.
func (l *dirLock) touch(now time.Time) {
	if l.dir != nil {
		tv := unix.NsecToTimeval(now.UnixNano())
		unix.Futimes(int(l.dir.Fd()), []unix.Timeval{tv, tv})
	}
}

// release removes the directory if it is ours. It touches it first, so that nobody takes it over between the check and the
// removal.
func (l *dirLock) release() error {
	if l.dir == nil {
		return nil
	}
	defer func() { l.dir = nil }()
	defer l.dir.Close()
	l.touch(time.Now())
	if l.check() != nil {
		return nil
	}
	if err := os.Remove(l.path); err != nil {
		return disk.Error("unlocking", l.path, err)
	}
	return nil
}

package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// TryLock takes the lock of an open file, flock(2), if no other open file has it. Whoever closes the file, or ends, gives it
// back.
func TryLock(f *os.File) (taken bool, err error) { return tryFlock(f, unix.LOCK_EX) }

func tryFlock(f *os.File, how int) (taken bool, err error) {
	for {
		switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, err
		}
	}
}

// WaitLock takes the lock of an open file, and waits for it as long as ctx allows: then the error is that of ctx.
func WaitLock(ctx context.Context, f *os.File) error {
	return Poll(ctx, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) { return TryLock(f) })
}

// Locked reports whether another open file has the lock.
func Locked(f *os.File) bool {
	taken, err := tryFlock(f, unix.LOCK_SH)
	if taken {
		Unlock(f)
	}
	return !taken && err == nil
}

// Unlock gives the lock of an open file back.
func Unlock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// Poll calls try until it is done or fails, or ctx ends: at once, after first, and then ever less often, up to every last.
func Poll(ctx context.Context, first, last time.Duration, try func() (done bool, err error)) error {
	for wait := first; ; wait = min(2*wait, last) {
		if done, err := try(); done || err != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// Lock is a lock file that this process has locked. Nobody deletes a lock file: a lock on a deleted file locks nothing.
type Lock struct {
	file     *os.File
	readOnly error // why nothing can be written to the file; nil: it can
}

// TakeLock locks the lock file at path, which is made where it is missing, and waits as long as ctx allows: then the error is
// that of ctx. Where nothing can be written the file is locked as it is, or its folder if the file is missing.
func TakeLock(ctx context.Context, path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	var readOnly error
	if err != nil && Unwritable(err) {
		readOnly = err
		if f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
			f, err = os.Open(filepath.Dir(path))
		}
	}
	if err != nil {
		return nil, err
	}
	giveToOwner(f, filepath.Dir(path))
	if err := WaitLock(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return &Lock{f, readOnly}, nil
}

// Name is the path of the lock file, or of the folder that is locked instead.
func (l *Lock) Name() string { return l.file.Name() }

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }

// Write replaces the content of the lock file. It is written in place: a rename would put another file under the lock's name.
func (l *Lock) Write(b []byte) error {
	if l.readOnly != nil {
		return l.readOnly
	}
	if _, err := l.file.WriteAt(b, 0); err != nil {
		return err
	}
	if err := l.file.Truncate(int64(len(b))); err != nil {
		return err
	}
	return l.file.Sync()
}

// StillAt reports whether path names the very file that is locked: somebody may have deleted it all the same.
func (l *Lock) StillAt(path string) bool {
	mine, err := l.file.Stat()
	if err != nil {
		return false
	}
	if mine.IsDir() {
		path = filepath.Dir(path)
	}
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || os.SameFile(mine, now)
}

// Lockable fails if something else has the name of the lock file at path. It changes nothing.
func Lockable(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return unix.EISDIR
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		return unix.ELOOP
	}
	return nil
}

package store

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// flock is our own lock of a record: flock(2) on a file beside it that is never deleted, because a lock on a deleted file
// locks nothing. The kernel drops it with its process. It is the first lock taken and the last released.
type flock struct {
	f        *os.File
	readOnly error // why nothing can be written to the file; nil: it can
}

// lockFile takes the flock on path, waiting as long as ctx allows.
func lockFile(ctx context.Context, path string) (*flock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	var readOnly error
	if err != nil && unwritable(err) {
		readOnly = err
		// flock needs no write access. Where the file is not there either, the folder itself is locked instead.
		if f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err != nil {
			f, err = os.Open(filepath.Dir(path))
		}
	}
	if err != nil {
		return nil, storageError("locking", path, err)
	}
	giveToOwner(f, filepath.Dir(path))
	err = poll(ctx, 5*time.Millisecond, 200*time.Millisecond, func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case ctx.Err() != nil && err != nil:
		err = busy(path, "another ccagent")
	case err != nil:
		err = storageError("locking", path, err)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &flock{f, readOnly}, nil
}

// giveToOwner makes what root has made in somebody's folder the somebody's: it stays, and must not shut them out. Nothing is in
// it yet. What has content may be any file or folder of root's that the somebody has given this name, and so may a file with two.
func giveToOwner(f *os.File, dir string) {
	if os.Geteuid() != 0 {
		return
	}
	var file, folder unix.Stat_t
	if unix.Fstat(int(f.Fd()), &file) != nil || unix.Stat(dir, &folder) != nil || file.Uid != 0 || folder.Uid == 0 {
		return
	}
	empty := file.Nlink == 1 && file.Size == 0
	if file.Mode&unix.S_IFMT == unix.S_IFDIR {
		_, err := f.Readdirnames(1)
		empty = err == io.EOF
	}
	if empty {
		f.Chown(int(folder.Uid), int(folder.Gid))
	}
}

func (l *flock) release() error { return l.f.Close() }

// lockable fails where a look is enough to see that something else has the name of a lock file.
func lockable(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return storageError("locking", path, unix.EISDIR)
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		return storageError("locking", path, unix.ELOOP)
	}
	return nil
}

// note is what the claude-code store remembers of a record that Claude Code's file has no room for. It is kept in our lock
// file: it is written under that lock, and one file less is left in a folder that is not ours.
type note struct {
	Version     string `json:"version"`           // hex: the record that issued speaks of
	Issued      int64  `json:"issued,omitempty"`  // ms; 0 unknown
	TokenOrigin string `json:"token_origin"`      // outlives rewrites by others: it is what keeps a refresh token at home
	SignIn      string `json:"sign_in,omitempty"` // of the record with Version or Refresh: others write other sign-ins
	Refresh     string `json:"refresh,omitempty"` // digest of that record's refresh token
}

// readNote returns the note in the lock file; the zero note if there is none or it can't be read.
func readNote(path string) (n note) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return note{}
	}
	defer f.Close()
	// A decoder reads one value and stops: a torn write can only have left bytes behind it.
	if json.NewDecoder(io.LimitReader(f, 4096)).Decode(&n) != nil {
		return note{}
	}
	return n
}

// writeNote replaces the note in the locked file, in place: a rename would put another file under the lock's name.
func (l *flock) writeNote(n note) error {
	if l.readOnly != nil {
		return l.readOnly
	}
	b := append(splice.Encode(n), '\n')
	if _, err := l.f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := l.f.Truncate(int64(len(b))); err != nil {
		return err
	}
	return l.f.Sync()
}

// poll calls try until it is done or fails or ctx ends, first at once and then ever less often.
func poll(ctx context.Context, first, last time.Duration, try func() (done bool, err error)) error {
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

func busy(path, who string) error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: who + " holds " + path,
		Hint:    "try again in a moment",
	}
}

// guard makes the lock of one store value and its writes fit together: a write under the lock uses it, a write without it
// takes it for the time being, and a release waits for the write that uses the lock.
type guard struct {
	mu    sync.Mutex // held while a lock is taken or given back and while something is written
	held  *flock
	ready *reserved // for the next write under held; nil: nothing was made ready
}

// reserved is a write that was made ready.
type reserved struct {
	draft *draft       // nil: what is written is no file
	write *claudeWrite // nil: the place is ours alone
}

// drop undoes what the write did not use up.
func (r *reserved) drop() {
	if r != nil {
		r.draft.discard()
		r.write.release()
	}
}

// reserve makes ready the next write under l, unless it is.
func (g *guard) reserve(l *flock, do func() (*reserved, error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != l {
		return lost(l.f.Name())
	}
	if g.ready != nil {
		return nil
	}
	var err error
	g.ready, err = do()
	return err
}

// write runs do under the flock on path, with what was made ready for it, the zero value for nothing.
func (g *guard) write(ctx context.Context, path string, do func(*flock, reserved) error) error {
	g.mu.Lock()
	if g.held != nil {
		defer g.mu.Unlock()
		ready := g.ready
		g.ready = nil
		if ready == nil {
			return do(g.held, reserved{})
		}
		defer ready.drop()
		return do(g.held, *ready)
	}
	g.mu.Unlock()
	l, err := lockFile(ctx, path)
	if err != nil {
		return err
	}
	defer l.release()
	return do(l, reserved{})
}

// lock takes the flock on path and lets the writes of this store value use it.
func (g *guard) lock(ctx context.Context, path string) (*flock, error) {
	l, err := lockFile(ctx, path)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = l
	return l, nil
}

func (g *guard) unlock(l *flock) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != l {
		return nil
	}
	g.ready.drop()
	g.held, g.ready = nil, nil
	return l.release()
}

// stillThere reports whether path names the very file that l locks: someone may have removed it in spite of everything.
func (l *flock) stillThere(path string) bool {
	mine, err := l.f.Stat()
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

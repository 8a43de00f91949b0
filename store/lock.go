package store

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/ccagent/ccagent/disk"
)

// lockFile takes the lock file at path, and waits as long as ctx allows (ErrUnavailable). Such a file is our own lock of a
// record. It is the first lock that is taken and the last that is released, and the kernel releases it when its process ends.
func lockFile(ctx context.Context, path string) (*disk.Lock, error) {
	l, err := disk.TakeLock(ctx, path)
	switch {
	case err == nil:
		return l, nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil, busy(path, "another ccagent")
	}
	return nil, disk.Error("locking", path, err)
}

// whileLocked calls do while this process holds the lock file at path. The folder of the file is made if it is missing.
func whileLocked(ctx context.Context, path string, do func() error) error {
	if err := disk.MakeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	l, err := lockFile(ctx, path)
	if err != nil {
		return err
	}
	defer l.Release()
	return do()
}

// recordLock is the lock of the record of one store value, and coordinates its writes: a write uses the lock if the store value
// holds it, and takes it for as long as it works if not. The release of the lock waits for a write that uses it.
type recordLock struct {
	mu    sync.Mutex // locked while the lock is taken or released, and while something is written
	held  *disk.Lock // nil: not held
	ready *reserved  // the next write; nil: it was not made ready
}

// reserved is a write that was made ready, see [Lock.Reserve].
type reserved struct {
	draft *disk.Draft  // nil: what is written is no file
	write *claudeWrite // Claude Code's write lock; nil: the place is ours alone
}

// drop undoes what the write has not used.
func (r *reserved) drop() {
	if r != nil {
		r.draft.Discard()
		r.write.release()
	}
}

// reserve calls do to make the next write under l ready, unless it is ready.
func (g *recordLock) reserve(l *disk.Lock, do func() (*reserved, error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != l {
		return lost(l.Name())
	}
	if g.ready != nil {
		return nil
	}
	var err error
	g.ready, err = do()
	return err
}

// write calls do under the lock file at path, with what was made ready for it; the zero value is nothing.
func (g *recordLock) write(ctx context.Context, path string, do func(*disk.Lock, reserved) error) error {
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
	defer l.Release()
	return do(l, reserved{})
}

// take takes the lock file at path, and lets the writes of this store value use it.
func (g *recordLock) take(ctx context.Context, path string) (*disk.Lock, error) {
	l, err := lockFile(ctx, path)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = l
	return l, nil
}

func (g *recordLock) release(l *disk.Lock) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != l {
		return nil
	}
	g.ready.drop()
	g.held, g.ready = nil, nil
	return l.Release()
}

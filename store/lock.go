package store

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// lockFile takes the lock file at path, and waits as long as ctx allows (ErrUnavailable). It is our own lock of a record: the
// kernel drops it with its process. It is the first lock taken and the last released.
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

// writeNote replaces the note in the locked file.
func writeNote(l *disk.Lock, n note) error { return l.Write(append(splice.Encode(n), '\n')) }

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
	held  *disk.Lock
	ready *reserved // for the next write under held; nil: nothing was made ready
}

// reserved is a write that was made ready.
type reserved struct {
	draft *disk.Draft  // nil: what is written is no file
	write *claudeWrite // nil: the place is ours alone
}

// drop undoes what the write did not use up.
func (r *reserved) drop() {
	if r != nil {
		r.draft.Discard()
		r.write.release()
	}
}

// reserve makes ready the next write under l, unless it is.
func (g *guard) reserve(l *disk.Lock, do func() (*reserved, error)) error {
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

// write runs do under the flock on path, with what was made ready for it, the zero value for nothing.
func (g *guard) write(ctx context.Context, path string, do func(*disk.Lock, reserved) error) error {
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

// lock takes the flock on path and lets the writes of this store value use it.
func (g *guard) lock(ctx context.Context, path string) (*disk.Lock, error) {
	l, err := lockFile(ctx, path)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = l
	return l, nil
}

func (g *guard) unlock(l *disk.Lock) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != l {
		return nil
	}
	g.ready.drop()
	g.held, g.ready = nil, nil
	return l.Release()
}

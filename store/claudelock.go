package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/store/splice"
)

// Claude Code locks by making directories. The following was seen by tracing version 2.1.330. Whoever refreshes the sign-in makes
// `.oauth_refresh.lock` in its directory, then `<directory>.lock` beside it, says who it is in `.oauth_refresh.lock.owner`, and
// touches the two directories while it works. A lock whose owner is dead, or that nobody has touched for a minute, may be taken
// over. Whoever writes the file holds `.storage-write.lock` meanwhile.
//
// Our own lock is taken before all of these, so no two processes of ours ever wait for one another here.

// pace is the timing of Claude Code's locks.
type pace struct {
	first, last time.Duration // between two tries to take a lock, at first and later
	beat        time.Duration // between two touches of the locks that we hold
	loan        time.Duration // how long a renewal holds the write lock: Claude Code waits 7.5 s for it, then does not write
	refresh     patience
	write       patience
}

// patience says when a lock counts as abandoned although its owner is not known to be dead. What we see ourselves is measured by
// the monotonic clock.
type patience struct {
	stale time.Duration // nobody has touched it for so long, by the time of its directory or as we saw
	watch time.Duration // for so long we must have seen that nobody does: the holder may just have woken up, or its clock be slow
}

var claudePace = pace{
	first:   20 * time.Millisecond,
	last:    500 * time.Millisecond,
	beat:    5 * time.Second,
	loan:    4 * time.Second,
	refresh: patience{stale: 60 * time.Second, watch: 12 * time.Second},
	write:   patience{stale: 15 * time.Second, watch: 2 * time.Second},
}

// claudeWrite is Claude Code's write lock. A renewal holds it while the provider is asked, but only for a limited time.
type claudeWrite struct {
	mu   sync.Mutex
	lock dirLock
	end  *time.Timer // releases it; nil: there is no limit
}

func lockClaudeWrite(ctx context.Context, path string, p pace) (*claudeWrite, error) {
	w := &claudeWrite{lock: dirLock{path: path, patience: p.write}}
	err := w.lock.take(ctx, p, func(held *os.File) bool {
		o, ok := signature(held)
		return ok && o.gone()
	})
	if err != nil {
		return nil, err
	}
	sign(w.lock.dir)
	return w, nil
}

// lend releases the lock after limit, unless hold is called before.
func (w *claudeWrite) lend(limit time.Duration) {
	w.end = time.AfterFunc(limit, w.release)
}

// hold reports whether the lock is still held. If so, it is held until release from now on.
func (w *claudeWrite) hold() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end != nil {
		w.end.Stop()
	}
	return w.lock.dir != nil
}

func (w *claudeWrite) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lock.check()
}

// release may be called again, and for nil.
func (w *claudeWrite) release() {
	if w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lock.release()
	}
}

// claudeLock is Claude Code's refresh lock, held as Claude Code holds it.
type claudeLock struct {
	ownerPath string
	owner     []byte // what we wrote there; nil: nothing

	mu      sync.Mutex // of the two directories, which beat touches
	refresh dirLock
	legacy  dirLock
	stop    chan struct{}
	stopped sync.WaitGroup
}

// refreshLocks are the two directories of the refresh lock of configDir.
func refreshLocks(configDir string) (refresh, legacy string, err error) {
	real, err := filepath.EvalSymlinks(configDir)
	return filepath.Join(configDir, ".oauth_refresh.lock"), real + ".lock", err
}

// lockClaude takes the refresh lock of configDir. A directory that can't be made because nothing can be written there is left
// out: nobody else can make it either.
func lockClaude(ctx context.Context, configDir string, p pace) (*claudeLock, error) {
	refresh, legacy, err := refreshLocks(configDir)
	if err != nil {
		return nil, disk.Error("locking", configDir, err)
	}
	c := &claudeLock{
		ownerPath: filepath.Join(configDir, ".oauth_refresh.lock.owner"),
		refresh:   dirLock{path: refresh},
		legacy:    dirLock{path: legacy},
		stop:      make(chan struct{}),
	}
	c.stopped.Go(func() { c.beat(p.beat) })
	second := dirLock{path: legacy, patience: p.refresh}
	if info, err := os.Lstat(legacy); err == nil {
		second.observe(info) // the time that we wait for the first counts for it, too
	}
	for _, l := range []struct {
		lock  *dirLock
		birth func(owner) float64
	}{
		{&c.refresh, func(o owner) float64 { return o.Birth }},
		{&c.legacy, func(o owner) float64 { return o.LegacyBirth }},
	} {
		taken := dirLock{path: l.lock.path, patience: p.refresh}
		if l.lock == &c.legacy {
			taken = second
		}
		err := taken.take(ctx, p, func(held *os.File) bool {
			o, ok := c.readOwner()
			return ok && o.dead(held, l.birth(o))
		})
		var cannot *lockError
		if errors.As(err, &cannot) && cannot.unwritable {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, c.release())
		}
		c.mu.Lock()
		*l.lock = taken
		c.mu.Unlock()
	}
	c.writeOwner()
	return c, nil
}

// beat touches what is held until stop is closed.
func (c *claudeLock) beat(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case now := <-t.C:
			c.mu.Lock()
			c.refresh.touch(now)
			c.legacy.touch(now)
			c.mu.Unlock()
		}
	}
}

func (c *claudeLock) readOwner() (owner, bool) {
	var o owner
	b, err := readFile(c.ownerPath)
	return o, err == nil && json.Unmarshal(b, &o) == nil
}

// writeOwner writes the owner file, where we know what Claude Code writes there. Without it Claude Code goes by the last touch.
// So a failure only means that it waits longer if this process dies.
func (c *claudeLock) writeOwner() {
	o, ok := self()
	if !ok || c.refresh.dir == nil || c.legacy.dir == nil {
		return
	}
	var known bool
	if o.Birth, known = birthtime(c.refresh.dir); !known {
		return
	}
	if o.LegacyBirth, known = birthtime(c.legacy.dir); !known {
		return
	}
	if b := splice.Encode(o); disk.Write(c.ownerPath, b, disk.Always) == nil { // who holds the lock alone writes it
		c.owner = b
	}
}

// ownerIsOurs reports whether the owner file says what we wrote.
func (c *claudeLock) ownerIsOurs() bool {
	b, err := readFile(c.ownerPath)
	return err == nil && bytes.Equal(b, c.owner)
}

func (c *claudeLock) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(c.refresh.check(), c.legacy.check()); err != nil {
		return lost(c.refresh.path)
	}
	if c.owner != nil && !c.ownerIsOurs() {
		return lost(c.refresh.path)
	}
	return nil
}

// release removes what was made, in reverse order. What somebody else has put in its place stays.
func (c *claudeLock) release() error {
	select {
	case <-c.stop:
		return nil
	default:
	}
	close(c.stop)
	c.stopped.Wait()
	if c.owner != nil && c.ownerIsOurs() {
		os.Remove(c.ownerPath)
	}
	return errors.Join(c.legacy.release(), c.refresh.release())
}

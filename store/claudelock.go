package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/process"
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

// signed is the extended attribute that says which process holds a write lock of ours, so that it can be taken over at once if
// that process was killed. Claude Code writes nothing of the kind: one that it left is taken over when it is abandoned.
const signed = "user.ccagent.owner"

// sign makes an open lock directory say that this process holds it. Where the file system has no extended attributes, it does
// nothing.
func sign(dir *os.File) {
	if me, ok := self(); ok {
		unix.Fsetxattr(int(dir.Fd()), signed, splice.Encode(me), 0)
	}
}

// signature is who has signed an open lock directory.
func signature(dir *os.File) (o owner, ok bool) {
	b := make([]byte, 1024)
	n, err := unix.Fgetxattr(int(dir.Fd()), signed, b)
	return o, err == nil && json.Unmarshal(b[:n], &o) == nil
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

// owner is the content of `.oauth_refresh.lock.owner`.
type owner struct {
	PID         int     `json:"pid"`
	ProcStart   string  `json:"procStart"`             // clock ticks since boot
	PIDDomain   string  `json:"pidDomain"`             // machine and pid name space
	PIDSpace    string  `json:"pidSpace"`              // host name and pid name space
	Birth       float64 `json:"lockBirthtimeMs"`       // of `.oauth_refresh.lock`
	LegacyBirth float64 `json:"legacyLockBirthtimeMs"` // of `<config dir>.lock`
}

// dead reports whether o is known to be dead, and to be the owner of the open lock directory held. noted is the time at which
// that directory was made, as o has written it, in milliseconds.
func (o owner) dead(held *os.File, noted float64) bool {
	birth, ok := birthtime(held)
	return ok && birth-noted <= 1 && noted-birth <= 1 && o.gone()
}

// gone reports whether the process of o is known to have ended. Of a process on another machine or in another container nothing
// is known.
func (o owner) gone() bool {
	me, known := self()
	if !known || o.PID <= 0 || o.PIDDomain != me.PIDDomain || o.PIDSpace != me.PIDSpace {
		return false
	}
	if errors.Is(unix.Kill(o.PID, 0), unix.ESRCH) {
		return true
	}
	p, ok := process.Of(int32(o.PID))
	return ok && procStart(p) != o.ProcStart
}

// procStart is when a process started, as Claude Code writes it.
func procStart(p process.Info) string { return strconv.FormatUint(p.Start, 10) }

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
	b := splice.Encode(o)
	temp := c.ownerPath + ".tmp.ccagent" // whoever holds the lock uses this name: one that a crash has left is replaced
	if err := replaceNew(temp, b); err != nil {
		return
	}
	if err := os.Rename(temp, c.ownerPath); err != nil {
		os.Remove(temp)
		return
	}
	c.owner = b
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

// replaceNew writes a new file in place of the one that may have been left at path. A link there is removed, not followed.
func replaceNew(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

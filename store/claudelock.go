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

// Claude Code locks by making directories, as version 2.1.330 was traced to do. A refresh makes `.oauth_refresh.lock` in
// its directory, then `<directory>.lock` beside it, and tells who it is in `.oauth_refresh.lock.owner`. A holder touches
// the two while it works. A lock whose owner is dead, or that nobody has touched for a minute, is free for the taking. A
// write of the file makes `.storage-write.lock` around it.
//
// Our flock comes before all of these, so two of ours never meet here.

// pace is how often things are done and how long they may stay undone.
type pace struct {
	first, last time.Duration // between two looks at a lock that is held
	beat        time.Duration // between two touches of what we hold
	loan        time.Duration // of the write lock to a renewal: Claude Code waits 7.5 s for it, then drops what it was to write
	refresh     patience
	write       patience
}

// patience is when a lock is abandoned whose owner is not known to be dead. What we saw ourselves is counted on the monotonic
// clock.
type patience struct {
	stale time.Duration // nobody has touched it for so long, by its own time or while we looked on
	watch time.Duration // and not while we looked on: both may just have woken from a suspend, or the holder's clock be slow
}

var claudePace = pace{
	first:   20 * time.Millisecond,
	last:    500 * time.Millisecond,
	beat:    5 * time.Second,
	loan:    4 * time.Second,
	refresh: patience{stale: 60 * time.Second, watch: 12 * time.Second},
	write:   patience{stale: 15 * time.Second, watch: 2 * time.Second},
}

// dirLock is one lock directory. While it is held it is kept open, so that its inode number can't be given to another.
type dirLock struct {
	path     string
	patience patience
	dir      *os.File // nil: not held

	// The holder's directory as we first saw it untouched.
	seen  os.FileInfo
	since time.Time
}

// observe notes whether the holder's directory, which info describes, has been touched since we first looked. A holder may set
// the same time again and again; that it did is seen by when the file system last changed the entry.
func (l *dirLock) observe(info os.FileInfo) {
	if l.seen == nil || !os.SameFile(l.seen, info) ||
		!l.seen.ModTime().Equal(info.ModTime()) || disk.Changed(l.seen) != disk.Changed(info) {
		l.seen, l.since = info, time.Now()
	}
}

// abandoned reports whether a lock of which no dead owner is known is free for the taking. The time of one that is dated in the
// future tells nothing: it is abandoned when nobody has touched it for as long as that takes while we looked on.
func (l *dirLock) abandoned() bool {
	untouched := time.Since(l.since)
	return untouched > l.patience.watch &&
		(untouched > l.patience.stale || clockBeside(l.path).Sub(l.seen.ModTime()) > l.patience.stale)
}

// clockBeside is the time by the clock that files beside path are stamped with: on a network file system that is its server's,
// and ours may be another.
func clockBeside(path string) time.Time {
	probe := path + ".ccagent-clock"
	os.Remove(probe) // of one that was killed
	if os.Mkdir(probe, 0o700) == nil {
		defer os.Remove(probe)
		if info, err := os.Lstat(probe); err == nil {
			return info.ModTime()
		}
	}
	return time.Now()
}

// take makes the directory, waiting for a living holder as long as ctx allows. dead, if not nil, reports of whose it is that he
// is.
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

// lookAt opens the directory of a holder, so that its inode number can't be given to another while it is judged. Another user's
// (of somebody who has run Claude Code as root) may be closed to us: then held is nil, and what there is to see from outside is
// judged.
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

// takeAway removes an abandoned lock. It is moved aside first: if someone else was faster, what has been moved is their new
// lock, and goes back. Ours can't be two here, so the name aside is free.
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

// touch says that we live. A lock that is no longer ours is left alone: it is our open directory that is touched.
func (l *dirLock) touch(now time.Time) {
	if l.dir != nil {
		tv := unix.NsecToTimeval(now.UnixNano())
		unix.Futimes(int(l.dir.Fd()), []unix.Timeval{tv, tv})
	}
}

// release removes the directory if it is ours. Touched just before, it can't be taken over between the look and the removal.
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

// claudeWrite is Claude Code's write lock. It can be lent to a renewal for the time that a provider needs for its answer.
type claudeWrite struct {
	mu   sync.Mutex
	lock dirLock
	end  *time.Timer // nil: not lent
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

// signed is the extended attribute by which a write lock of ours says who holds it. Claude Code has no place for that, so one of
// its own that it left when it was killed is waited for until it is stale; one of ours need not be.
const signed = "user.ccagent.owner"

// sign makes an open lock directory say that this process holds it. A file system without extended attributes does without.
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

// lend lets the lock go after a time, unless hold was called until then.
func (w *claudeWrite) lend(limit time.Duration) {
	w.end = time.AfterFunc(limit, w.release)
}

// hold reports whether the lock is held, and sees to it that it stays so.
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

// dead reports whether o, as the owner of the open lock directory whose birth it is to have noted, is known to be dead.
func (o owner) dead(held *os.File, noted float64) bool {
	birth, ok := birthtime(held)
	return ok && birth-noted <= 1 && noted-birth <= 1 && o.gone()
}

// gone reports whether the process o is known to have ended. Only one that we could see if it were there can be.
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

// claudeLock is Claude Code's refresh lock, held as it would hold it.
type claudeLock struct {
	ownerPath string
	owner     []byte // what we wrote there; nil: nothing

	mu      sync.Mutex // of the directories, which the heart beats for
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

// lockClaude takes the refresh lock of configDir. Where nothing can be written there is nothing to take, and for anyone
// else neither.
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
		second.observe(info) // while we wait for the first
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

// writeOwner tells Claude Code that a living process holds the lock, where we know how it says that. Without the file
// it goes by the last touch, so a failure costs nothing but speed when we die.
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
	temp := c.ownerPath + ".tmp.ccagent" // ours alone, as the lock is: a crash leaves one at most, for the next to replace
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

// release removes what was made, in reverse order, and nothing that others have put in its place.
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

package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// quick is claudePace in short: short enough to wait for, and long enough for a slow scheduler.
var quick = pace{first: time.Millisecond, last: 5 * time.Millisecond, beat: 5 * time.Millisecond, loan: time.Minute,
	refresh: patience{stale: time.Minute, watch: 50 * time.Millisecond},
	write:   patience{stale: time.Minute, watch: 50 * time.Millisecond}}

// nothingLeft fails if anything but the record and our lock file is in Claude Code's folder or beside it.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left := append(names(t, dir, ".credentials.json", ".ccagent.lock"), names(t, filepath.Dir(dir), ".claude")...)
	if left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestHeldByAnother(t *testing.T) {
	if _, ok := self(); !ok {
		t.Skip("how Claude Code names an owner here is not known")
	}
	t.Parallel()
	gone := exec.Command(os.Args[0], "-test.run=^$")
	check(t, gone.Run())
	deadPID := gone.Process.Pid

	tests := []struct {
		name  string
		age   time.Duration
		owner func(o *owner) // nil: no owner file
		taken bool
	}{
		{"nobody, touched lately", 45 * time.Second, nil, false},
		{"nobody, untouched", 70 * time.Second, nil, true},
		{"nobody, touched in the future", -time.Hour, nil, false},
		{"a living owner", 45 * time.Second, func(*owner) {}, false},
		{"a living owner that has stopped touching", 70 * time.Second, func(*owner) {}, true},
		{"a dead owner", 0, func(o *owner) { o.PID = deadPID }, true},
		{"a dead owner whose number lives again", 0, func(o *owner) { o.ProcStart = "1" }, true},
		{"a dead owner on another machine", 0, func(o *owner) { o.PID = deadPID; o.PIDDomain = "linux:other:pid:[1]" }, false},
		{"a dead owner in another container", 0, func(o *owner) { o.PID = deadPID; o.PIDSpace = "other#pid:[1]" }, false},
		{"a dead owner of an earlier lock", 0, func(o *owner) { o.PID = deadPID; o.Birth -= 100; o.LegacyBirth -= 100 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := claudeDir(t, shared)
			locks := []string{filepath.Join(dir, ".oauth_refresh.lock"), dir + ".lock"}
			var born [2]float64
			for i, l := range locks {
				check(t, os.Mkdir(l, 0o755))
				f, err := os.Open(l)
				check(t, err)
				born[i], _ = birthtime(f)
				f.Close()
				at := time.Now().Add(-tt.age)
				check(t, os.Chtimes(l, at, at))
			}
			if tt.owner != nil {
				o, _ := self()
				o.Birth, o.LegacyBirth = born[0], born[1]
				tt.owner(&o)
				check(t, os.WriteFile(locks[0]+".owner", splice.Encode(o), 0o644))
			}
			wait := 20 * time.Second
			if !tt.taken {
				wait = 150 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			s := NewClaudeCode(dir)
			s.pace = quick
			l, err := s.Lock(ctx)
			if !tt.taken {
				if !errors.Is(err, protocol.ErrUnavailable) {
					t.Fatalf("taken, or %v", err)
				}
				for _, l := range locks {
					if _, err := os.Stat(l); err != nil {
						t.Errorf("a living holder's lock: %v", err)
					}
				}
				return
			}
			check(t, err)
			check(t, l.Check())
			check(t, l.Release())
			nothingLeft(t, dir)
		})
	}
}

// TestOwnerFileFollowsNoLink: somebody else may be able to write to Claude Code's folder, and put a link in the file's place.
// What a writer that was killed has left of the file goes.
func TestOwnerFileFollowsNoLink(t *testing.T) {
	if _, ok := self(); !ok {
		t.Skip("how Claude Code names an owner here is not known")
	}
	t.Parallel()
	dir, _ := claudeDir(t, shared)
	victim := filepath.Join(t.TempDir(), "victim")
	check(t, os.WriteFile(victim, []byte("untouched"), 0o600))
	owner := filepath.Join(dir, ".oauth_refresh.lock.owner")
	left := filepath.Join(dir, "..oauth_refresh.lock.owner.ccagent-DEAD.tmp")
	check(t, os.Symlink(victim, owner))
	check(t, os.WriteFile(left, []byte("half"), 0o600))
	l, err := NewClaudeCode(dir).Lock(context.Background())
	check(t, err)
	if info, err := os.Lstat(owner); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the owner file is %v, %v", info, err)
	}
	if _, err := os.Lstat(left); err == nil {
		t.Error("a killed writer's file stays")
	}
	check(t, l.Release())
	if b, err := os.ReadFile(victim); err != nil || string(b) != "untouched" {
		t.Errorf("a file elsewhere has %q, %v", b, err)
	}
}

// A holder on another machine with a slow clock still touches its lock, and so does one that has just woken up with us: it lives.
func TestHeldByASlowClock(t *testing.T) {
	t.Parallel()
	dir, _ := claudeDir(t, shared)
	lock := filepath.Join(dir, ".oauth_refresh.lock")
	check(t, os.Mkdir(lock, 0o755))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			at := time.Now().Add(-time.Hour)
			os.Chtimes(lock, at, at)
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	s := NewClaudeCode(dir)
	s.pace = quick
	s.pace.refresh.watch = 20 * time.Second // longer than a busy machine keeps the holder from touching
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx); !errors.Is(err, protocol.ErrUnavailable) {
		t.Fatalf("taken, or %v", err)
	}
}

// fileTime is when the file was changed last, by the real clock, also in a bubble of synctest.
func fileTime(t *testing.T, path string) time.Time {
	info, err := os.Stat(path)
	check(t, err)
	return info.ModTime()
}

// A lock with a time in the future is taken over if nobody touches it while we wait long enough: its holder may have died, and a
// clock was set back since. A lock that is touched has a living holder, whatever its time is.
func TestLockDatedInTheFuture(t *testing.T) {
	t.Parallel()
	renew := func(s *ClaudeCode) error {
		ctx, cancel := context.WithTimeout(context.Background(), LockWait)
		defer cancel()
		l, err := s.Lock(ctx)
		if err != nil {
			return err
		}
		return l.Release()
	}
	save := func(s *ClaudeCode) error {
		_, v, err := s.Load(context.Background())
		if err == nil {
			_, err = s.Save(context.Background(), newRecord(), v)
		}
		return err
	}
	show := func(s *ClaudeCode) error {
		return s.View(filepath.Dir(s.dir)).Restore(context.Background(), newRecord())
	}
	for _, tt := range []struct {
		name  string
		locks []string
		do    func(*ClaudeCode) error
	}{
		{"refresh", []string{".claude/.oauth_refresh.lock"}, renew},
		{"refresh, of old", []string{".claude.lock"}, renew},
		{"both", []string{".claude/.oauth_refresh.lock", ".claude.lock"}, renew},
		{"write, for a save", []string{".claude/.storage-write.lock"}, save},
		{"write, for a view", []string{".claude/.storage-write.lock"}, show},
	} {
		for holds, step := range map[string]time.Duration{"": 0, ", and touched": time.Second, ", and touched with one date": 0} {
			alive := holds != ""
			t.Run(tt.name+holds, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					dir, _ := claudeDir(t, shared)
					ahead := fileTime(t, dir).Add(time.Hour)
					touch := func() {
						for _, l := range tt.locks {
							path := filepath.Join(filepath.Dir(dir), l)
							before, err := os.Stat(path)
							check(t, err)
							for after := before; disk.Changed(after) == disk.Changed(before); { // the real clock, which ticks slowly
								check(t, os.Chtimes(path, ahead, ahead))
								after, err = os.Stat(path)
								check(t, err)
							}
						}
						ahead = ahead.Add(step)
					}
					for _, l := range tt.locks {
						check(t, os.Mkdir(filepath.Join(filepath.Dir(dir), l), 0o755))
					}
					touch()
					done := make(chan struct{})
					var holder sync.WaitGroup
					if alive {
						holder.Go(func() {
							for {
								select {
								case <-done:
									return
								case <-time.After(5 * time.Second):
									touch()
								}
							}
						})
					}
					err := tt.do(NewClaudeCode(dir))
					close(done)
					holder.Wait()
					switch {
					case alive && !errors.Is(err, protocol.ErrUnavailable):
						t.Errorf("taken from a living holder, or %v", err)
					case !alive && err != nil:
						t.Errorf("not taken: %v", err)
					}
				})
			})
		}
	}
}

// The age of a lock is judged by the clock of its file system. Asking for that leaves nothing there.
func TestClockBeside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	check(t, os.Mkdir(path+".ccagent-clock", 0o700)) // one that a killed process has left
	old := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path+".ccagent-clock", old, old))
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	info, err := os.Stat(file)
	check(t, err)
	if d := clockBeside(path).Sub(info.ModTime()); d < 0 || d > time.Minute {
		t.Errorf("it is %v ahead of the file system", d)
	}
	if left := names(t, dir, "file"); left != nil {
		t.Errorf("left %v", left)
	}
}

// While we hold the lock, Claude Code finds what it would have made itself.
func TestLockReadsAsClaudeCodes(t *testing.T) {
	t.Parallel()
	dir, _ := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	l, err := s.Lock(context.Background())
	check(t, err)
	defer l.Release()
	for _, d := range []string{filepath.Join(dir, ".oauth_refresh.lock"), dir + ".lock"} {
		if info, err := os.Stat(d); err != nil || !info.IsDir() || time.Since(info.ModTime()) > time.Minute {
			t.Errorf("%s: %v %v", d, info, err)
		}
	}
	if _, ok := self(); !ok {
		return
	}
	var got map[string]any
	check(t, json.Unmarshal([]byte(contentOf(t, filepath.Join(dir, ".oauth_refresh.lock.owner"))), &got))
	for _, key := range []string{"pid", "procStart", "pidDomain", "pidSpace", "lockBirthtimeMs", "legacyLockBirthtimeMs"} {
		if got[key] == nil || got[key] == "" || got[key] == 0.0 {
			t.Errorf("%s is %v", key, got[key])
		}
	}
	if len(got) != 6 || got["pid"] != float64(os.Getpid()) {
		t.Errorf("owner %v", got)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	dir, _ := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	s.pace = quick
	l, err := s.Lock(context.Background())
	check(t, err)
	defer l.Release()
	for _, d := range []string{filepath.Join(dir, ".oauth_refresh.lock"), dir + ".lock"} {
		old := time.Now().Add(-time.Hour)
		check(t, os.Chtimes(d, old, old))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := disk.Poll(ctx, time.Millisecond, time.Millisecond, func() (bool, error) {
			info, err := os.Stat(d)
			return err == nil && time.Since(info.ModTime()) < time.Minute, err
		})
		cancel()
		if err != nil {
			t.Errorf("%s is not touched: %v", d, err)
		}
	}
}

// A lock that somebody has taken over while we slept is theirs: we notice that, and leave it alone.
func TestLostLock(t *testing.T) {
	t.Parallel()
	for _, which := range []string{".claude/.oauth_refresh.lock", ".claude.lock", "owner", "flock"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			dir, _ := claudeDir(t, shared)
			s := NewClaudeCode(dir)
			l, err := s.Lock(context.Background())
			check(t, err)
			path := filepath.Join(filepath.Dir(dir), which)
			switch which {
			case "owner":
				if _, ok := self(); !ok {
					t.Skip("no owner file here")
				}
				path = filepath.Join(dir, ".oauth_refresh.lock.owner")
				check(t, os.WriteFile(path, []byte(`{"pid":1}`), 0o600))
			case "flock":
				path = filepath.Join(dir, ".ccagent.lock")
				check(t, os.Remove(path))
				check(t, os.WriteFile(path, nil, 0o600))
			default:
				check(t, os.Remove(path))
				check(t, os.Mkdir(path, 0o755))
			}
			if err := l.Check(); !errors.Is(err, protocol.ErrUnavailable) {
				t.Errorf("check: %v", err)
			}
			check(t, l.Release())
			if _, err := os.Stat(path); err != nil {
				t.Errorf("another's lock was removed: %v", err)
			}
		})
	}
}

// A lock directory of another user may be closed to us. It is judged by its times: one that is touched has a living holder, and
// one that nobody touches is abandoned.
func TestLockOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("nothing is closed to root")
	}
	dir, _ := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	s.pace = quick
	_, v := mustLoad(t, s)
	for _, path := range []string{filepath.Join(dir, ".oauth_refresh.lock"), dir + ".lock", s.writeLock()} {
		check(t, os.Mkdir(path, 0))
		renew := func(wait time.Duration) error {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			l, err := s.Lock(ctx)
			if err != nil {
				return err
			}
			defer l.Release()
			_, err = s.Save(ctx, newRecord(), v)
			return err
		}
		if err := renew(150 * time.Millisecond); !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("%s: renewed under another's lock: %v", path, err)
		}
		old := time.Now().Add(-2 * time.Minute)
		check(t, os.Chtimes(path, old, old))
		check(t, renew(time.Minute))
		nothingLeft(t, dir)
	}
}

func TestTakeAwayPutsBackALivingLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	check(t, os.Mkdir(path, 0o755))
	old, err := os.Open(path)
	check(t, err)
	defer old.Close()
	judged, err := old.Stat()
	check(t, err)
	check(t, os.Remove(path))
	check(t, os.Mkdir(path, 0o755)) // someone was faster
	living, err := os.Stat(path)
	check(t, err)
	check(t, takeAway(path, judged))
	if now, err := os.Stat(path); err != nil || !os.SameFile(now, living) {
		t.Errorf("the living lock is gone: %v", err)
	}
	check(t, takeAway(path, living))
	if left := names(t, filepath.Dir(path)); left != nil {
		t.Errorf("left %v", left)
	}
}

// Two agents, each with a lock of its own, never hold a claude-code record together, and a write lock left by a crash is
// taken in time.
func TestWriteLockLeftBehind(t *testing.T) {
	t.Parallel()
	dir, _ := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	s.pace = quick
	_, v := mustLoad(t, s)
	left := filepath.Join(dir, ".storage-write.lock")
	check(t, os.Mkdir(left, 0o755))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Save(ctx, newRecord(), v); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("written under another's write lock: %v", err)
	}
	old := time.Now().Add(-2 * time.Minute)
	check(t, os.Chtimes(left, old, old))
	_, err := s.Save(context.Background(), newRecord(), v)
	check(t, err)
	if got := names(t, dir, ".credentials.json", ".ccagent.lock"); got != nil {
		t.Errorf("left %v", got)
	}
}

// TestWriteLockOfADeadProcess: nobody waits for a write lock that a process of ours has left when it was killed. For one of a
// living process everybody waits.
func TestWriteLockOfADeadProcess(t *testing.T) {
	t.Parallel()
	me, ok := self()
	if !ok {
		t.Skip("processes can't be told apart here")
	}
	for _, alive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir, _ := claudeDir(t, shared)
			s := NewClaudeCode(dir)
			left, err := lockClaudeWrite(t.Context(), s.writeLock(), s.pace)
			check(t, err)
			holder := me
			if !alive {
				holder.ProcStart = "1" // the number of the process is another's by now
			}
			err = unix.Fsetxattr(int(left.lock.dir.Fd()), signed, splice.Encode(holder), 0)
			if errors.Is(err, unix.ENOTSUP) {
				t.Skip("the file system has no extended attributes")
			}
			check(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), s.pace.write.watch)
			defer cancel()
			w, err := lockClaudeWrite(ctx, s.writeLock(), s.pace)
			if alive != errors.Is(err, protocol.ErrUnavailable) || !alive && err != nil {
				t.Errorf("alive %v: %v", alive, err)
			}
			w.release()
			left.release()
		})
	}
}

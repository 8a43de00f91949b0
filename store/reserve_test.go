package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

func init() {
	// Locks a record, reserves its place, and waits to be killed.
	roles["reserve"] = func(args []string) int {
		s := openAny(args[0])
		l, err := s.Lock(context.Background())
		if err == nil {
			err = l.Reserve(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.WriteFile(args[1], nil, 0o600)
		time.Sleep(time.Hour)
		return 0
	}
}

// Where it can be seen or tried out that a record can't be saved or would not last, nothing is reserved, and everything stays as
// it was. The test is one table, which is why it is long.
func TestNotReserved(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		root bool                                 // it is found as root, too
		seen bool                                 // Hindrance finds it
		make func(t *testing.T, dir string) Store // dir is an empty folder
		want string
	}{
		{"the write lock is a file", true, true, func(t *testing.T, dir string) Store {
			check(t, os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(shared), 0o600))
			check(t, os.WriteFile(filepath.Join(dir, ".storage-write.lock"), nil, 0o600))
			return NewClaudeCode(dir)
		}, ".storage-write.lock"},
		{"a volume of Kubernetes", true, true, func(t *testing.T, dir string) Store {
			check(t, os.Mkdir(filepath.Join(dir, "..2026_01_01"), 0o755))
			check(t, os.WriteFile(filepath.Join(dir, "..2026_01_01", ".credentials.json"), []byte(shared), 0o600))
			check(t, os.Symlink("..2026_01_01", filepath.Join(dir, "..data")))
			check(t, os.Symlink("..data/.credentials.json", filepath.Join(dir, ".credentials.json")))
			return NewClaudeCode(dir)
		}, "Kubernetes"},
		{"a folder in a volume of Kubernetes", true, true, func(t *testing.T, dir string) Store {
			home := filepath.Join(dir, "..2026_01_01", "claude")
			check(t, os.MkdirAll(home, 0o755))
			check(t, os.WriteFile(filepath.Join(home, ".credentials.json"), []byte(shared), 0o600))
			check(t, os.Symlink("..2026_01_01", filepath.Join(dir, "..data")))
			check(t, os.Symlink("..data/claude", filepath.Join(dir, "claude")))
			return NewClaudeCode(filepath.Join(dir, "claude"))
		}, "Kubernetes"},
		{"what is stored can't be read", true, false, func(t *testing.T, dir string) Store {
			check(t, os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte("{ broken"), 0o600))
			return NewClaudeCode(dir)
		}, "JSON"},
		{"the folder may not be written", false, true, func(t *testing.T, dir string) Store {
			check(t, os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(shared), 0o600))
			check(t, os.Chmod(dir, 0o500))
			t.Cleanup(func() { os.Chmod(dir, 0o700) })
			return NewClaudeCode(dir)
		}, "permission denied"},
		{"our lock file is a folder", true, true, func(t *testing.T, dir string) Store {
			check(t, os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(shared), 0o600))
			check(t, os.Mkdir(filepath.Join(dir, ".ccagent.lock"), 0o700))
			return NewClaudeCode(dir)
		}, ".ccagent.lock: is a directory"},
		{"our lock file is a link", true, true, func(t *testing.T, dir string) Store {
			check(t, os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(shared), 0o600))
			check(t, os.Symlink("nowhere", filepath.Join(dir, ".ccagent.lock")))
			return NewClaudeCode(dir)
		}, ".ccagent.lock: too many levels"},
		{"the lock file of a store of ours is a folder", true, true, func(t *testing.T, dir string) Store {
			s := NewFile(dir, "p")
			mustSave(t, s, fakeRecord(1), Version{})
			check(t, os.Remove(filepath.Join(dir, "p.lock")))
			check(t, os.Mkdir(filepath.Join(dir, "p.lock"), 0o700))
			return s
		}, "p.lock: is a directory"},
		{"our lock file is somebody else's", false, true, func(t *testing.T, dir string) Store {
			check(t, os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(shared), 0o600))
			check(t, os.WriteFile(filepath.Join(dir, ".ccagent.lock"), nil, 0o400))
			return NewClaudeCode(dir)
		}, ".ccagent.lock: permission denied"},
		{"the folder of a store of ours may not be written", false, true, func(t *testing.T, dir string) Store {
			s := NewFile(dir, "p")
			mustSave(t, s, fakeRecord(1), Version{})
			check(t, os.Chmod(dir, 0o500))
			t.Cleanup(func() { os.Chmod(dir, 0o700) })
			return s
		}, "permission denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if !tt.root && os.Geteuid() == 0 {
				t.Skip("modes don't stop root")
			}
			dir := t.TempDir()
			s := tt.make(t, dir)
			before := listing(t, dir)
			if seen := Hindrance(s); (seen != nil) != tt.seen || tt.seen && !strings.Contains(seen.Error(), tt.want) {
				t.Errorf("Hindrance finds %v", seen)
			}
			l, err := s.Lock(t.Context())
			if err == nil {
				err = Reserve(t.Context(), "", s, l)
				check(t, l.Release())
			}
			if protocol.CodeOf(err) == protocol.CodeInternal || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("reserved, or %v", err)
			}
			if after := listing(t, dir); before != after {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// listing lists what is below dir without our lock files, a line each.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	check(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, dir); filepath.Base(name) != ".ccagent.lock" && name != "/p.lock" {
			list.WriteString(name + "\n")
		}
		return err
	}))
	return list.String()
}

// For a store of our own a spill file is enough, because only we read it. If other programs share the store, it is not.
func TestReservedAsSpill(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("modes don't stop root")
	}
	dir, stateDir := t.TempDir(), t.TempDir()
	claude := filepath.Join(dir, ".claude")
	check(t, os.Mkdir(claude, 0o700))
	check(t, os.WriteFile(filepath.Join(claude, ".credentials.json"), []byte(shared), 0o600))
	ours := NewFile(filepath.Join(dir, "data"), "p")
	mustSave(t, ours, fakeRecord(1), Version{})
	for _, d := range []string{claude, filepath.Join(dir, "data")} {
		check(t, os.Chmod(d, 0o500))
		t.Cleanup(func() { os.Chmod(d, 0o700) })
	}
	for _, tt := range []struct {
		st       Store
		stateDir string
		fails    bool
	}{{ours, stateDir, false}, {ours, "", true}, {ours, claude, true}, {NewClaudeCode(claude), stateDir, true}} {
		l, err := tt.st.Lock(t.Context())
		check(t, err)
		if err := Reserve(t.Context(), tt.stateDir, tt.st, l); (err != nil) != tt.fails {
			t.Errorf("%s with %q: %v", tt.st.Place().Kind, tt.stateDir, err)
		}
		check(t, l.Release())
	}
	if left := names(t, filepath.Join(stateDir, "spill")); left != nil {
		t.Errorf("left %v", left)
	}
}

// If nobody can write to the folder around Claude Code's, nobody can make the older of its locks, which is there. The other one
// is enough then.
func TestReservedInReadOnlyHome(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("modes don't stop root")
	}
	dir, _ := claudeDir(t, shared)
	home := filepath.Dir(dir)
	check(t, os.Chmod(home, 0o500))
	t.Cleanup(func() { os.Chmod(home, 0o700) })
	s := NewClaudeCode(dir)
	_, v := mustLoad(t, s)
	l, err := s.Lock(t.Context())
	check(t, err)
	check(t, Reserve(t.Context(), "", s, l))
	mustSave(t, s, newRecord(), v)
	check(t, l.Release())
}

// After a process was killed with a reservation, the next one takes the locks over and removes the temporary file.
func TestKilledWithReservation(t *testing.T) {
	t.Parallel()
	if _, ok := self(); !ok {
		t.Skip("a dead owner is told by its age alone here: a minute each")
	}
	for _, name := range []string{".claude", "data"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), name)
			s := seed(t, dir)
			if c, ok := s.(*ClaudeCode); ok {
				c.pace = quick
			}
			mark := filepath.Join(t.TempDir(), "reserved")
			cmd := play(t, "reserve", dir, mark)
			check(t, disk.Poll(t.Context(), time.Millisecond, 5*time.Millisecond, func() (bool, error) {
				_, err := os.Stat(mark)
				return err == nil, nil
			}))
			check(t, cmd.Process.Kill())
			cmd.Wait()
			if !strings.Contains(listing(t, dir), ".ccagent-") {
				t.Error("nothing was reserved")
			}
			if r, _ := mustLoad(t, s); count(r) != 0 {
				t.Errorf("the record is %d", count(r))
			}
			setAge(t, dir) // the write lock has no owner file: it is abandoned after a while only
			check(t, increment(s))
			clean(t, dir)
		})
	}
}

// Claude Code waits a few seconds for its write lock, and then does not write. So if a provider is slow, the lock is released,
// and taken again for the save.
func TestReservationOfSlowProvider(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			dir, _ := claudeDir(t, shared)
			s := NewClaudeCode(dir)
			l, err := s.Lock(t.Context())
			check(t, err)
			check(t, l.Reserve(t.Context()))
			lock := filepath.Join(dir, ".storage-write.lock")
			if _, err := os.Stat(lock); err != nil {
				t.Errorf("the write lock is not held: %v", err)
			}
			if slow {
				time.Sleep(6 * time.Second)
				check(t, os.Mkdir(lock, 0o755)) // Claude Code's turn
				go func() {
					time.Sleep(time.Second)
					os.Remove(lock)
				}()
				check(t, l.Check())
			}
			_, v := mustLoad(t, s)
			mustSave(t, s, newRecord(), v)
			if _, err := os.Stat(lock); err == nil {
				t.Error("the write lock is held after the save")
			}
			check(t, l.Release())
			if left := names(t, dir, ".credentials.json", ".ccagent.lock"); left != nil {
				t.Errorf("left %v", left)
			}
		})
	}
}

// Recover finishes a write in place that was cut off, in every store that is a file.
func TestCutOffIsBroughtHome(t *testing.T) {
	t.Parallel()
	for _, name := range []string{".claude", "data"} {
		dir := filepath.Join(t.TempDir(), name)
		s := seed(t, dir)
		_, v := mustLoad(t, s)
		path := fileOf(s)
		old := contentOf(t, path)
		mustSave(t, s, numbered("1"), v)
		next := contentOf(t, path)
		check(t, os.WriteFile(path, []byte(next[:len(next)/2]+old[len(next)/2:]), 0o600))
		spill := fmt.Sprintf("ccagent-unfinished 1 %d %d\n%s%s", len(old), len(next), old, next)
		check(t, os.WriteFile(filepath.Join(dir, "."+filepath.Base(path)+".ccagent-unfinished"), []byte(spill), 0o600))
		stateDir := t.TempDir()
		if r, _ := mustLoad(t, s); count(r) != 1 || !Spilled(stateDir, s) {
			t.Errorf("%s: record %d before it is brought home, spilled %v", name, count(r), Spilled(stateDir, s))
		}
		l, err := s.Lock(t.Context())
		check(t, err)
		_, err = Recover(t.Context(), stateDir, s)
		check(t, err)
		check(t, l.Release())
		if contentOf(t, path) != next || Spilled(stateDir, s) {
			t.Errorf("%s: it was not finished", name)
		}
		clean(t, dir)
	}
}

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// roles are what the other processes of these tests do. The record is a counter.
var roles = map[string]func(args []string) int{
	"ccagent": func(args []string) int {
		rounds, _ := strconv.Atoi(args[1])
		for range rounds {
			if err := increment(openAny(args[0])); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return 0
	},
	"claude": func(args []string) int {
		rounds, _ := strconv.Atoi(args[1])
		for range rounds {
			if err := claudeIncrement(args[0]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return 0
	},
	"passphrase": func(args []string) int {
		for n, _ := strconv.Atoi(args[1]); ; n++ {
			if _, err := changePassphrase(context.Background(), args[0], nthPassphrase(n), nthPassphrase(n+1), lightWork); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
	},
}

func nthPassphrase(n int) protocol.Secret {
	return protocol.NewSecret("fake passphrase " + strconv.Itoa(n))
}

// openAny opens the store at dir, Claude Code's if that is called .claude.
func openAny(dir string) Store {
	if filepath.Base(dir) == ".claude" {
		s := NewClaudeCode(dir)
		s.pace.last = 5 * time.Millisecond
		return s
	}
	return NewFile(dir, "p")
}

func count(r Record) int {
	n, err := strconv.Atoi(strings.TrimPrefix(r.AccessToken.Reveal(), "fake-"))
	if err != nil {
		return -1
	}
	return n
}

func increment(s Store) error {
	ctx := context.Background()
	l, err := s.Lock(ctx)
	if err != nil {
		return err
	}
	r, v, err := s.Load(ctx)
	if err == nil {
		next := numbered(strconv.Itoa(count(r) + 1))
		_, err = s.Save(ctx, next, v)
	}
	return errors.Join(err, l.Check(), l.Release())
}

// claudeIncrement does the same as Claude Code does it: it locks by directories, and decodes and encodes the whole file.
func claudeIncrement(dir string) error {
	var made []string
	lock := func(path string) error {
		for {
			err := os.Mkdir(path, 0o755)
			if err == nil {
				made = append(made, path)
				now := time.Now()
				return os.Chtimes(path, now, now)
			}
			if !errors.Is(err, fs.ErrExist) {
				return err
			}
			time.Sleep(time.Millisecond)
		}
	}
	owner := filepath.Join(dir, ".oauth_refresh.lock.owner")
	file := filepath.Join(dir, ".credentials.json")
	if err := errors.Join(lock(filepath.Join(dir, ".oauth_refresh.lock")), lock(dir+".lock")); err != nil {
		return err
	}
	o, _ := self()
	if err := errors.Join(os.WriteFile(owner+".tmp", splice.Encode(o), 0o644), os.Rename(owner+".tmp", owner)); err != nil {
		return err
	}
	src, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var all map[string]map[string]any
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	if err := dec.Decode(&all); err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(all[claudeKey]["accessToken"].(string), "fake-"))
	if err != nil {
		return err
	}
	all[claudeKey]["accessToken"] = "fake-" + strconv.Itoa(n+1)
	if err := lock(filepath.Join(dir, ".storage-write.lock")); err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(file+".tmp", splice.Encode(all), 0o600), os.Rename(file+".tmp", file),
		os.Remove(owner)); err != nil {
		return err
	}
	for i := len(made) - 1; i >= 0; i-- {
		if err := os.Remove(made[i]); err != nil {
			return err
		}
	}
	return nil
}

func play(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CCAGENT_STORE_ROLE="+role)
	var said bytes.Buffer
	cmd.Stderr = &said
	t.Cleanup(func() {
		if said.Len() > 0 {
			t.Errorf("%s: %s", role, said.String())
		}
	})
	check(t, cmd.Start())
	return cmd
}

func seed(t *testing.T, dir string) Store {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o700))
	s := openAny(dir)
	if c, ok := s.(*ClaudeCode); ok {
		check(t, os.WriteFile(c.path(), []byte(`{"mcpOAuth":{"k":1.50}}`), 0o600))
	}
	_, err := s.Save(context.Background(), numbered("0"), Version{})
	check(t, err)
	return s
}

func TestProcessesTogether(t *testing.T) {
	t.Parallel()
	const rounds = 40
	for _, tt := range []struct {
		dir     string
		players []string
	}{
		{".claude", []string{"ccagent", "ccagent", "ccagent", "claude", "claude"}},
		{"data", []string{"ccagent", "ccagent", "ccagent"}},
	} {
		t.Run(tt.dir, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), tt.dir)
			s := seed(t, dir)
			var cmds []*exec.Cmd
			for _, role := range tt.players {
				cmds = append(cmds, play(t, role, dir, strconv.Itoa(rounds)))
			}
			for _, c := range cmds {
				if err := c.Wait(); err != nil {
					t.Error(err)
				}
			}
			if r, _ := mustLoad(t, s); count(r) != rounds*len(tt.players) {
				t.Errorf("counted to %d of %d", count(r), rounds*len(tt.players))
			}
			clean(t, dir)
		})
	}
}

// clean fails if anything but records and our lock files is left.
func clean(t *testing.T, dir string) {
	t.Helper()
	left := append(
		names(t, dir, ".credentials.json", ".ccagent.lock", "p.json", "p.lock"),
		names(t, filepath.Dir(dir), filepath.Base(dir))...)
	if left != nil {
		t.Errorf("left behind: %v", left)
	}
	if b, err := os.ReadFile(filepath.Join(dir, ".credentials.json")); err == nil && !strings.Contains(string(b), `"k":1.50`) {
		t.Errorf("another program's value has changed: %s", b)
	}
}

// If a writer is killed at any moment, it leaves the old record or the new one, and locks that the next writer takes at once.
func TestKilledAnywhere(t *testing.T) {
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
			last := 0
			for range 50 {
				cmd := play(t, "ccagent", dir, "1000000")
				// It is killed at any moment after it has begun.
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				err := disk.Poll(ctx, time.Millisecond, time.Millisecond, func() (bool, error) {
					r, _, err := s.Load(ctx)
					return err == nil && count(r) > last, err
				})
				cancel()
				check(t, err)
				time.Sleep(rand.N(3 * time.Millisecond))
				check(t, cmd.Process.Kill())
				cmd.Wait()
				r, _, err := s.Load(context.Background())
				check(t, err)
				if count(r) <= last {
					t.Fatalf("went back from %d to %d", last, count(r))
				}
				last = count(r)
				// A lock that it made right before it wrote the owner file is abandoned after a minute only.
				setAge(t, dir)
				check(t, increment(s))
				last++
			}
			clean(t, dir)
		})
	}
}

// A process gives an identity one passphrase after the other, and is killed at any moment. The last passphrase or the next one
// opens what it leaves. With a light work factor the writing takes most of the time, so it is hit most often.
func TestPassphraseKilledAnywhere(t *testing.T) {
	t.Parallel()
	path := IdentityPath(t.TempDir())
	key, err := createIdentity(t.Context(), path, nthPassphrase(0), lightWork)
	check(t, err)
	const kills = 100
	now, written := 0, 0
	for range kills {
		cmd := play(t, "passphrase", path, strconv.Itoa(now))
		began, next := now, now
		// opened finds which passphrase opens the file: they are given in order.
		opened := func() {
			for {
				got, err := UnlockIdentity(path, nthPassphrase(next))
				if err == nil && strings.TrimSpace(got.Reveal()) == strings.TrimSpace(key.Reveal()) {
					return
				}
				if !errors.Is(err, protocol.ErrDenied) || next > began+100_000 {
					t.Fatalf("passphrase %d, which was %d before: %v", next, began, err)
				}
				next++
			}
		}
		// It is killed at any moment after it has begun.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := disk.Poll(ctx, time.Millisecond, time.Millisecond, func() (bool, error) {
			opened()
			return next > began, nil
		})
		cancel()
		check(t, err)
		time.Sleep(rand.N(3 * time.Millisecond))
		check(t, cmd.Process.Kill())
		cmd.Wait()
		opened()
		now = next
		if names(t, filepath.Dir(path), filepath.Base(path), filepath.Base(path)+".lock") != nil {
			written++
		}
	}
	t.Logf("%d of %d kills left the file of a write behind, after %d changes", written, kills, now)
	_, err = changePassphrase(t.Context(), path, nthPassphrase(now), passphrase, lightWork)
	check(t, err)
	if left := names(t, filepath.Dir(path), filepath.Base(path), filepath.Base(path)+".lock"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// setAge makes the lock directories an hour old.
func setAge(t *testing.T, dir string) {
	old := time.Now().Add(-time.Hour)
	for _, l := range []string{filepath.Join(dir, ".oauth_refresh.lock"), dir + ".lock", filepath.Join(dir, ".storage-write.lock")} {
		if err := os.Chtimes(l, old, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func TestMarshal(t *testing.T) {
	r := newRecord()
	r.Issued, r.TokenOrigin, r.SignIn = time.UnixMilli(5), "https://provider.example", "0123456789abcdef"
	form, err := r.Marshal()
	check(t, err)
	got, err := Unmarshal(form)
	check(t, err)
	if got.version() != r.version() || !got.Issued.Equal(r.Issued) || got.TokenOrigin != r.TokenOrigin || got.SignIn != r.SignIn {
		t.Errorf("%+v", got)
	}
	if _, err := Unmarshal(protocol.NewSecret(`{"version":7}`)); !errors.Is(err, protocol.ErrInvalid) ||
		!strings.Contains(err.Error(), "version 7") {
		t.Errorf("a newer version: %v", err)
	}
}

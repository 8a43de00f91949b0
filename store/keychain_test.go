package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/keyring"
	"github.com/ccagent/ccagent/store/splice"
)

// security plays security(1). The items of an account are files in the folder of that name. A file "exit" there holds its exit
// status, and a file "hang" makes it wait for ever, together with a child.
func security(args []string) int {
	shown := args
	if args[0] == "-i" {
		line, err := bufio.NewReaderSize(os.Stdin, 1<<20).ReadString('\n')
		if err != nil || len(line) > 4096 {
			return 1
		}
		args = nil
		for i, part := range strings.Split(strings.TrimSpace(line), `"`) {
			if i%2 == 1 {
				args = append(args, part)
			} else {
				args = append(args, strings.Fields(part)...)
			}
		}
	}
	option := func(name string) string {
		for i, a := range args[:len(args)-1] {
			if a == name {
				return args[i+1]
			}
		}
		return ""
	}
	dir := option("-a")
	if code, err := os.ReadFile(filepath.Join(dir, "exit")); err == nil {
		var n int
		fmt.Sscan(string(code), &n)
		return n
	}
	if _, err := os.Stat(filepath.Join(dir, "hang")); err == nil {
		child := exec.Command("sleep", "1000")
		child.Stdout = os.Stdout
		if child.Start() != nil {
			return 1
		}
		os.WriteFile(filepath.Join(dir, "pid"), fmt.Append(nil, child.Process.Pid), 0o600)
		child.Wait()
	}
	// Other users can see arguments: no value may be among them.
	f, err := os.OpenFile(filepath.Join(dir, "args"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	fmt.Fprintln(f, shown)
	f.Close()
	item := filepath.Join(dir, option("-s"))
	switch args[0] {
	case "add-generic-password":
		data, err := hex.DecodeString(option("-X"))
		temp := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err != nil || os.WriteFile(temp, data, 0o600) != nil || os.Rename(temp, item) != nil {
			return 1
		}
	case "find-generic-password":
		data, err := os.ReadFile(item)
		if err != nil {
			return 44
		}
		if bytes.ContainsFunc(data, func(c rune) bool { return c < ' ' || c > '~' }) {
			data = hex.AppendEncode(nil, data)
		}
		fmt.Printf("%s\n", data)
	case "delete-generic-password":
		if os.Remove(item) != nil {
			return 44
		}
	}
	if args[0] != "find-generic-password" {
		temp := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if os.WriteFile(temp, nil, 0o600) != nil || os.Rename(temp, filepath.Join(dir, "login.keychain-db")) != nil {
			return 1
		}
	}
	return 0
}

// onMac makes s what it is on macOS, with a Keychain whose items are files in the folder items.
func onMac(t *testing.T, s *ClaudeCode, items string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.chain = func() (*keyring.ClaudeItem, error) {
		services, err := keyring.ClaudeServices(s.dir, filepath.Dir(s.dir), "")
		return &keyring.ClaudeItem{
			Program: self, Account: items, Database: filepath.Join(items, "login.keychain-db"), Services: services,
		}, err
	}
}

func newMac(t *testing.T) (s *ClaudeCode, items string) {
	t.Helper()
	items = t.TempDir()
	dir := filepath.Join(t.TempDir(), ".claude")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s = NewClaudeCode(dir)
	onMac(t, s, items)
	return s, items
}

const macItem = "Claude Code-credentials"

func TestKeychainItemIsSpliced(t *testing.T) {
	t.Parallel()
	s, items := newMac(t)
	const before = `{"mcpOAuth":{"x":1.50,"näme":"kept"}, "claudeAiOauth":{"accessToken":"fake-access-1","refreshToken":"fake-refresh-1","expiresAt":1900000000001,"scopes":["a"],"subscriptionType":"max","own":[1,2]}}`
	if err := os.WriteFile(filepath.Join(items, macItem), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	r, v, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.AccessToken, r.RefreshToken = protocol.NewSecret("fake-access-2"), protocol.NewSecret("fake-refresh-2")
	l, err := s.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v = mustSave(t, s, r, v)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(filepath.Join(items, macItem))
	want := strings.NewReplacer("fake-access-1", "fake-access-2", "fake-refresh-1", "fake-refresh-2").Replace(before)
	if string(after) != want {
		t.Errorf("the item holds %s", after)
	}
	if _, err := os.Stat(s.path()); err == nil {
		t.Error("a file was made beside the item")
	}
	if args, _ := os.ReadFile(filepath.Join(items, "args")); bytes.Contains(args, []byte("fake-")) ||
		bytes.Contains(args, []byte(hex.EncodeToString([]byte("fake-")))) {
		t.Errorf("a secret is among the arguments: %s", args)
	}
	if err := s.Delete(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if after, _ = os.ReadFile(filepath.Join(items, macItem)); string(after) != `{"mcpOAuth":{"x":1.50,"näme":"kept"}}` {
		t.Errorf("after the deletion the item holds %s", after)
	}
}

// TestKeychainOrFile: where there is no item but a file, Claude Code uses the file.
func TestKeychainOrFile(t *testing.T) {
	t.Parallel()
	s, items := newMac(t)
	plain := NewClaudeCode(s.dir)
	plain.chain = nil
	v := mustSave(t, plain, fakeRecord(1), Version{})
	wantRecord(t, s, fakeRecord(1))
	mustSave(t, s, fakeRecord(2), v)
	wantRecord(t, plain, fakeRecord(2))
	if _, err := os.Stat(filepath.Join(items, macItem)); err == nil {
		t.Error("an item was made beside the file")
	}
}

// TestKeychainTooLarge: an item that could not be written back is not renewed, so that no refresh token is lost.
func TestKeychainTooLarge(t *testing.T) {
	t.Parallel()
	s, items := newMac(t)
	mustSave(t, s, fakeRecord(1), Version{})
	path := filepath.Join(items, macItem)
	src, _ := os.ReadFile(path)
	src, err := setMembers(src, []member{{"mcpOAuth", splice.Encode(strings.Repeat("x", 1960-len(items)/2-len(src)))}})
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path, src, 0o600)
	wantRecord(t, s, fakeRecord(1))
	l, err := s.Lock(t.Context())
	check(t, err)
	wantIs(t, l.Reserve(t.Context()), protocol.ErrStorage)
	check(t, l.Release())
	_, v, _ := s.Load(t.Context())
	longer := fakeRecord(2)
	longer.RefreshToken = protocol.NewSecret(strings.Repeat("fake", 100))
	_, err = s.Save(t.Context(), longer, v)
	wantIs(t, err, protocol.ErrStorage)
	if now, _ := os.ReadFile(path); !bytes.Equal(now, src) {
		t.Error("the item was changed")
	}
}

func TestKeychainFails(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]error{"36": protocol.ErrLocked, "51": protocol.ErrLocked, "1": protocol.ErrStorage} {
		s, items := newMac(t)
		os.WriteFile(filepath.Join(items, "exit"), []byte(code), 0o600)
		_, _, err := s.Load(t.Context())
		if !errors.Is(err, want) {
			t.Errorf("exit %s: %v", code, err)
		}
	}
	s, _ := newMac(t)
	s.chain = func() (*keyring.ClaudeItem, error) {
		return &keyring.ClaudeItem{Program: s.dir + "/none", Services: []string{"x"}}, nil
	}
	_, _, err := s.Load(t.Context())
	wantIs(t, err, protocol.ErrStorage)
}

// TestKeychainHangs: when we give up on security(1), it ends with all that it has started.
func TestKeychainHangs(t *testing.T) {
	t.Parallel()
	s, items := newMac(t)
	os.WriteFile(filepath.Join(items, "hang"), nil, 0o600)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() {
		_, _, err := s.Load(ctx)
		done <- err
	}()
	var pid int
	for pid == 0 {
		b, _ := os.ReadFile(filepath.Join(items, "pid"))
		fmt.Sscan(string(b), &pid)
		time.Sleep(time.Millisecond)
	}
	cancel()
	wantIs(t, <-done, protocol.ErrStorage)
	for running(pid) {
		time.Sleep(time.Millisecond)
	}
}

// running reports whether a process is there and not a zombie.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// TestKeychainIsWatched: a change of the item by another program shows in a file that the store and its view tell to watch.
func TestKeychainIsWatched(t *testing.T) {
	t.Parallel()
	s, _ := newMac(t)
	another := NewClaudeCode(s.dir)
	another.chain = s.chain
	v := mustSave(t, s, fakeRecord(1), Version{})
	look := func(paths []string) (all []os.FileInfo) {
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil {
				all = append(all, info)
			}
		}
		return all
	}
	for _, paths := range [][]string{s.Place().Watch, s.View(t.TempDir()).Place().Watch} {
		before := look(paths)
		wantRecord(t, another, fakeRecord(1))
		if len(before) != 1 || !os.SameFile(before[0], look(paths)[0]) {
			t.Fatalf("of %q, %d are there; or reading changed one", paths, len(before))
		}
	}
	for _, paths := range [][]string{s.Place().Watch, s.View(t.TempDir()).Place().Watch} {
		before := look(paths)
		v = mustSave(t, another, fakeRecord(2+len(paths)), v)
		if os.SameFile(before[0], look(paths)[0]) {
			t.Errorf("none of %q has changed", paths)
		}
	}
}

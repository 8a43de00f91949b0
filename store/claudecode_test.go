package store

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

const shared = `{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":"fake-r","expiresAt":1,"scopes":["a"],"subscriptionType":"max"},"mcpOAuth":{"k":1.50}}`

// claudeDir makes a Claude Code directory whose credentials file is content.
func claudeDir(t testing.TB, content string) (dir, file string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), ".claude")
	file = filepath.Join(dir, ".credentials.json")
	check(t, os.Mkdir(dir, 0o755))
	if content != "" {
		check(t, os.WriteFile(file, []byte(content), 0o644))
	}
	return dir, file
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contentOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	return string(b)
}

// names lists a folder's entries besides those named.
func names(t testing.TB, dir string, but ...string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
next:
	for _, e := range entries {
		for _, b := range but {
			if e.Name() == b {
				continue next
			}
		}
		list = append(list, e.Name())
	}
	return list
}

func mustLoad(t testing.TB, s Store) (Record, Version) {
	t.Helper()
	r, v, err := s.Load(context.Background())
	check(t, err)
	return r, v
}

func TestClaudeCodeSave(t *testing.T) {
	t.Parallel()
	dir, file := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	l, err := s.Lock(context.Background())
	check(t, err)
	r, v := mustLoad(t, s)
	r.AccessToken = protocol.NewSecret("fake-b")
	_, err = s.Save(context.Background(), r, v)
	check(t, err)
	check(t, l.Check())
	check(t, l.Release())
	if got, want := contentOf(t, file), strings.Replace(shared, "fake-a", "fake-b", 1); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, f := range []string{".credentials.json", ".ccagent.lock"} { // under the umask 0 of TestMain
		info, err := os.Stat(filepath.Join(dir, f))
		check(t, err)
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
	}
	if left := names(t, dir, ".credentials.json", ".ccagent.lock"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if left := names(t, filepath.Dir(dir), ".claude"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestClaudeCodeSymlink(t *testing.T) {
	t.Parallel()
	dir, file := claudeDir(t, "")
	real := filepath.Join(t.TempDir(), "dotfiles")
	check(t, os.Mkdir(real, 0o700))
	check(t, os.WriteFile(filepath.Join(real, "creds"), []byte(shared), 0o600))
	check(t, os.Symlink("creds", filepath.Join(real, "hop")))
	check(t, os.Symlink(filepath.Join(real, "hop"), file))
	s := NewClaudeCode(dir)
	r, v := mustLoad(t, s)
	r.AccessToken = protocol.NewSecret("fake-b")
	_, err := s.Save(context.Background(), r, v)
	check(t, err)
	if info, err := os.Lstat(file); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v %v", info.Mode(), err)
	}
	if !strings.Contains(contentOf(t, filepath.Join(real, "creds")), "fake-b") {
		t.Error("the target was not written")
	}
	if left := names(t, real, "creds", "hop", ".ccagent.lock"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if p := s.Place(); len(p.Watch) != 2 {
		t.Errorf("watch %v", p.Watch)
	}
}

func TestClaudeCodeOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	t.Parallel()
	dir, file := claudeDir(t, shared)
	check(t, os.Chown(dir, 1234, 1235))
	check(t, os.Chown(file, 1234, 1235))
	s := NewClaudeCode(dir)
	_, v := mustLoad(t, s)
	_, err := s.Save(context.Background(), newRecord(), v)
	check(t, err)
	for _, f := range []string{file, filepath.Join(dir, ".ccagent.lock")} {
		info, err := os.Stat(f)
		check(t, err)
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 1234 || st.Gid != 1235 {
			t.Errorf("%s belongs to %d:%d", f, st.Uid, st.Gid)
		}
	}
}

func TestClaudeCodeDelete(t *testing.T) {
	t.Parallel()
	dir, file := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	_, v := mustLoad(t, s)
	check(t, s.Delete(context.Background(), v))
	if got := contentOf(t, file); got != `{"mcpOAuth":{"k":1.50}}` {
		t.Errorf("left %s", got)
	}
	v, err := s.Save(context.Background(), newRecord(), Version{})
	check(t, err)
	check(t, os.WriteFile(file, []byte(`{"claudeAiOauth":`+string(memberOf(t, file))+`}`), 0o600))
	check(t, s.Delete(context.Background(), v))
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file with nothing in it: %v", err)
	}
}

func memberOf(t *testing.T, file string) []byte {
	o, err := readObject(file, []byte(contentOf(t, file)))
	check(t, err)
	return o.values[claudeKey]
}

func TestClaudeCodeStub(t *testing.T) {
	t.Parallel()
	dir, _ := claudeDir(t, `{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0,"scopes":["a"],"keep":1}}`)
	s := NewClaudeCode(dir)
	r, v, err := s.Load(context.Background())
	if !errors.Is(err, protocol.ErrLoginRequired) || v == (Version{}) || !r.IsStub() {
		t.Fatalf("%v %v", v, err)
	}
	_, err = s.Save(context.Background(), newRecord(), v)
	check(t, err)
	if r, _ := mustLoad(t, s); r.AccessToken.Reveal() != "fake-<new>" {
		t.Error("not saved over the stub")
	}
}

func TestClaudeCodeNote(t *testing.T) {
	t.Parallel()
	dir, file := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	r, v := mustLoad(t, s)
	r.Issued, r.TokenOrigin, r.SignIn = time.UnixMilli(1800000000000), "https://provider.example", "0123456789abcdef"
	r.AccessToken = protocol.NewSecret("fake-b")
	v, err := s.Save(context.Background(), r, v)
	check(t, err)
	if got, _ := mustLoad(t, NewClaudeCode(dir)); !got.Issued.Equal(r.Issued) || got.TokenOrigin != r.TokenOrigin ||
		got.SignIn != r.SignIn {
		t.Errorf("the note is lost: %+v", got)
	}
	check(t, os.WriteFile(file, []byte(strings.Replace(shared, `"k":1.50`, `"k":2`, 1)), 0o600))
	got, now := mustLoad(t, s)
	if !got.Issued.IsZero() || got.TokenOrigin != r.TokenOrigin || got.SignIn != r.SignIn || now == v {
		t.Errorf("after a rewrite by another program: %+v", got)
	}
	check(t, os.WriteFile(filepath.Join(dir, ".ccagent.lock"), []byte(`{"version":"`), 0o600))
	if got, _ := mustLoad(t, s); got.TokenOrigin != "" {
		t.Error("a torn note was believed")
	}
	now, err = s.Save(context.Background(), r, now)
	check(t, err)
	check(t, s.Delete(context.Background(), now))
	_, err = s.Save(context.Background(), newRecord(), Version{})
	check(t, err)
	if got, _ := mustLoad(t, s); got.TokenOrigin != "" || got.SignIn != "" {
		t.Error("a new sign-in inherited the binding of a deleted one")
	}
}

// A version depends on the keys of the record alone: what another program does to the rest of the file is no change of the
// record.
func TestClaudeCodeVersionIgnoresOthers(t *testing.T) {
	t.Parallel()
	dir, file := claudeDir(t, shared)
	s := NewClaudeCode(dir)
	_, v := mustLoad(t, s)
	check(
		t,
		os.WriteFile(file,
			[]byte(strings.NewReplacer(`"k":1.50`, `"other":[]`, `"expiresAt":1`, `"z":7, "expiresAt" : 1.0`).Replace(shared)), 0o600),
	)
	if _, now := mustLoad(t, s); now != v {
		t.Error("the version changed with other programs' keys")
	}
}

// What can't be a credentials file is refused at once, and is neither read nor changed.
func TestNotAFile(t *testing.T) {
	t.Parallel()
	make := map[string]func(path string) error{
		"pipe":   func(p string) error { return unix.Mkfifo(p, 0o600) },
		"folder": func(p string) error { return os.Mkdir(p, 0o700) },
		"device": func(p string) error { return os.Symlink("/dev/zero", p) },
		"socket": func(p string) error {
			// A short name of its own: a socket's path is limited.
			l, err := net.Listen("unix", p)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
		"sparse": func(p string) error {
			check(t, os.WriteFile(p, nil, 0o600))
			return os.Truncate(p, 100<<20)
		},
		"corrupt": func(p string) error { return os.WriteFile(p, []byte(`{"claudeAiOauth":`), 0o600) },
	}
	for name, make := range make {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/tmp", "s") // short, for one is a socket
			check(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			path := filepath.Join(dir, ".credentials.json")
			check(t, make(path))
			for what, err := range map[string]error{
				"load": func() error { _, _, err := NewClaudeCode(dir).Load(context.Background()); return err }(),
				"save": func() error {
					_, err := NewClaudeCode(dir).Save(context.Background(), newRecord(), Version{})
					return err
				}(),
				"delete": NewClaudeCode(dir).Delete(context.Background(), Version{1}),
			} {
				if !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), ".credentials.json") && what == "load" {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestCrashedWritersFilesGo(t *testing.T) {
	t.Parallel()
	dir, file := claudeDir(t, shared)
	for _, n := range []string{"..credentials.json.ccagent-DEAD.tmp", ".credentials.json.tmp.123", "..other.ccagent-DEAD.tmp"} {
		check(t, os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o600))
	}
	s := NewClaudeCode(dir)
	_, v := mustLoad(t, s)
	_, err := s.Save(context.Background(), newRecord(), v)
	check(t, err)
	if left := names(t, dir, filepath.Base(file), ".ccagent.lock", ".credentials.json.tmp.123",
		"..other.ccagent-DEAD.tmp"); left != nil {
		t.Errorf("left %v", left)
	}
	if left := names(t, dir); len(left) != 4 {
		t.Errorf("another program's file is gone: %v", left)
	}
}

func TestFileKeepsUnknownKeysAndNewerVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := NewFile(dir, "p")
	path := filepath.Join(dir, "p.json")
	v, err := s.Save(context.Background(), newRecord(), Version{})
	check(t, err)
	check(t, os.WriteFile(path, []byte(strings.Replace(contentOf(t, path), "{", `{ "later":[1.0], `, 1)), 0o600))
	r := newRecord()
	r.AccessToken = protocol.NewSecret("fake-b")
	v, err = s.Save(context.Background(), r, v)
	check(t, err)
	if !strings.HasPrefix(contentOf(t, path), `{ "later":[1.0], "version":1,`) {
		t.Errorf("got %s", contentOf(t, path))
	}
	newer := strings.Replace(contentOf(t, path), `"version":1`, `"version":2`, 1)
	check(t, os.WriteFile(path, []byte(newer), 0o600))
	_, _, err = s.Load(context.Background())
	if !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := s.Save(context.Background(), r, v); !errors.Is(err, protocol.ErrInvalid) {
		t.Errorf("saving over a newer version: %v", err)
	}
	if contentOf(t, path) != newer {
		t.Error("a newer version was changed")
	}
}

func TestExpiresBefore(t *testing.T) {
	at := func(ms int64) Record { return Record{Expiry: time.UnixMilli(ms)} }
	never := Record{}
	for _, tt := range []struct {
		a, b Record
		want bool
	}{{at(1), at(2), true}, {at(2), at(1), false}, {at(1), at(1), false}, {at(1), never, true}, {never, at(1), false},
		{never, never, false}} {
		if got := ExpiresBefore(tt.a, tt.b); got != tt.want {
			t.Errorf("%v before %v: %v", tt.a.Expiry, tt.b.Expiry, got)
		}
	}
}

// TestClaudeCodeSomewhere: nobody knows where a path leads that is not absolute, so nothing is read or made there.
func TestClaudeCodeSomewhere(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"~/.claude-work", "work", ".", ""} {
		if err := os.MkdirAll(dir+"/", 0o700); dir != "" && err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".credentials.json"), []byte(shared), 0o600); err != nil {
			t.Fatal(err)
		}
		s := NewClaudeCode(dir)
		_, _, err := s.Load(t.Context())
		wantIs(t, err, protocol.ErrConfig)
		_, err = s.Save(t.Context(), fakeRecord(1), Version{})
		wantIs(t, err, protocol.ErrConfig)
		_, err = s.Lock(t.Context())
		wantIs(t, err, protocol.ErrConfig)
		wantIs(t, s.Delete(t.Context(), Version{}), protocol.ErrConfig)
		wantIs(t, s.View(t.TempDir()).Restore(t.Context(), fakeRecord(1)), protocol.ErrConfig)
		if left, err := os.ReadFile(filepath.Join(dir, ".credentials.json")); string(left) != shared {
			t.Errorf("%q: %s, %v", dir, left, err)
		}
	}
}

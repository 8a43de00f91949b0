package store

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// plainViews are the kinds of view that are a file of their own.
var plainViews = []struct {
	name string
	open func(state, path string) *View
	want func(token string) string
}{
	{"token", func(state, path string) *View { return NewTokenView(state, path, false) },
		func(token string) string { return token }},
	{"env", func(state, path string) *View { return NewEnvView(state, path, "LLM_KEY", false) },
		func(token string) string { return "LLM_KEY=" + token + "\n" }},
	{"token in place", func(state, path string) *View { return NewTokenView(state, path, true) },
		func(token string) string { return token }},
	{"env in place", func(state, path string) *View { return NewEnvView(state, path, "LLM_KEY", true) },
		func(token string) string { return "LLM_KEY=" + token + "\n" }},
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil || string(got) != want || info.Mode().Perm() != 0o600 {
		t.Fatalf("%s holds %q (%v, %v), want %q", path, got, err, info, want)
	}
}

// private is a folder of the test that nobody else may write in, whatever the umask is.
func private(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPlainViews(t *testing.T) {
	t.Parallel()
	for _, kind := range plainViews {
		t.Run(kind.name, func(t *testing.T) {
			inPlace := strings.HasSuffix(kind.name, "in place")
			state, path := t.TempDir(), filepath.Join(private(t), "run", "llm")
			v := kind.open(state, path)
			wantState(t, v, ViewNone)
			mustWrite(t, v, fakeRecord(1))
			wantState(t, v, ViewOurs)
			wantFile(t, path, kind.want("fake-access-1"))
			if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder: %v, %v", info, err)
			}
			before, _ := os.Stat(path)
			if held, err := os.Open(path); err == nil { // so that no other file gets its number
				defer held.Close()
			}
			long := fakeRecord(2)
			long.AccessToken = protocol.NewSecret("fake-access-" + strings.Repeat("2", 3000))
			mustWrite(t, kind.open(state, path), long)
			wantFile(t, path, kind.want(long.AccessToken.Reveal()))
			mustWrite(t, v, fakeRecord(3))
			wantFile(t, path, kind.want("fake-access-3"))
			if after, _ := os.Stat(path); os.SameFile(before, after) != inPlace {
				t.Errorf("the same file: %v", !inPlace)
			}

			// What somebody else has written stays, until it is wanted back; then a copy is kept.
			os.WriteFile(path, []byte("theirs"), 0o600)
			wantState(t, v, ViewForeign)
			wantIs(t, v.WriteAgain(t.Context(), fakeRecord(4)), ErrConflict)
			if err := v.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, "theirs")
			if err := v.Restore(t.Context(), fakeRecord(4)); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, kind.want("fake-access-4"))
			wantFile(t, v.Copied(), "theirs")
			codex := `{"OPENAI_API_KEY":null,"tokens":{"id_token":"fake","refresh_token":"fake-refresh","account_id":"a"}}`
			for _, theirs := range []string{codex, `{"claudeAiOauth":{"accessToken":"fake-access-1","refreshToken":"fake-refresh-1"}}`} {
				os.WriteFile(path, []byte(theirs), 0o600)
				err := v.Restore(t.Context(), fakeRecord(4))
				if !errors.Is(err, protocol.ErrInvalid) || strings.Contains(err.Error(), "fake") {
					t.Errorf("over another program's sign-in: %v", err)
				}
				wantFile(t, path, theirs)
			}

			// A removed one is written again where that is wanted, and an empty file counts as a missing one.
			os.WriteFile(path, nil, 0o644)
			wantState(t, v, ViewGone)
			wantIs(t, v.Write(t.Context(), fakeRecord(5)), ErrConflict)
			if err := v.WriteAgain(t.Context(), fakeRecord(5)); err != nil {
				t.Fatal(err)
			}
			wantFile(t, path, kind.want("fake-access-5"))

			// Whatever a writer has left that was killed goes with the view.
			os.WriteFile(filepath.Join(filepath.Dir(path), ".llm.ccagent-DEAD.tmp"), []byte("fake-access-5"), 0o600)
			if err := v.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			left, _ := os.ReadDir(filepath.Dir(path))
			if inPlace {
				wantFile(t, path, "")
			} else if len(left) != 0 {
				t.Errorf("left: %v", left)
			}
			if len(left) > 1 {
				t.Errorf("left: %v", left)
			}
			wantState(t, v, ViewNone)
			if copies, _ := os.ReadDir(filepath.Join(state, "broken")); len(copies) != 0 {
				t.Errorf("copies are left: %v", copies)
			}
		})
	}
}

// TestEnvViewIsRead has a shell read the file, and refuses what shells, docker and systemd would not read alike.
func TestEnvViewIsRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(private(t), "env")
	v := NewEnvView(t.TempDir(), path, "LLM_KEY", false)
	for _, token := range []string{"fake", "fake-._~+/=:@%,x", "eyJhbGciOiJmYWtlIn0.e30.ZmFrZQ==", "fake=a=b"} {
		r := fakeRecord(1)
		r.AccessToken = protocol.NewSecret(token)
		mustWrite(t, v, r)
		out, err := exec.Command("sh", "-c", `HOME=/elsewhere; . "$0"; printf %s "$LLM_KEY"`, path).Output()
		if err != nil || string(out) != token {
			t.Errorf("a shell reads %q, %v", out, err)
		}
	}
	for _, token := range []string{"fake$x", "fake`x`", `fake"x`, "fake'x", `fake\x`, "fake#x", "fake;x", "fake&x", "fake(x)", "fake*", "~fake",
		"fake:~x", "fake!x", "{fake}", "fake|x", "<fake>", "fake?", "[fake]"} {
		r := fakeRecord(1)
		r.AccessToken = protocol.NewSecret(token)
		if err := v.Write(t.Context(), r); !errors.Is(err, protocol.ErrConfig) || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", token, err)
		}
	}
}

// TestFormerViews: what was written for a profile and is not in its settings any more is found, however it was written.
func TestFormerViews(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), private(t)
	places := []ViewPlace{
		{Kind: ViewToken, Path: filepath.Join(dir, "token")}, {Kind: ViewEnv, Path: filepath.Join(dir, "env"), Name: "A"},
		{Kind: ViewClaude, Dir: filepath.Join(dir, "w1")}, {Kind: ViewSDK, Dir: filepath.Join(dir, "sdk")},
		{Kind: ViewClaude}, // never a former one
	}
	own := filepath.Join(dir, "claude")
	os.Mkdir(own, 0o700)
	for _, p := range places {
		mustWrite(t, p.Open(state, "work", own), fakeRecord(1))
	}
	mustWrite(t, ViewPlace{Kind: ViewToken, Path: filepath.Join(dir, "other")}.Open(state, "other", own), fakeRecord(2))
	if former := FormerViews(state, "work", places); len(former) != 0 {
		t.Errorf("of the present ones: %v", former)
	}
	for i, p := range places[:4] {
		former := FormerViews(state, "work", append(append([]ViewPlace{}, places[:i]...), places[i+1:]...))
		if len(former) != 1 || former[0].Place().Location != p.Open(state, "work", own).Place().Location {
			t.Fatalf("without %v: %v", p, former)
		}
		if err := former[0].Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if former := FormerViews(state, "work", nil); len(former) != 0 {
		t.Errorf("left: %v", former)
	}
	for _, path := range []string{"token", "env", "w1/.credentials.json", "sdk/credentials/work.json"} {
		if _, err := os.Stat(filepath.Join(dir, path)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left", path)
		}
	}
	for _, path := range []string{"other", "claude/.credentials.json"} {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			t.Errorf("%s is gone", path)
		}
	}
}

func TestCheckViewFile(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(private(t))
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755) // else nobody could reach what is open to everybody
	os.Chmod(filepath.Dir(dir), 0o755)
	os.Chmod(dir, 0o755)
	os.MkdirAll(at("own", "folder"), 0o700)
	os.WriteFile(at("own", "file"), nil, 0o600)
	os.Mkdir(at("open"), 0o700)
	os.Chmod(at("open"), 0o777)
	os.Mkdir(at("open", "own"), 0o700)
	os.Mkdir(at("sticky"), 0o700)
	os.Chmod(at("sticky"), 0o777|fs.ModeSticky)
	os.Mkdir(at("sticky", "own"), 0o700)
	os.Symlink("own", at("link"))
	os.Symlink("own/token", at("dangling"))
	os.Symlink(at("open"), at("to-open"))
	os.Symlink("loop", at("loop"))
	for path, want := range map[string]string{ // "": refused
		"own/file": "own/file", "own/token": "own/token", "own/new/folder/token": "own/new/folder/token",
		"link/token": "own/token", "dangling": "own/token", "sticky/own/token": "sticky/own/token",
		"own": "", "link": "", "own/file/token": "", "open/token": "", "open/own/token": "", "to-open/token": "", "sticky/token": "",
		"loop": "", "loop/token": "",
	} {
		got, err := CheckViewFile(at(path))
		if want != "" && (err != nil || got != at(want)) {
			t.Errorf("%s: %s, %v", path, got, err)
		}
		if want == "" && (!errors.Is(err, protocol.ErrStorage) || protocol.HintOf(err) == "") {
			t.Errorf("%s: %s, %v", path, got, err)
		}
	}
	for path, want := range map[string]bool{"open/token": true, "sticky/token": false} { // to close /tmp would hurt others
		if _, err := CheckViewFile(at(path)); strings.Contains(protocol.HintOf(err), "chmod") != want {
			t.Errorf("%s: %s", path, protocol.HintOf(err))
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	os.Symlink("own/token", at("theirs"))
	os.Lchown(at("theirs"), 1234, 1234)
	os.Symlink("own", at("their-folder"))
	os.Lchown(at("their-folder"), 1234, 1234)
	for _, path := range []string{"theirs", "their-folder/token"} {
		_, err := CheckViewFile(at(path))
		if !errors.Is(err, protocol.ErrStorage) || !strings.Contains(err.Error(), "another user's link") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// mountFile mounts one file over another, as a container has it, and returns the file that it comes from.
func mountFile(t *testing.T, from, over string, readOnly bool) {
	t.Helper()
	needRoot(t)
	if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(over, unix.MNT_DETACH); err != nil && err != unix.EINVAL { // not mounted any more
			t.Error(err)
		}
	})
	if readOnly {
		remountReadOnly(t, over)
	}
}

func remountReadOnly(t *testing.T, path string) {
	t.Helper()
	if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
}

// fill makes a small file system at path, with the sign-in in it and no room left. mend makes some.
func fill(t *testing.T, h *home, path string) (mend func()) {
	t.Helper()
	signIn := h.read(".claude/.credentials.json")
	if err := errors.Join(os.MkdirAll(path, 0o700), unix.Mount("none", path, "tmpfs", 0, "size=64k,mode=700")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(path, ".credentials.json"), []byte(signIn), 0o600); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(path, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("it is not full: %v", err)
	}
	return func() { os.Remove(filler) }
}

// nothingBeside fails if a write has left anything in the folder.
func nothingBeside(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "ccagent-") || strings.HasSuffix(e.Name(), ".tmp") || e.Name() == ".storage-write.lock" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// A single file mounted into a container can't be replaced. It is written in place, so that the host has the new sign-in, and
// everything else that was in it.
func TestFileMounted(t *testing.T) {
	needRoot(t)
	for name, from := range map[string]string{"from another folder": "host.json", "from the same folder": ".claude/host.json"} {
		t.Run(name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			h.signIn(expired(provider.Issue()))
			file := h.credentialsFile()
			h.write(from, h.read(".claude/.credentials.json"))
			h.write(".claude/.credentials.json", "")
			mountFile(t, h.path(from), file, false)

			h.serve()
			for range 3 {
				token := h.token()
				if got := readStored(t, h.path(from)).AccessToken; got != token || !provider.Live(token) {
					t.Fatalf("the host has %s, and the token is %s", got, token)
				}
				h.ccagent("refresh").must(t)
			}
			if p := h.profile("claude"); p.State != "live" {
				t.Errorf("status %+v", p)
			}
			checkSignIn(t, h.path(from), provider)
			nothingBeside(t, filepath.Dir(file))
			h.ccagent("stop").must(t)

			// A view of it, and a sign-out.
			h.ccagent("guard", "claude-code", "--store", "file").must(t)
			if s := readStored(t, h.path(from)); s.RefreshToken != "" || !provider.Live(s.AccessToken) {
				t.Errorf("guarded, the host's file holds %+v", s)
			}
			h.ccagent("refresh").must(t)
			if s := readStored(t, h.path(from)); s.RefreshToken != "" || s.AccessToken != h.token() {
				t.Errorf("the view was not kept fresh: %+v", s)
			}
			h.ccagent("guard", "claude-code", "--undo").must(t)
			h.ccagent("refresh").must(t)
			checkSignIn(t, h.path(from), provider)
			h.ccagent("logout", "--yes").must(t)
			if strings.Contains(h.read(from), "refreshToken") || !strings.Contains(h.read(from), "mcpOAuth") {
				t.Errorf("signed out, the host's file holds %s", h.read(from))
			}
			nothingBeside(t, filepath.Dir(file))
		})
	}
}

// The files of the stores of ours are written in place as well, and emptied where they can't be removed.
func TestOwnFileMounted(t *testing.T) {
	needRoot(t)
	for kind, name := range map[string]string{"file": "claude.json", "encrypted": "encrypted/claude.age"} {
		t.Run(kind, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			key, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			h.write("key", key.String()+"\n")
			config := strings.Replace(h.read(".config/ccagent/config.toml"), "claude-code", "auto", 1)
			h.config(config + fmt.Sprintf("identity = %q\n", h.path("key")))
			h.ccagent("move", "claude", kind, "--force").must(t)
			h.ccagent("stop").must(t)
			file, host := h.path(".local/share/ccagent/"+name), h.path("host")
			if err := os.Rename(file, host); err != nil {
				t.Fatal(err)
			}
			h.write(".local/share/ccagent/"+name, "")
			mountFile(t, host, file, false)
			h.serve()
			before := h.read("host")
			h.ccagent("refresh").must(t)
			if h.read("host") == before || h.profile("claude").State != "live" {
				t.Errorf("the host's file was not written: %+v", h.profile("claude"))
			}
			h.ccagent("stop").must(t)
			h.serve()
			if token := h.token(); !provider.Live(token) {
				t.Error("the token is dead")
			}
			nothingBeside(t, filepath.Dir(file))
			h.ccagent("logout", "--yes").must(t)
			if h.read("host") != "" {
				t.Error("signed out, something is left in the host's file")
			}
			if r := h.helper(); r.exit != 3 && r.exit != 4 {
				t.Errorf("signed out: exit %d, %s", r.exit, r.stderr)
			}
			if n := provider.Counts(); n.Reuses != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// Where the new sign-in can't be saved the refresh token is not spent: the token serves while it lives, and status and doctor say
// all the while what is wrong. Then exit 8 says it. Once it is mended, the next request renews.
func TestNotRenewedWhereNotSaved(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		name string
		hurt func(t *testing.T, h *home) (mend func())
		want string
	}{
		{"the file is mounted read-only", func(t *testing.T, h *home) func() {
			h.write("host.json", h.read(".claude/.credentials.json"))
			mountFile(t, h.path("host.json"), h.credentialsFile(), true)
			return func() { unix.Mount("", h.credentialsFile(), "", unix.MS_BIND|unix.MS_REMOUNT, "") }
		}, "mounted"},
		{"the mounted file was replaced where it comes from", func(t *testing.T, h *home) func() {
			h.write("host.json", h.read(".claude/.credentials.json"))
			mountFile(t, h.path("host.json"), h.credentialsFile(), false)
			if err := os.Remove(h.path("host.json")); err != nil {
				t.Fatal(err)
			}
			return func() { unix.Unmount(h.credentialsFile(), unix.MNT_DETACH) }
		}, "another file"},
		{"the folder is read-only", func(t *testing.T, h *home) func() {
			mountFile(t, h.path(".claude"), h.path(".claude"), true)
			return func() { unix.Mount("", h.path(".claude"), "", unix.MS_BIND|unix.MS_REMOUNT, "") }
		}, "read-only"},
		{"the folder is marked", func(t *testing.T, h *home) func() {
			if out, err := exec.Command("chattr", "+a", h.path(".claude")).CombinedOutput(); err != nil {
				t.Skipf("no file is marked here: %s", out)
			}
			mend := func() { exec.Command("chattr", "-a", h.path(".claude")).Run() }
			t.Cleanup(mend)
			return mend
		}, "marked"},
		{"the file is another user's, in a folder like /tmp", func(t *testing.T, h *home) func() {
			h.giveTo(credential(t, "ccagent-alice"))
			for path, mode := range map[string]os.FileMode{h.path(".claude"): 0o777 | os.ModeSticky, h.credentialsFile(): 0o666} {
				if err := errors.Join(os.Chown(path, 0, 0), os.Chmod(path, mode)); err != nil {
					t.Fatal(err)
				}
			}
			return func() { h.giveTo(h.owner) }
		}, "another user's"},
		{"the file system is full", func(t *testing.T, h *home) func() {
			return fill(t, h, h.path(".claude"))
		}, "no space"},
		{"the file system that the mounted file comes from is full", func(t *testing.T, h *home) func() {
			mend := fill(t, h, h.path("host"))
			mountFile(t, h.path("host/.credentials.json"), h.credentialsFile(), false)
			return mend
		}, "no space"},
		{"our lock file is a folder", func(t *testing.T, h *home) func() {
			mkdir(t, h.path(".claude/.ccagent.lock"), 0o700)
			return func() { os.Remove(h.path(".claude/.ccagent.lock")) }
		}, ".ccagent.lock"},
		{"a volume of Kubernetes", func(t *testing.T, h *home) func() {
			h.write(".claude/..2026_01_01/.credentials.json", h.read(".claude/.credentials.json"))
			os.Remove(h.credentialsFile())
			if err := os.Symlink("..data/.credentials.json", h.credentialsFile()); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("..2026_01_01", h.path(".claude/..data")); err != nil {
				t.Fatal(err)
			}
			return func() {
				data := h.read(".claude/.credentials.json")
				os.Remove(h.credentialsFile())
				os.RemoveAll(h.path(".claude/..2026_01_01"))
				h.write(".claude/.credentials.json", data)
			}
		}, "Kubernetes"},
		{"the write lock is a file", func(t *testing.T, h *home) func() {
			h.write(".claude/.storage-write.lock", "")
			return func() { os.Remove(h.path(".claude/.storage-write.lock")) }
		}, ".storage-write.lock"},
		{"a refresh lock is a file", func(t *testing.T, h *home) func() {
			h.write(".claude/.oauth_refresh.lock", "")
			return func() { os.Remove(h.path(".claude/.oauth_refresh.lock")) }
		}, ".oauth_refresh.lock"},
		{"the other refresh lock is a file", func(t *testing.T, h *home) func() {
			h.write(".claude.lock", "")
			return func() { os.Remove(h.path(".claude.lock")) }
		}, ".claude.lock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			h.signIn(provider.Issue())
			mend := test.hurt(t, h)
			h.serve()
			first := h.token()
			if r := h.ccagent("status"); !strings.Contains(r.stdout, test.want) {
				t.Errorf("status does not say it:\n%s", r.stdout)
			}
			if r := h.ccagent("doctor"); r.exit == 0 || !strings.Contains(r.stdout, test.want) {
				t.Errorf("doctor does not say it:\n%s", r.stdout)
			}
			h.ccagent("refresh").fails(t, 8, test.want)
			if left, err := filepath.Glob(h.path(".claude/.*.ccagent-*")); err != nil || left != nil {
				t.Errorf("left %v, %v", left, err)
			}
			for _, lock := range []string{".claude/.oauth_refresh.lock", ".claude/.storage-write.lock", ".claude.lock"} {
				if info, err := os.Lstat(h.path(lock)); err == nil && info.IsDir() {
					t.Errorf("left %s", lock)
				}
			}
			if token := h.token(); token != first {
				t.Errorf("token %s, want the old one while it lives", token)
			}
			if r := h.ccagent("status"); !strings.Contains(r.stdout, test.want) {
				t.Errorf("status does not say it:\n%s", r.stdout)
			}
			h.ccagent("stop").must(t)
			if n := provider.Counts(); n.Requests != 0 {
				t.Fatalf("%+v: the provider was asked", n)
			}

			mend()
			h.serve()
			h.ccagent("refresh").must(t)
			if token := h.token(); token == first || !provider.Live(token) {
				t.Errorf("mended, the token is %s", token)
			}
			checkSignIn(t, h.credentialsFile(), provider)
		})
	}
}

// An expired token in a place that can't be written is exit 8, with the reason and the mend.
func TestExpiredWhereNotSaved(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.signIn(expired(provider.Issue()))
	h.write(".claude/.storage-write.lock", "")
	r := h.helper()
	r.fails(t, 8, ".storage-write.lock")
	if !strings.Contains(r.stderr, "hint: move away what is in the way") || provider.Counts().Requests != 0 {
		t.Errorf("%s, %+v", r.stderr, provider.Counts())
	}
	os.Remove(h.path(".claude/.storage-write.lock"))
	wait(t, "a renewal", func() bool { return h.helper().exit == 0 }) // a failure stands for a second
	if token := h.token(); !provider.Live(token) {
		t.Error("mended, the token is dead")
	}
	checkSignIn(t, h.credentialsFile(), provider)
}

// A store of ours in a folder that can't be written is renewed as long as a spill elsewhere can take the record, and comes home.
func TestSpilledWhereOurOwnIsReadOnly(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	h.ccagent("move", "claude", "file", "--force").must(t)
	h.ccagent("stop").must(t)
	data := h.path(".local/share/ccagent")
	mountFile(t, data, data, true)
	h.serve()
	first := h.token()
	h.ccagent("refresh")
	token := h.token()
	if token == first || !provider.Live(token) {
		t.Fatal("not renewed")
	}
	if p := h.profile("claude"); p.State != "unsaved" {
		t.Errorf("status %+v", p)
	}
	if err := unix.Mount("", data, "", unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	wait(t, "the record to be saved", func() bool { return h.profile("claude").State == "live" })
	if n := provider.Counts(); n.Requests != 1 || n.Reuses != 0 {
		t.Errorf("%+v", n)
	}
}

// Settings that are mounted as a single file are not replaced, and it is said what helps.
func TestSetupOverMount(t *testing.T) {
	h := newHome(t)
	h.config("[profiles.gateway]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-key\"]\n")
	h.write("settings.json", "{}\n")
	h.write(".claude/settings.json", "")
	mountFile(t, h.path("settings.json"), h.path(".claude/settings.json"), false)
	r := h.ccagent("setup", "claude-code", "-p", "gateway", "--yes")
	told := strings.Contains(r.stderr, "; nothing was changed\nhint: it is mounted as a single file")
	if r.exit != 8 || !told || strings.Contains(r.stderr, ".ccagent-") {
		t.Errorf("exit %d, %s", r.exit, r.stderr)
	}
	if h.read("settings.json") != "{}\n" {
		t.Errorf("it was changed: %s", h.read("settings.json"))
	}
	nothingBeside(t, h.path(".claude"))
}

// A guard that can't take the refresh token out of the file changes nothing, and says so. Once that is mended it guards.
func TestGuardReadOnlyMount(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	before := h.read(".claude/.credentials.json")
	config := strings.Replace(h.read(".config/ccagent/config.toml"), "claude-code", "auto", 1)
	h.config(config)
	h.write("host.json", before)
	mountFile(t, h.path("host.json"), h.credentialsFile(), true)
	h.serve()
	r := h.ccagent("guard", "claude-code", "--store", "file")
	if r.exit != 8 || !strings.Contains(r.stderr, "; nothing was changed\n") || r.stdout != "" {
		t.Errorf("exit %d, %q, %q", r.exit, r.stdout, r.stderr)
	}
	if h.read("host.json") != before || h.read(".config/ccagent/config.toml") != config {
		t.Errorf("the file is %s, config.toml %s", h.read("host.json"), h.read(".config/ccagent/config.toml"))
	}
	if token := h.token(); !provider.Live(token) {
		t.Error("the token is dead")
	}
	if err := unix.Mount("", h.credentialsFile(), "", unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	h.ccagent("guard", "claude-code", "--store", "file").must(t)
	h.ccagent("refresh").must(t)
	if s := readStored(t, h.path("host.json")); s.RefreshToken != "" || s.AccessToken != h.token() {
		t.Errorf("the view is %+v", s)
	}
	if n := provider.Counts(); n.Reuses != 0 {
		t.Errorf("%+v", n)
	}
}

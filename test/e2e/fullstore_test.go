//go:build e2e

package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// storeFS is a small tmpfs over a home's Claude Code directory. Tests run as root, whom modes don't stop; a file system does.
type storeFS struct {
	t   *testing.T
	dir string
}

// mountStore mounts over h's .claude, which must not have been used yet by a running agent.
func mountStore(t *testing.T, h *home) *storeFS {
	t.Helper()
	fs := &storeFS{t, h.path(".claude")}
	mkdir(t, fs.dir, 0o700)
	if err := unix.Mount("cce", fs.dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	// Registered after the home's own cleanup, so run before it: agents that look at the folder would keep it busy.
	t.Cleanup(func() {
		if err := unix.Unmount(fs.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return fs
}

func (fs *storeFS) remount(flags uintptr) {
	fs.t.Helper()
	// A writer that has a file open for a moment makes it busy.
	wait(fs.t, "the remount", func() bool {
		err := unix.Mount("", fs.dir, "", unix.MS_REMOUNT|flags, "size=64k")
		if err != nil && err != unix.EBUSY {
			fs.t.Fatalf("remount: %v", err)
		}
		return err == nil
	})
}

func (fs *storeFS) readOnly() { fs.remount(unix.MS_RDONLY) }
func (fs *storeFS) writable() { fs.remount(0) }

func (fs *storeFS) fill() {
	fs.t.Helper()
	f, err := os.Create(fs.dir + "/fill")
	if err != nil {
		fs.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	if !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		fs.t.Fatal(err)
	}
}

func (fs *storeFS) drain() {
	fs.t.Helper()
	if err := os.Remove(fs.dir + "/fill"); err != nil {
		fs.t.Fatal(err)
	}
}

// A home that is shared and can't be written is not renewed: the refresh token would be spent, and the home keep the spent one.
// The token serves while it lives, and status says why there will be no other.
func TestFailingStore(t *testing.T) {
	needRoot(t)
	cases := []struct {
		name        string
		fail, mend  func(*storeFS)
		wantInError string
	}{
		{"read-only", (*storeFS).readOnly, (*storeFS).writable, "read-only"},
		{"full", (*storeFS).fill, (*storeFS).drain, "no space"},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			fs := mountStore(t, h)
			h.signIn(provider.Issue())
			h.serve()
			first := h.token()
			before := h.read(".claude/.credentials.json")

			test.fail(fs)
			h.ccagent("refresh").fails(t, 8, test.wantInError)
			if token := h.token(); token != first {
				t.Fatalf("token %s, want the one that lives", token)
			}
			if p := h.profile("claude"); !strings.Contains(strings.ToLower(p.LastError), test.wantInError) {
				t.Errorf("status %+v does not say why", p)
			}
			if n := provider.Counts().Requests; n != 0 || h.read(".claude/.credentials.json") != before {
				t.Errorf("%d requests at the provider, want none, and an unchanged file", n)
			}

			test.mend(fs)
			wait(t, "a renewal", func() bool { return h.ccagent("refresh").exit == 0 }) // a failure stands for a second
			if token := h.token(); token == first || readStored(t, h.credentialsFile()).AccessToken != token {
				t.Errorf("token %s is not the one that is stored", token)
			}
			checkSignIn(t, h.credentialsFile(), provider)
		})
	}
}

// A home that fills up while the provider is asked takes what room was reserved in.
func TestStoreFillsMeanwhile(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	fs := mountStore(t, h)
	h.signIn(provider.Issue())
	h.serve()
	first := h.token()
	provider.SetFault(oauthtest.Fault{Times: 1, Edit: func(map[string]any) { fs.fill() }})
	h.ccagent("refresh").must(t)
	if token := h.token(); token == first || readStored(t, h.credentialsFile()).AccessToken != token {
		t.Errorf("token %s is not the one that is stored", token)
	}
	if p := h.profile("claude"); p.State != "live" {
		t.Errorf("status %+v", p)
	}
	checkSignIn(t, h.credentialsFile(), provider)
}

// close makes the credentials file one that nobody can write, whatever was made ready before.
func (h *home) close() {
	h.t.Helper()
	if err := unix.Mount(h.credentialsFile(), h.credentialsFile(), "", unix.MS_BIND, ""); err != nil {
		h.t.Errorf("mount: %v", err)
	}
	if err := unix.Mount("", h.credentialsFile(), "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		h.t.Errorf("remount: %v", err)
	}
	h.t.Cleanup(func() { unix.Unmount(h.credentialsFile(), unix.MNT_DETACH) })
}

func (h *home) open() {
	h.t.Helper()
	if err := unix.Unmount(h.credentialsFile(), unix.MNT_DETACH); err != nil {
		h.t.Errorf("unmount: %v", err)
	}
}

// renewUnsaved renews while the store becomes read-only, and returns the token that could not be saved.
func (h *home) renewUnsaved(provider *oauthtest.Server) string {
	h.t.Helper()
	provider.SetFault(oauthtest.Fault{Times: 1, Edit: func(map[string]any) { h.close() }})
	h.ccagent("refresh") // may say that it could not save; the token is what counts
	return h.token()
}

// A home that can't be written any more once the provider was asked: the record is served from memory, and saved when it can be.
func TestStoreFailsMeanwhile(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	a := h.serve()
	first := h.token()
	before := h.read(".claude/.credentials.json")
	token := h.renewUnsaved(provider)
	if token == first || !provider.Live(token) {
		t.Fatalf("token %s after %s, want a renewed one", token, first)
	}
	if p := h.profile("claude"); p.State != "unsaved" || !strings.Contains(p.LastError, "read-only") {
		t.Errorf("status %+v, want unsaved, and why", p)
	}
	if r := h.ccagent("status"); !strings.Contains(r.stdout, "unsaved") {
		t.Errorf("status does not show it:\n%s", r.stdout)
	}
	h.ccagent("stop").fails(t, 8, "claude")
	if h.read(".claude/.credentials.json") != before {
		t.Error("the file on the failing store has changed")
	}
	h.open()
	wait(t, "the record to be saved", func() bool { return readStored(t, h.credentialsFile()).AccessToken == token })
	wait(t, "the state to say so", func() bool { return h.profile("claude").State == "live" })
	h.ccagent("stop").must(t)
	<-a.done
	checkSignIn(t, h.credentialsFile(), provider)
	if n := provider.Counts().Requests; n != 1 {
		t.Errorf("%d requests at the provider, want 1", n)
	}
}

// SIGTERM with a record that no store took: it is spilled, and the next agent has it.
func TestStoppedWhileUnsaved(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	a := h.serve()
	h.token()
	token := h.renewUnsaved(provider)
	a.end(syscall.SIGTERM)
	h.open()
	h.serve()
	if again := h.token(); again != token {
		t.Errorf("token %s after the restart, want %s", again, token)
	}
	wait(t, "the record to be saved", func() bool { return readStored(t, h.credentialsFile()).AccessToken == token })
	checkSignIn(t, h.credentialsFile(), provider)
}

//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// newKeyringHome makes a home with a bus, and a profile in the keyring of a provider that rotates. sign makes it signed in.
func newKeyringHome(t *testing.T) (h *home, b *bus, provider *oauthtest.Server, sign func()) {
	t.Helper()
	h = newHome(t)
	b = h.newBus()
	provider = oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config(fmt.Sprintf("[profiles.work]\nprovider = \"claude\"\nstore = \"keyring\"\ntoken_url = %q\n", provider.TokenURL()))
	return h, b, provider, func() {
		t.Helper()
		h.write("sign-in", string(provider.Issue().CredentialsFile()))
		h.ccagent("import", "-p", "work", h.path("sign-in")).must(t)
		if err := os.Remove(h.path("sign-in")); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *home) restart(a *agent) *agent {
	h.t.Helper()
	a.kill()
	return h.serve()
}

// noTokenOnDisk looks through the whole home.
func (h *home) noTokenOnDisk() {
	h.t.Helper()
	filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if data, _ := os.ReadFile(path); d != nil && d.Type().IsRegular() && strings.Contains(string(data), "fake-") {
			h.t.Errorf("%s holds a token", path)
		}
		return nil
	})
}

// TestKeyring: a record lives in the real Secret Service alone, and outlives the agent.
func TestKeyring(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	b.gnomeKeyring()
	a := h.serve()
	sign()
	first := h.token("-p", "work")
	h.ccagent("refresh", "-p", "work").must(t)
	second := h.token("-p", "work")
	if second == first || !provider.Live(second) {
		t.Fatalf("token %s after %s", second, first)
	}
	a = h.restart(a)
	if again := h.token("-p", "work"); again != second {
		t.Errorf("token %s after the restart, want %s", again, second)
	}
	if p := h.profile("work"); p.State != "live" || !strings.Contains(p.Location, "keyring") {
		t.Errorf("status %+v", p)
	}
	h.noTokenOnDisk()
	h.ccagent("remove", "-y", "work").must(t)
	h.restart(a)
	h.config(fmt.Sprintf("[profiles.work]\nprovider = \"claude\"\nstore = \"keyring\"\ntoken_url = %q\n", provider.TokenURL()))
	h.helper("-p", "work").fails(t, 3, "nothing is stored")
	if c := provider.Counts(); c.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", c.Reuses)
	}
}

// TestKeyringLocked: nobody waits at a prompt that nobody sees; what the agent has in memory is served.
func TestKeyringLocked(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	g := b.gnomeKeyring()
	a := h.serve()
	sign()
	token := h.token("-p", "work")
	g.lock()
	if again := h.token("-p", "work"); again != token {
		t.Errorf("token %s with the keyring locked, want %s", again, token)
	}
	h.restart(a)
	start := time.Now()
	h.helper("-p", "work").fails(t, 6, "keyring is locked")
	t.Logf("refused after %v", time.Since(start))
	if n := provider.Counts().Requests; n != 0 {
		t.Errorf("%d requests at the provider for a record that can't be read", n)
	}
	g.kill()
	g.start()
	wait(t, "the token", func() bool { return h.helper("-p", "work").stdout == token+"\n" })
}

// TestKeyringKilled kills the real service again and again while the record is renewed.
func TestKeyringKilled(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	g := b.gnomeKeyring()
	a := h.serve()
	sign()
	for i := range 8 {
		refresh := h.command(program("ccagent"), "refresh", "-p", "work")
		if err := refresh.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+i*12) * time.Millisecond) // anywhere
		g.kill()
		refresh.Wait()
		g.start()
	}
	wait(t, "a renewal", func() bool { return h.ccagent("refresh", "-p", "work").exit == 0 })
	wait(t, "the record to be saved", func() bool { return h.profile("work").State == "live" })
	token := h.token("-p", "work")
	if !provider.Live(token) {
		t.Errorf("token %s is not the provider's newest", token)
	}
	h.restart(a)
	if again := h.token("-p", "work"); again != token {
		t.Errorf("token %s after the restart, want %s", again, token)
	}
	h.ccagent("refresh", "-p", "work").must(t)
	if c := provider.Counts(); c.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", c.Reuses)
	}
}

// TestKeyringHostile: a service that answers wrongly or not at all costs neither a rotated record nor anybody's patience.
func TestKeyringHostile(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{secretsHangSets, secretsLie, secretsTruncate} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h, b, provider, sign := newKeyringHome(t)
			s := b.secrets()
			a := h.serve()
			sign()
			first := h.token("-p", "work")
			s.set(fault)
			start := time.Now()
			h.ccagent("refresh", "-p", "work", "--timeout", "60s") // may say that it could not save
			t.Logf("renewed in %v", time.Since(start))
			token := h.token("-p", "work")
			if token == first || !provider.Live(token) {
				t.Fatalf("token %s after %s, want a renewed one", token, first)
			}
			wait(t, "the state to say that it is not saved, and why", func() bool {
				p := h.profile("work")
				return p.State == "unsaved" && strings.Contains(p.LastError, "keyring")
			})
			if strings.Contains(s.values(), token) && fault == secretsLie {
				t.Error("the service holds what it was not to keep")
			}
			s.set("")
			wait(t, "the record to be saved", func() bool { return h.profile("work").State == "live" })
			s.open() // what hung lands now, late
			time.Sleep(100 * time.Millisecond)
			h.restart(a)
			if again := h.token("-p", "work"); again != token {
				t.Errorf("token %s after the restart, want %s", again, token)
			}
			h.ccagent("refresh", "-p", "work").must(t)
			if n := strings.Count(s.values(), "ccagent-piece"); n > 2 {
				t.Errorf("%d items are left", n) // the record, and its history
			}
			if c := provider.Counts(); c.Reuses != 0 {
				t.Errorf("%d refresh tokens were used twice", c.Reuses)
			}
		})
	}
}

// TestKeyringSilent: a service that says nothing, or nonsense, fails what needs it within seconds, and leaves no process.
func TestKeyringSilent(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{secretsHang, secretsNonsense} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h, b, _, sign := newKeyringHome(t)
			s := b.secrets()
			a := h.serve()
			sign()
			token := h.token("-p", "work")
			s.set(fault)
			if again := h.token("-p", "work"); again != token {
				t.Errorf("token %s, want the one in memory, %s", again, token)
			}
			a = h.restart(a)
			start := time.Now()
			r := h.helper("-p", "work", "--timeout", "60s")
			if took := time.Since(start); r.exit != 8 && r.exit != 6 || r.stdout != "" || took > 40*time.Second {
				t.Errorf("exit %d after %v: %s", r.exit, took, r.stderr)
			}
			s.set("")
			s.open()
			wait(t, "the token", func() bool { return h.helper("-p", "work").stdout == token+"\n" })
			wait(t, "the workers to end", func() bool { return len(h.processes()) <= 2 }) // the agent and the bus
			a.end(syscall.SIGTERM)
		})
	}
}

// TestAutoStore: the keyring if it works, else a file, and the reason once.
func TestAutoStore(t *testing.T) {
	static := func(h *home, name string) result {
		cmd := h.command(program("ccagent"), "add", name, "--provider", "static")
		cmd.Stdin = strings.NewReader("fake-key-" + name)
		return finish(h.t, cmd)
	}
	t.Run("a keyring that works", func(t *testing.T) {
		h := newHome(t)
		s := h.newBus().secrets()
		if r := static(h, "robot").must(t); strings.Contains(r.stderr, "keyring") {
			t.Errorf("it says %q", r.stderr)
		}
		if h.token("-p", "robot") != "fake-key-robot" || !strings.Contains(s.values(), "fake-key-robot") {
			t.Error("the key is not in the keyring")
		}
		// Decided is decided: a store that does not answer is an error, and never a reason to look elsewhere.
		s.set(secretsNonsense)
		h.ccagent("stop").must(t)
		if r := h.helper("-p", "robot"); r.exit != 8 && r.exit != 6 {
			t.Errorf("exit %d: %s", r.exit, r.stderr)
		}
	})
	for name, prepare := range map[string]func(*home){
		"no bus":              func(*home) {},
		"no service":          func(h *home) { h.newBus() },
		"a service that lies": func(h *home) { h.newBus().secrets().set(secretsLie) },
		"one that hangs":      func(h *home) { h.newBus().secrets().set(secretsHang) },
		"a locked keyring":    func(h *home) { h.newBus().gnomeKeyring().lock() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.vars = []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=" + h.root + "/none"}
			prepare(h)
			start := time.Now()
			if r := static(h, "robot").must(t); !strings.Contains(r.stderr, "keyring") {
				t.Errorf("it does not say why: %q", r.stderr)
			}
			t.Logf("decided in %v", time.Since(start))
			if h.token("-p", "robot") != "fake-key-robot" || !exists(h.path(".local/share/ccagent/robot.json")) {
				t.Error("the key is not in a file")
			}
		})
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// keePassXC runs the other Secret Service that people have: it keeps items in a database of its own, whose group it exposes, has
// no collection named login, and goes through a prompt for every write and deletion, also where nobody is asked.
type keePassXC struct {
	bus  *bus
	conn *dbus.Conn
	cmd  *exec.Cmd
}

const (
	keePassPassword = "fake-password\n"
	keePassOpen     = "ConfirmAccessItem=false\nConfirmDeleteItem=false\n"
)

// keePassXC starts it with an empty database. confirm is what its settings say of asking a person.
func (b *bus) keePassXC(confirm string) *keePassXC {
	k := &keePassXC{bus: b, conn: b.connect()}
	k.create("secrets.kdbx")
	k.configure(confirm)
	k.start("secrets.kdbx")
	return k
}

// create makes a database that exposes its one group.
func (k *keePassXC) create(database string) {
	h := k.bus.h
	h.t.Helper()
	h.write("secrets.xml", `<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<KeePassFile><Meta><DatabaseName>secrets</DatabaseName><MemoryProtection><ProtectPassword>True</ProtectPassword></MemoryProtection>
<CustomData><Item><Key>FDO_SECRETS_EXPOSED_GROUP</Key><Value>{00112233-4455-6677-8899-aabbccddeeff}</Value></Item></CustomData></Meta>
<Root><Group><UUID>ABEiM0RVZneImaq7zN3u/w==</UUID><Name>Root</Name></Group></Root></KeePassFile>`)
	cmd := h.command(need(h.t, "keepassxc-cli"), "import", "--set-password", "--decryption-time", "100", h.path("secrets.xml"),
		h.path(database))
	cmd.Stdin = strings.NewReader(keePassPassword + keePassPassword)
	finish(h.t, cmd).must(h.t)
}

func (k *keePassXC) configure(confirm string) {
	k.bus.h.write("keepassxc.ini", "[General]\nConfigVersion=2\nSingleInstance=false\nUpdateCheckMessageShown=true\n"+
		"[GUI]\nCheckForUpdates=false\n[FdoSecrets]\nEnabled=true\nShowNotification=false\n"+confirm)
}

// start starts it with these databases open, the last of them in front, which is the one that it calls the default collection.
func (k *keePassXC) start(databases ...string) {
	h := k.bus.h
	h.t.Helper()
	args := []string{"--config", h.path("keepassxc.ini"), "--localconfig", h.path("keepassxc-local.ini"), "--pw-stdin"}
	for _, name := range databases {
		args = append(args, h.path(name))
	}
	k.cmd = h.command(need(h.t, "keepassxc"), args...)
	k.cmd.Env = append(k.cmd.Env, "QT_QPA_PLATFORM=offscreen")
	k.cmd.Stdin = strings.NewReader(strings.Repeat(keePassPassword, len(databases)))
	if err := k.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(k.kill)
	front := secretsPath + "/collection/" + dbus.ObjectPath(strings.TrimSuffix(databases[len(databases)-1], ".kdbx"))
	wait(h.t, "KeePassXC to open its database", func() bool {
		var path dbus.ObjectPath
		err := k.conn.Object(secretsName, secretsPath).Call(secretsService+".ReadAlias", 0, "default").Store(&path)
		return err == nil && path == front && k.locked() == "false"
	})
}

// locked is what the database says of itself, or why it doesn't.
func (k *keePassXC) locked() string {
	v, err := k.conn.Object(secretsName, secretsPath+"/aliases/default").GetProperty("org.freedesktop.Secret.Collection.Locked")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(v.Value())
}

func (k *keePassXC) kill() {
	k.cmd.Process.Kill()
	k.cmd.Wait()
}

// lock locks the database, as a person does: the service does nothing before its prompt was called.
func (k *keePassXC) lock() {
	t := k.bus.h.t
	t.Helper()
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err := k.conn.Object(secretsName, secretsPath).
		Call(secretsService+".Lock", 0, []dbus.ObjectPath{secretsPath + "/aliases/default"}).Store(&locked, &prompt)
	if err == nil {
		err = k.conn.Object(secretsName, prompt).Call("org.freedesktop.Secret.Prompt.Prompt", 0, "").Err
	}
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "the database to be locked", func() bool { return k.locked() == "true" })
}

// saving does what changes the database, and waits until that is on the disk: KeePassXC answers a write a moment before it saves
// it.
func (k *keePassXC) saving(do func()) {
	h := k.bus.h
	h.t.Helper()
	before := h.read("secrets.kdbx")
	do()
	wait(h.t, "KeePassXC to save its database", func() bool { return h.read("secrets.kdbx") != before })
}

// dieUnderSave renews, the first time in this test, and kills KeePassXC before it has answered the save.
func (k *keePassXC) dieUnderSave(provider *oauthtest.Server) (token string) {
	h := k.bus.h
	h.t.Helper()
	before := h.token("-p", "work")
	provider.SetFault(oauthtest.Fault{Lag: 2 * time.Second, Times: 1}) // the record is loaded, and not saved yet
	refresh := h.command(program("ccagent"), "refresh", "-p", "work", "--timeout", "60s")
	if err := refresh.Start(); err != nil {
		h.t.Fatal(err)
	}
	wait(h.t, "the provider to renew", func() bool { return provider.Counts().Refreshes == 1 })
	k.cmd.Process.Signal(syscall.SIGSTOP)
	wait(h.t, "the record to be unsaved", func() bool { return h.profile("work").State == "unsaved" })
	k.kill()
	refresh.Wait()
	token = h.token("-p", "work")
	if token == before || !provider.Live(token) {
		h.t.Fatalf("token %s after %s, want a renewed one", token, before)
	}
	return token
}

// secretsOwner is the process that answers as the Secret Service, 0 for none.
func (b *bus) secretsOwner() int {
	var pid uint32
	if b.connect().BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, secretsName).Store(&pid) != nil {
		return 0
	}
	return int(pid)
}

// TestKeePassXC: a record lives in the other Secret Service as well as in the first, goes to a file and comes back.
func TestKeePassXC(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	b.keePassXC(keePassOpen)
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
	h.noTokenOnDisk()
	for _, kind := range []string{"file", "keyring"} {
		h.ccagent("move", "work", kind).must(t)
		a = h.restart(a)
		if again := h.token("-p", "work"); again != second {
			t.Errorf("token %s once it was moved to store %s, want %s", again, kind, second)
		}
	}
	h.noTokenOnDisk()
	h.ccagent("refresh", "-p", "work").must(t)
	if out := h.ccagent("doctor", "store", "-p", "work").must(t).stdout; !strings.Contains(out, "store keyring: has the record") {
		t.Errorf("doctor says %s", out)
	}
	config := h.read(".config/ccagent/config.toml")
	h.ccagent("remove", "-y", "work").must(t)
	h.restart(a)
	h.config(config)
	h.helper("-p", "work").fails(t, 3, "nothing is stored")
	if c := provider.Counts(); c.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", c.Reuses)
	}
}

// TestKeePassXCLocked: a database that is locked shows no dialog and loses nothing.
func TestKeePassXCLocked(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	k := b.keePassXC(keePassOpen)
	a := h.serve()
	k.saving(sign)
	token := h.token("-p", "work")
	k.lock()
	if again := h.token("-p", "work"); again != token {
		t.Errorf("token %s with the database locked, want %s", again, token)
	}
	h.ccagent("move", "work", "file").fails(t, 6, "keyring is locked")
	h.restart(a)
	h.helper("-p", "work").fails(t, 6, "keyring is locked")
	h.ccagent("logout", "work").fails(t, 6, "keyring is locked")
	if n := provider.Counts().Requests; n != 0 {
		t.Errorf("%d requests at the provider for a record that can't be read", n)
	}
	k.kill()
	k.start("secrets.kdbx")
	wait(t, "the token", func() bool { return h.helper("-p", "work").stdout == token+"\n" })
	h.ccagent("refresh", "-p", "work").must(t)
}

// TestKeePassXCKilled: a record that KeePassXC died over is kept, and is in its database once it is back.
func TestKeePassXCKilled(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	k := b.keePassXC(keePassOpen)
	a := h.serve()
	k.saving(sign)
	token := k.dieUnderSave(provider)
	k.saving(func() {
		k.start("secrets.kdbx")
		wait(t, "the record to be saved", func() bool { return h.profile("work").State == "live" })
	})
	k.kill()
	a = h.restart(a)
	h.helper("-p", "work").fails(t, 8, "no Secret Service is on the session bus")
	k.start("secrets.kdbx")
	wait(t, "the token", func() bool { return h.helper("-p", "work").stdout == token+"\n" })
	h.ccagent("refresh", "-p", "work").must(t)
	if c := provider.Counts(); c.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", c.Reuses)
	}
	a.end(syscall.SIGTERM)
}

// TestKeePassXCAsking: where KeePassXC asks a person about each access, as it does unless told otherwise, each worker would show
// a dialog of its own. None is waited for, `auto` knows better, and the sign-in is there once the setting is off.
func TestKeePassXCAsking(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	k := b.keePassXC("")
	cmd := h.command(program("ccagent"), "add", "robot", "--provider", "static")
	cmd.Stdin = strings.NewReader("fake-key-robot")
	if r := finish(t, cmd).must(t); !strings.Contains(r.stderr, "kept in a file: the keyring asks a person") {
		t.Errorf("it says %q", r.stderr)
	}
	h.write("sign-in", string(provider.Issue().CredentialsFile()))
	r := h.ccagent("import", "-p", "work", h.path("sign-in"))
	r.fails(t, 6, "the keyring asks a person")
	if !strings.Contains(r.stderr, "KeePassXC") {
		t.Errorf("no hint at whose setting it is: %s", r.stderr)
	}
	k.kill()
	k.configure(keePassOpen)
	k.start("secrets.kdbx")
	sign()
	h.ccagent("refresh", "-p", "work").must(t)
	h.restart(h.serve())
	h.token("-p", "work")
}

// TestTwoKeyrings: KeePassXC and gnome-keyring on one bus, of which one has the name. Another keyring that answers in the place
// of the one with the record, empty, is no sign-out: the token in hand is served, what is unsaved stays so until it can be saved
// where it belongs, and a restarted agent says what is wrong.
func TestTwoKeyrings(t *testing.T) {
	h, b, provider, sign := newKeyringHome(t)
	k := b.keePassXC(keePassOpen)
	a := h.serve()
	k.saving(sign)
	first := h.token("-p", "work")
	k.kill()
	g := b.gnomeKeyring()
	if again := h.token("-p", "work"); again != first {
		t.Errorf("token %s before another keyring, want %s", again, first)
	}
	a = h.restart(a)
	const missing = "does not hold the saved item"
	h.helper("-p", "work").fails(t, 8, missing)
	if p := h.profile("work"); p.State != "failed" || !strings.Contains(p.LastError, missing) {
		t.Errorf("status %+v", p)
	}
	h.ccagent("move", "work", "file").fails(t, 8, missing)
	if c := provider.Counts(); c.Requests != 0 {
		t.Errorf("%d requests at the provider", c.Requests)
	}

	// KeePassXC alone has as many keyrings as databases are open, and answers for the one in front.
	g.kill()
	k.create("other.kdbx")
	k.start("secrets.kdbx", "other.kdbx")
	wait(t, "the error", func() bool { return strings.Contains(h.helper("-p", "work").stderr, missing) })
	k.kill()

	// Whichever is there keeps the name.
	k.start("secrets.kdbx")
	second := b.gnomeKeyringBehind()
	if owner := b.secretsOwner(); owner != k.cmd.Process.Pid {
		t.Fatalf("process %d is the Secret Service, want KeePassXC, %d", owner, k.cmd.Process.Pid)
	}
	wait(t, "the token", func() bool { return h.helper("-p", "work").stdout == first+"\n" })

	token := k.dieUnderSave(provider)
	second.takeOver()
	wait(
		t,
		"a save to fail before the other keyring",
		func() bool { return strings.Contains(h.profile("work").LastError, missing) },
	)
	if p := h.profile("work"); p.State != "unsaved" {
		t.Errorf("status %+v", p)
	}
	if again := h.token("-p", "work"); again != token {
		t.Errorf("token %s, want the unsaved one, %s", again, token)
	}
	second.kill()
	k.start("secrets.kdbx")
	wait(t, "the record to be saved", func() bool { return h.profile("work").State == "live" })
	a = h.restart(a)
	wait(t, "the token", func() bool { return h.helper("-p", "work").stdout == token+"\n" })
	h.ccagent("refresh", "-p", "work").must(t)
	if c := provider.Counts(); c.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", c.Reuses)
	}

	// The first keyring is gone for good: signing in again is all it takes.
	k.kill()
	g.start()
	h.restart(a)
	sign()
	h.ccagent("refresh", "-p", "work").must(t)
	g.kill()
	k.start("secrets.kdbx")
	h.ccagent("stop").must(t)
	h.helper("-p", "work").fails(t, 4, "gone back to an older record")

	// And so is signing out of what is out of reach.
	k.kill()
	b.secrets()
	if r := h.ccagent("logout", "work").must(t); !strings.Contains(r.stdout+r.stderr, missing) ||
		!strings.Contains(r.stdout+r.stderr, "nothing was revoked") {
		t.Errorf("it says %q, %q", r.stdout, r.stderr)
	}
	h.helper("-p", "work").fails(t, 3, "nothing is stored")
}

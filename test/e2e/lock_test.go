//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// logind stands in for systemd-logind on a bus of the test's own: it hands out inhibitors and tells of sleep and of screens.
type logind struct {
	conn     *dbus.Conn
	inhibits chan [2]*os.File // of each inhibitor: the end that is kept here, and the one that was sent
}

// Inhibit is org.freedesktop.login1.Manager.Inhibit.
func (l *logind) Inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	r, w, err := os.Pipe()
	if err != nil || what != "sleep" || who != "ccagent" || mode != "delay" {
		return 0, dbus.NewError("org.freedesktop.DBus.Error.InvalidArgs", nil)
	}
	l.inhibits <- [2]*os.File{r, w}
	return dbus.UnixFD(w.Fd()), nil
}

// session says whose it is.
type session struct{ uid uint32 }

// Get is org.freedesktop.DBus.Properties.Get.
func (s session) Get(string, string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant(struct {
		UID  uint32
		Path dbus.ObjectPath
	}{s.uid, "/org/freedesktop/login1/user/_0"}), nil
}

// TestLockOnSuspendAndScreen: the agent is locked before the machine sleeps, which waits for it, and when a screen of its
// user's is locked, not somebody else's.
func TestLockOnSuspendAndScreen(t *testing.T) {
	h := newHome(t)
	b := h.newBus()
	h.vars = append(h.vars, "DBUS_SYSTEM_BUS_ADDRESS="+b.address)
	l := &logind{b.connect(), make(chan [2]*os.File, 4)}
	uid := uint32(os.Geteuid())
	for path, object := range map[dbus.ObjectPath]any{"/org/freedesktop/login1/session/own": session{uid},
		"/org/freedesktop/login1/session/other": session{uid + 1}} {
		if err := l.conn.Export(object, path, "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.conn.Export(l, "/org/freedesktop/login1", "org.freedesktop.login1.Manager"); err != nil {
		t.Fatal(err)
	}
	if reply, err := l.conn.RequestName("org.freedesktop.login1", 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	h.config(
		"lock_on = [\"suspend\", \"screen\"]\n[profiles.robot]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-access-1\"]\n",
	)
	h.serve()
	inhibitor := <-l.inhibits
	wait(t, "the agent to listen", func() bool { return strings.Contains(h.log(), "listening to logind") })

	inhibitor[1].Close() // the agent has its own

	emit := func(path dbus.ObjectPath, name string, values ...any) {
		t.Helper()
		if err := l.conn.Emit(path, name, values...); err != nil {
			t.Fatal(err)
		}
	}
	emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForSleep", true)
	if n, _ := inhibitor[0].Read(make([]byte, 1)); n != 0 { // ends when the agent lets go of its end
		t.Fatal("something was written to an inhibitor")
	}
	if r := h.ccagent("token", "-p", "robot"); r.exit != 6 {
		t.Fatalf("after a suspend: exit %d, %s", r.exit, r.stderr)
	}
	emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForSleep", false)
	<-l.inhibits // for the next time
	h.ccagent("unlock").must(t)
	h.token("-p", "robot")

	emit("/org/freedesktop/login1/session/other", "org.freedesktop.login1.Session.Lock")
	emit("/org/freedesktop/login1/session/own", "org.freedesktop.login1.Session.Lock")
	wait(t, "the lock", func() bool { return h.ccagent("token", "-p", "robot").exit == 6 })
	h.ccagent("unlock").must(t)
	emit("/org/freedesktop/login1/session/other", "org.freedesktop.login1.Session.Lock")
	emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForSleep", false) // handled after the one before
	h.token("-p", "robot")
}

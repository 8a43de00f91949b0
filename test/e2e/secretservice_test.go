//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// bus is a session bus of a home. It starts no services by itself.
type bus struct {
	h       *home
	address string
}

func (h *home) newBus() *bus {
	h.t.Helper()
	b := &bus{h: h, address: "unix:path=" + h.root + "/bus"}
	config := h.root + "/bus.conf"
	xml := fmt.Sprintf(
		`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>%s</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
		b.address,
	)
	if err := os.WriteFile(config, []byte(xml), 0o600); err != nil {
		h.t.Fatal(err)
	}
	cmd := h.command(need(h.t, "dbus-daemon"), "--nofork", "--print-address", "--config-file="+config)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		h.t.Fatal("the bus said nothing")
	}
	h.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	h.vars = append(h.vars, "DBUS_SESSION_BUS_ADDRESS="+b.address)
	return b
}

func (b *bus) connect() *dbus.Conn {
	b.h.t.Helper()
	conn, err := dbus.Connect(b.address)
	if err != nil {
		b.h.t.Fatal(err)
	}
	b.h.t.Cleanup(func() { conn.Close() })
	return conn
}

const (
	secretsName    = "org.freedesktop.secrets"
	secretsPath    = dbus.ObjectPath("/org/freedesktop/secrets")
	loginPath      = secretsPath + "/collection/login"
	secretsService = "org.freedesktop.Secret.Service"
)

// gnomeKeyring runs the real Secret Service, unlocked.
type gnomeKeyring struct {
	bus *bus
	cmd *exec.Cmd
}

func (b *bus) gnomeKeyring() *gnomeKeyring {
	g := &gnomeKeyring{bus: b}
	g.start()
	b.h.t.Cleanup(g.kill)
	return g
}

// gnomeKeyringBehind starts it where another service has the name.
func (b *bus) gnomeKeyringBehind() *gnomeKeyring {
	g := &gnomeKeyring{bus: b}
	g.run()
	b.h.t.Cleanup(g.kill)
	return g
}

func (g *gnomeKeyring) start() {
	g.bus.h.t.Helper()
	g.run()
	g.takeOver()
}

func (g *gnomeKeyring) run() {
	t := g.bus.h.t
	t.Helper()
	g.cmd = g.bus.h.command(need(t, "gnome-keyring-daemon"), "--foreground", "--unlock", "--components=secrets")
	g.cmd.Stdin = strings.NewReader("fake-password")
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// takeOver waits until it answers, unlocked.
func (g *gnomeKeyring) takeOver() {
	t := g.bus.h.t
	t.Helper()
	conn := g.bus.connect()
	wait(t, "the keyring to be unlocked", func() bool {
		v, err := conn.Object(secretsName, loginPath).GetProperty("org.freedesktop.Secret.Collection.Locked")
		return err == nil && v.Value() == false
	})
}

func (g *gnomeKeyring) kill() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
}

func (g *gnomeKeyring) lock() {
	t := g.bus.h.t
	t.Helper()
	err := g.bus.connect().Object(secretsName, secretsPath).Call(secretsService+".Lock", 0, []dbus.ObjectPath{loginPath}).Err
	if err != nil {
		t.Fatal(err)
	}
}

// secrets is a Secret Service of ours, with the faults of those in the wild.
type secrets struct {
	conn *dbus.Conn

	mu    sync.Mutex
	items map[dbus.ObjectPath]*secretItem
	next  int
	fault string        // what is done to calls: see the constants
	gate  chan struct{} // closed: those that hang go on
}

const (
	secretsHang     = "hang"      // no call is answered
	secretsHangSets = "hang sets" // no write is answered; it is done when the gate opens
	secretsLie      = "lie"       // a write is answered, and not done
	secretsTruncate = "truncate"  // half of it is done
	secretsNonsense = "nonsense"  // properties are of another type
)

type secretItem struct {
	service    *secrets
	path       dbus.ObjectPath
	attributes map[string]string
	value      []byte
}

type secretValue struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

func (b *bus) secrets() *secrets {
	t := b.h.t
	t.Helper()
	s := &secrets{conn: b.connect(), items: map[dbus.ObjectPath]*secretItem{}, gate: make(chan struct{})}
	t.Cleanup(s.open)
	for path, methods := range map[dbus.ObjectPath]map[string]map[string]any{
		secretsPath: {
			secretsService: {"OpenSession": s.openSession, "Unlock": s.unlock},
		},
		secretsPath + "/session/1": {"org.freedesktop.Secret.Session": {"Close": func() *dbus.Error { return nil }}},
		loginPath:                  {"org.freedesktop.Secret.Collection": {"SearchItems": s.search, "CreateItem": s.create}},
	} {
		for name, table := range methods {
			if err := s.conn.ExportMethodTable(table, path, name); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.conn.ExportMethodTable(map[string]any{"Get": s.property}, path, "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := s.conn.RequestName(secretsName, dbus.NameFlagDoNotQueue); err != nil ||
		reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("the name: %v, %v", reply, err)
	}
	return s
}

// set changes what is wrong with the service from now on.
func (s *secrets) set(fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// open lets what hangs go on.
func (s *secrets) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
	s.gate = make(chan struct{})
}

// enter is called by every method.
func (s *secrets) enter(sets bool) string {
	s.mu.Lock()
	fault, gate := s.fault, s.gate
	s.mu.Unlock()
	if fault == secretsHang || fault == secretsHangSets && sets {
		<-gate
	}
	return fault
}

// values are all that is stored.
func (s *secrets) values() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all strings.Builder
	for _, item := range s.items {
		all.Write(item.value)
	}
	return all.String()
}

func (s *secrets) property(of, name string) (dbus.Variant, *dbus.Error) {
	fault := s.enter(false)
	switch {
	case fault == secretsNonsense:
		return dbus.MakeVariant(7), nil
	case name == "Collections":
		return dbus.MakeVariant([]dbus.ObjectPath{loginPath}), nil
	case name == "Locked":
		return dbus.MakeVariant(false), nil
	}
	return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no property %s of %s", name, of))
}

func (s *secrets) openSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	s.enter(false)
	return dbus.MakeVariant(""), secretsPath + "/session/1", nil
}

func (s *secrets) unlock(paths []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s.enter(false)
	return paths, "/", nil
}

func (s *secrets) find(attributes map[string]string) []dbus.ObjectPath {
	found := []dbus.ObjectPath{}
	for path, item := range s.items {
		if maps.Equal(item.attributes, attributes) {
			found = append(found, path)
		}
	}
	return found
}

func (s *secrets) search(attributes map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	s.enter(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(attributes), nil
}

func (s *secrets) create(
	properties map[string]dbus.Variant,
	secret secretValue,
	_ bool,
) (dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	fault := s.enter(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	attributes, _ := properties["org.freedesktop.Secret.Item.Attributes"].Value().(map[string]string)
	value := secret.Value
	switch fault {
	case secretsLie:
		return loginPath + "/0", "/", nil
	case secretsTruncate:
		value = value[:len(value)/2]
	}
	for _, path := range s.find(attributes) {
		s.items[path].value = value
		return path, "/", nil
	}
	s.next++
	item := &secretItem{
		service:    s,
		path:       dbus.ObjectPath(fmt.Sprintf("%s/%d", loginPath, s.next)),
		attributes: attributes,
		value:      value,
	}
	s.items[item.path] = item
	if err := s.conn.ExportMethodTable(map[string]any{"GetSecret": item.get, "Delete": item.delete}, item.path,
		"org.freedesktop.Secret.Item"); err != nil {
		return "", "", dbus.MakeFailedError(err)
	}
	return item.path, "/", nil
}

func (i *secretItem) get(session dbus.ObjectPath) (secretValue, *dbus.Error) {
	i.service.enter(false)
	i.service.mu.Lock()
	defer i.service.mu.Unlock()
	return secretValue{Session: session, Parameters: []byte{}, Value: i.value, ContentType: "text/plain"}, nil
}

func (i *secretItem) delete() (dbus.ObjectPath, *dbus.Error) {
	i.service.enter(true)
	i.service.mu.Lock()
	defer i.service.mu.Unlock()
	delete(i.service.items, i.path)
	return "/", nil
}

package environ

import (
	"net"
	"os"
	"testing"
)

// The session bus is found where systemd has it, if no variable says where it is and the socket is the person's own.
func TestSessionBus(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("/tmp", "ccb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	listen := func(dir string) string {
		if err := os.Mkdir(base+dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", base+dir+"/bus")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return base + dir
	}
	there, odd := listen("/there"), listen("/a b,c")
	os.Mkdir(base+"/file", 0o700)
	os.WriteFile(base+"/file/bus", nil, 0o600)
	for name, test := range map[string]struct{ runtime, bus, want string }{
		"there":              {there, "", "unix:path=" + there + "/bus"},
		"a path with blanks": {odd, "", "unix:path=" + base + "/a%20b%2cc/bus"},
		"said already":       {there, "unix:path=/elsewhere", ""},
		"no runtime folder":  {"", "", ""},
		"relative":           {"there", "", ""},
		"nothing there":      {base, "", ""},
		"a file":             {base + "/file", "", ""},
	} {
		env := Vars(func(name string) string {
			return map[string]string{"XDG_RUNTIME_DIR": test.runtime, "DBUS_SESSION_BUS_ADDRESS": test.bus}[name]
		})
		if got := env.SessionBus(); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

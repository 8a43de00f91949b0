package environ

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/files"
)

// SessionBus returns the address of the person's session bus (D-Bus) if the environment does not say it and there is one at
// $XDG_RUNTIME_DIR/bus, where systemd has it; "" otherwise. A program that cron starts, or that is reached by su or ssh, has no
// DBUS_SESSION_BUS_ADDRESS, and the keyring is there all the same. At /run/user/UID/bus the library for D-Bus looks by itself.
func (e Vars) SessionBus() string {
	dir := e("XDG_RUNTIME_DIR")
	if runtime.GOOS != "linux" || e("DBUS_SESSION_BUS_ADDRESS") != "" || !filepath.IsAbs(dir) {
		return ""
	}
	path := filepath.Join(dir, "bus")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return ""
	}
	if owner, ok := files.Owner(info); !ok || owner != uint32(os.Geteuid()) {
		return ""
	}
	return "unix:path=" + escaped(path)
}

// escaped writes a value for an address of D-Bus (D-Bus specification, *Server Addresses*).
func escaped(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if strings.IndexByte("-_/.\\*", c) >= 0 || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

package service

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/packaging"
	"github.com/ccagent/ccagent/protocol"
)

// userManager is what systemd's user manager says of itself.
type userManager struct {
	unitPath    string // the folders that it reads units from, the one that wins first
	environment string // of the programs that it starts, a variable a line
}

// askSystemd fails where there is no user manager.
func askSystemd(ctx context.Context) (m userManager, err error) {
	if m.unitPath, err = ShowUnit(ctx, "UnitPath"); err == nil {
		m.environment, err = outputOf(ctx, "systemctl", "--user", "show-environment")
	}
	return m, err
}

// ShowUnit asks systemd for a property of a unit, or of the manager itself.
func ShowUnit(ctx context.Context, property string, unit ...string) (string, error) {
	return outputOf(ctx, append([]string{"systemctl", "--user", "show", "--value", "-p", property}, unit...)...)
}

// enabled reports whether systemd starts a unit at login. It calls one without an [Install] section static, and exits with 0 for
// it too.
func enabled(ctx context.Context, unit string) bool {
	state, err := outputOf(ctx, "systemctl", "--user", "is-enabled", unit)
	return err == nil && state == "enabled"
}

// systemdService describes the program at exe to systemd's user manager.
func systemdService(env environ.Vars, exe string, m userManager) (Service, error) {
	if !terminal.Printable(exe) || strings.ContainsAny(exe, `"'\`) { // systemd refuses them, escaped too
		return Service{}, &protocol.Error{Code: protocol.CodeConfig, Message: "a unit can't name this program: " + exe,
			Hint: "move it to a path without quotes, backslashes and control characters"}
	}
	home := env("HOME")
	if !filepath.IsAbs(home) {
		return Service{}, environ.NoHome
	}
	dir := env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(home, ".config")
	}
	dir = filepath.Join(dir, "systemd/user")
	folders := strings.Fields(m.unitPath)
	if !strings.Contains(m.unitPath, dir) { // XDG_CONFIG_HOME is another one for the manager
		own := func(folder string) bool {
			return strings.HasPrefix(folder, home+"/") && strings.HasSuffix(folder, "/systemd/user")
		}
		if i := slices.IndexFunc(folders, own); i >= 0 {
			dir = folders[i]
		}
	}
	shown := shownEnvironment(m.environment)
	environment := func(name string) string { return shown[name] }
	socket := ""
	if dir := environment("XDG_RUNTIME_DIR"); dir != "" {
		socket = filepath.Join(dir, "ccagent/agent.sock")
	}
	// systemd.service(5): a % begins a specifier, and a path with a blank in it is quoted. A $ means itself in the program's
	// path.
	program := strings.ReplaceAll(exe, "%", "%%")
	if strings.ContainsAny(program, " ;") {
		program = `"` + program + `"`
	}
	systemctl := func(args ...string) []string { return append([]string{"systemctl", "--user", "-q"}, args...) }
	return Service{
		Manager: "systemd",
		Files: []File{
			{filepath.Join(dir, "ccagent.socket"), marked("#", "", packaging.Socket)},
			{filepath.Join(dir, "ccagent.service"), marked("#", "", strings.Replace(packaging.Service, packaging.Program, program, 1))},
		},
		links: []string{
			filepath.Join(dir, "sockets.target.wants/ccagent.socket"),
			filepath.Join(dir, "default.target.wants/ccagent.service"),
		},
		enable:      [][]string{systemctl("daemon-reload"), systemctl("enable", "--now", "ccagent.socket")},
		disable:     [][]string{systemctl("disable", "--now", "ccagent.socket", "ccagent.service")},
		forget:      [][]string{systemctl("daemon-reload")},
		atLogin:     systemctl("enable", "ccagent.service"),
		elsewhere:   slices.DeleteFunc(folders, func(folder string) bool { return folder == dir }),
		socket:      socket,
		environment: environment,
	}, nil
}

// shownEnvironment reads what `systemctl show-environment` prints. A value with a character that means something to a shell, as
// the star of NO_PROXY, comes as $'...'.
func shownEnvironment(text string) map[string]string {
	shown := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if quoted, ok := strings.CutPrefix(value, "$'"); ok {
			quoted = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(quoted, "'"), `\'`, "'"), `"`, `\"`)
			if plain, err := strconv.Unquote(`"` + quoted + `"`); err == nil {
				value = plain
			}
		}
		shown[name] = value
	}
	return shown
}

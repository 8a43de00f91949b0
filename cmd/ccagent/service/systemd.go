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

// userManager is what we ask of systemd's user manager.
type userManager struct {
	unitPath    string // the folders from which it reads units; the first has priority
	environment string // the environment of the programs that it starts, one variable on each line
}

// askSystemd asks the user manager. It fails if there is none.
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

// enabled reports whether systemd starts a unit at login. The exit code is not enough: it is 0 too for a unit without an
// [Install] section, whose state is static.
func enabled(ctx context.Context, unit string) bool {
	state, err := outputOf(ctx, "systemctl", "--user", "is-enabled", unit)
	return err == nil && state == "enabled"
}

// systemdService returns the Service for systemd's user manager that starts the program at exe.
func systemdService(env environ.Vars, exe string, m userManager) (Service, error) {
	if !terminal.Printable(exe) || strings.ContainsAny(exe, `"'\`) { // systemd does not accept them, not even escaped
		return Service{}, &protocol.Error{Code: protocol.CodeConfig, Message: "systemd can't start a program at this path: " + exe,
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
	if !strings.Contains(m.unitPath, dir) { // the manager has another XDG_CONFIG_HOME
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
	// systemd.service(5): a % begins a specifier, and a path that contains a blank is quoted. A $ has no special meaning in the path
	// of the program.
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

// shownEnvironment parses the output of `systemctl show-environment`. A value with a character that is special to a shell, such
// as a star in NO_PROXY, is written $'...'.
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

// Package environ derives from the environment of a command where its files are, which programs there are, what Claude Code
// reads, and which shell is in use. Its functions take the environment as [Vars], so that a test can give them another one.
package environ

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// Vars looks up a variable of the environment, as os.Getenv does. It returns "" for one that is not set.
type Vars func(name string) string

// ConfigFile returns the path of config.toml, whether or not the file exists.
func (e Vars) ConfigFile() (string, error) {
	return e.place("XDG_CONFIG_HOME", ".config", "", "config.toml")
}

// DataDir returns the folder in which the stores file and encrypted have their records.
func (e Vars) DataDir() (string, error) {
	return e.place("XDG_DATA_HOME", ".local/share", "data", "")
}

// StateDir returns the folder for everything else that ccagent writes: spill files, histories, journals, logs.
func (e Vars) StateDir() (string, error) {
	return e.place("XDG_STATE_HOME", ".local/state", "", "")
}

// GatewayRecords returns the folder in which gateways write down what they do.
func (e Vars) GatewayRecords() (string, error) {
	dir, err := e.StateDir()
	return filepath.Join(dir, "gateway"), err
}

// place returns the path of ccagent/file in the folder that the variable xdg names, or else in the operating system's usual
// folder below the home directory. The XDG specification says that a relative path counts as unset.
func (e Vars) place(xdg, below, darwin, file string) (string, error) {
	if dir := e(xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ccagent", file), nil
	}
	home := e("HOME")
	if !filepath.IsAbs(home) {
		err := *NoHome
		switch {
		case home != "":
			err.Message = fmt.Sprintf("HOME is not an absolute path: %q", terminal.Sanitize(home))
		case e(xdg) == "":
			err.Message = "HOME is not set, and neither is " + xdg
		default:
			err.Message = fmt.Sprintf("HOME is not set, and %s is not an absolute path: %q", xdg, terminal.Sanitize(e(xdg)))
		}
		return "", &err
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library/Application Support/ccagent", darwin, file), nil
	}
	return filepath.Join(home, below, "ccagent", file), nil
}

// SDKDir returns the folder in which the vendor's SDKs have their profiles. It returns an error for a path that is not absolute,
// because the SDKs would resolve it in whatever folder they are started.
func (e Vars) SDKDir() (string, error) {
	dir := e("ANTHROPIC_CONFIG_DIR")
	switch home := e("HOME"); {
	case filepath.IsAbs(dir):
		return filepath.Clean(dir), nil
	case dir != "":
		return "", fmt.Errorf("ANTHROPIC_CONFIG_DIR is not an absolute path: %q", terminal.Sanitize(dir))
	case filepath.IsAbs(home):
		return filepath.Join(home, ".config/anthropic"), nil
	}
	return "", errors.New("HOME is not set, so the SDKs' directory is not known")
}

// Program resolves the first word of a command in config.toml. A name without a slash is looked up on PATH later, and stays as it
// is. A path has to be absolute or below ~/, because the command does not run in the folder of the person who wrote it; for any
// other path Program returns "".
func (e Vars) Program(name string) string {
	if !strings.Contains(name, "/") {
		return name
	}
	return e.Expand(name)
}

// NotProgram is the format of the error for a command that Program can't resolve. It takes the key and the name.
const NotProgram = "%s: %q is neither a name on PATH nor an absolute path, nor one below ~/ where HOME is set"

// Expand resolves a path in config.toml, which is absolute or begins with ~/. It returns "" for any other.
func (e Vars) Expand(path string) string {
	if path = e.Spell(path); path == "" {
		return ""
	}
	return filepath.Clean(path)
}

// Spell is Expand without cleaning the path.
func (e Vars) Spell(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = e("HOME") + path[1:]
	}
	if !filepath.IsAbs(path) {
		return ""
	}
	return path
}

// BelowHome writes an absolute path with ~/ if it is below the home directory. Expand reverses that.
func (e Vars) BelowHome(path string) string {
	if below, ok := strings.CutPrefix(path, filepath.Clean(e("HOME"))+"/"); ok && filepath.IsAbs(e("HOME")) {
		return "~/" + below
	}
	return path
}

// NoHome is the error if HOME is not set, so that nothing below it can be found.
var NoHome = &protocol.Error{Code: protocol.CodeConfig, Message: "HOME is not set", Hint: "set HOME to your home directory"}

// VariableName reports whether a shell takes name for that of a variable.
func VariableName(name string) bool {
	for i, r := range name {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

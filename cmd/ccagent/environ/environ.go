// Package environ is what the environment of a command says: where its files are, which programs there are, what Claude Code
// reads, and which shell is in use. It is asked through [Vars], so that a test can say something else.
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

// Vars looks a variable of the environment up: os.Getenv, or what a test says.
type Vars func(name string) string

// ConfigFile is where config.toml is, whether or not it exists.
func (e Vars) ConfigFile() (string, error) {
	return e.place("XDG_CONFIG_HOME", ".config", "", "config.toml")
}

// DataDir is where the file store keeps records.
func (e Vars) DataDir() (string, error) {
	return e.place("XDG_DATA_HOME", ".local/share", "data", "")
}

// StateDir is where spill files and what `auto` decided are kept.
func (e Vars) StateDir() (string, error) {
	return e.place("XDG_STATE_HOME", ".local/state", "", "")
}

// place resolves one of our places: ccagent/file in the folder that xdg names, else in the one below the home that the
// operating system means for it. The XDG specification says that a relative path is to be taken as unset.
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

// SDKDir is where the vendor's SDKs have their profiles. They take a path that is not absolute as below the folder that they are
// started in: then nobody can tell which is meant.
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

// Program resolves the first word of a command of config.toml, which runs in another folder than whoever wrote it was in: a
// name on PATH stays as it is, and "" is none that can be run.
func (e Vars) Program(name string) string {
	if !strings.Contains(name, "/") {
		return name
	}
	return e.Expand(name)
}

// NotProgram says what is wrong with a command that names no program: a format for the setting and the name.
const NotProgram = "%s: %q is neither a name on PATH nor an absolute path, nor one below ~/ where HOME is set"

// Expand resolves a path of config.toml: absolute, or below the home with ~/. It returns "" for any other.
func (e Vars) Expand(path string) string {
	if path = e.Spell(path); path == "" {
		return ""
	}
	return filepath.Clean(path)
}

// Spell is Expand that leaves the path spelled as it is.
func (e Vars) Spell(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = e("HOME") + path[1:]
	}
	if !filepath.IsAbs(path) {
		return ""
	}
	return path
}

// BelowHome is what Expand makes path of, written with ~/ where it is below the home.
func (e Vars) BelowHome(path string) string {
	if below, ok := strings.CutPrefix(path, filepath.Clean(e("HOME"))+"/"); ok && filepath.IsAbs(e("HOME")) {
		return "~/" + below
	}
	return path
}

// NoHome says that nothing below the home can be found.
var NoHome = &protocol.Error{Code: protocol.CodeConfig, Message: "HOME is not set", Hint: "set HOME to your home directory"}

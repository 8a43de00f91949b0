package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// environ looks a variable of the environment up: os.Getenv, or what a test says.
type environ func(name string) string

// getenv is the environment of this process.
var getenv environ = os.Getenv

// configFile is where config.toml is, whether or not it exists.
func (e environ) configFile() (string, error) {
	return e.place("XDG_CONFIG_HOME", ".config", "", "config.toml")
}

// dataDir is where the file store keeps records.
func (e environ) dataDir() (string, error) {
	return e.place("XDG_DATA_HOME", ".local/share", "data", "")
}

// stateDir is where spill files and what `auto` decided are kept.
func (e environ) stateDir() (string, error) {
	return e.place("XDG_STATE_HOME", ".local/state", "", "")
}

// place resolves one of our places: ccagent/file in the folder that xdg names, else in the one below the home that the
// operating system means for it. The XDG specification says that a relative path is to be taken as unset.
func (e environ) place(xdg, below, darwin, file string) (string, error) {
	if dir := e(xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ccagent", file), nil
	}
	home := e("HOME")
	if !filepath.IsAbs(home) {
		return "", &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "HOME is not set, and neither is " + xdg,
			Hint:    "set HOME to your home directory",
		}
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library/Application Support/ccagent", darwin, file), nil
	}
	return filepath.Join(home, below, "ccagent", file), nil
}

// sdkDir is where the vendor's SDKs have their profiles, "" when HOME says nothing.
func (e environ) sdkDir() string {
	if dir := e("ANTHROPIC_CONFIG_DIR"); filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	if home := e("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config/anthropic")
	}
	return ""
}

// program resolves the first word of a command of config.toml, which runs in another folder than whoever wrote it was in: a
// name on PATH stays as it is, and "" is none that can be run.
func (e environ) program(name string) string {
	if !strings.Contains(name, "/") {
		return name
	}
	return e.expand(name)
}

// notProgram is what is wrong with a command whose program is none.
const notProgram = "%s: %q is neither a name on PATH nor an absolute path, nor one below ~/ where HOME is set"

// expand resolves a path of config.toml: absolute, or below the home with ~/. It returns "" for any other.
func (e environ) expand(path string) string {
	if path == "~" || len(path) > 1 && path[:2] == "~/" {
		home := e("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		return filepath.Join(home, path[1:])
	}
	if !filepath.IsAbs(path) {
		return ""
	}
	return filepath.Clean(path)
}

// belowHome is what expand makes path of, written with ~/ where it is below the home.
func (e environ) belowHome(path string) string {
	if below, ok := strings.CutPrefix(path, filepath.Clean(e("HOME"))+"/"); ok && filepath.IsAbs(e("HOME")) {
		return "~/" + below
	}
	return path
}

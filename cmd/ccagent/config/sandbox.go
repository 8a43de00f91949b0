package config

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
)

// SandboxTable is [sandbox].
type SandboxTable struct {
	Home []string `toml:"home"`
	Env  []string `toml:"env"`
}

// Sandbox is what a tool in a sandbox has of the person's.
type Sandbox struct {
	Home   []string // absolute paths below the home directory
	Env    []string // names of variables
	Hidden []string // the files with the keys of routes, which it does not have
}

// sandbox checks [sandbox].
func (d *document) sandbox(env environ.Vars) (Sandbox, error) {
	var s Sandbox
	if d.File.Sandbox == nil {
		return s, nil
	}
	for _, written := range d.File.Sandbox.Home {
		path := env.Expand(written)
		if home := filepath.Clean(env("HOME")); path == "" || !terminal.Printable(path) || !strings.HasPrefix(path, home+"/") {
			return s, d.fault(d.index.line("sandbox", "home"),
				"sandbox: home has %s: it must be a file or a folder below ~/, where HOME is set", Quote(written))
		}
		s.Home = append(s.Home, path)
	}
	for _, name := range d.File.Sandbox.Env {
		if !environ.VariableName(name) {
			return s, d.fault(d.index.line("sandbox", "env"), "sandbox: env has %s, which is not the name of a variable", Quote(name))
		}
	}
	s.Env = slices.Clone(d.File.Sandbox.Env)
	return s, nil
}

// Sandbox returns [sandbox].
func (g Gateway) Sandbox(env environ.Vars) (Sandbox, error) {
	s, err := g.doc.sandbox(env)
	if err != nil {
		return s, err
	}
	for name := range g.doc.routes() {
		files, err := g.doc.routeFiles(env, name)
		if err != nil {
			return s, err
		}
		if key := files[2]; key != "" {
			s.Hidden = append(s.Hidden, key)
		}
	}
	return s, nil
}

// Package sandbox runs a tool where nothing but its gateway can be reached: no network, no socket of the person's, and of the
// files only the system, the tool itself, the working directory and what config.toml lists. It has bubblewrap (bwrap) make the
// namespaces (Linux alone).
//
// The sandbox begins with this program, which looks around, makes the gateway's listener in the private network, hands it out,
// and becomes the tool. If anything is visible that must not be, the tool is not run.
package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
	"github.com/ccagent/ccagent/protocol"
)

// Options say which tool is run, and what it may have.
type Options struct {
	Program string // absolute
	Argv    []string
	Env     environ.Vars
	Vars    []string // the environment itself
	Dir     string   // the working directory
	Config  agent.Config
	Home    []string // absolute paths below the home directory that the tool may read and write
	Hidden  []string // absolute paths of files that the tool must not have, besides those that are known
	Keep    []string // variables that the tool gets, whatever their names
}

// writable returns where the tool may write.
func (o Options) writable() []string { return append([]string{o.Dir}, o.Home...) }

// Sandbox is a sandbox to be made for a tool.
type Sandbox struct {
	writable []string
	layout   layout
	vars     []string
	inside   inside
}

// inside is what the first program in the sandbox is told.
type inside struct {
	Program string // as it was found; the sandbox has the links to it
	Argv    []string
	Hidden  []place // nothing may be there
	Network uint64  // the inode of the network namespace outside
	Runtime string  // the folder for sockets, which is made
	Ignored []int   // signals that were ignored outside
}

// Tool is the tool as the sandbox has it.
type Tool struct {
	Program string
	Argv    []string
	Ready   session.Ready // where it finds its gateway
}

// New works out a sandbox. It returns an error (ErrConfig) if the tool would see what it must not see.
func New(o Options) (*Sandbox, error) {
	home := o.Env("HOME")
	if !filepath.IsAbs(home) {
		return nil, environ.NoHome
	}
	realHome, homeLinks, err := trail(home)
	if err != nil {
		return nil, refused("your home directory can't be looked up: "+err.Error(), "set HOME to your home directory")
	}
	if realHome != "/root" && slices.Contains(shared, realHome) || slices.Contains(system, realHome) {
		return nil, refused("your home directory is "+realHome+", without which no program runs", "set HOME to another folder")
	}
	dir, err := filepath.EvalSymlinks(o.Dir)
	if err != nil {
		return nil, refused("the working directory can't be looked up: "+err.Error(), "go to another folder")
	}
	hidden, err := places(o.Env, o.Config, o.Hidden...)
	if err != nil {
		return nil, err
	}
	tool, err := needed(o.Program, realHome, o.Env.LookPath)
	if err != nil {
		return nil, refused("the tool can't be looked up: "+err.Error(), "see that it is installed")
	}
	l := layout{home: realHome, dir: dir}
	for _, show := range []func() error{
		func() error { return l.showDir(hidden) },
		func() error { return l.showHome(o.Home, filepath.Clean(home), hidden) },
		func() error { return l.showSystem(hidden) },
		func() error { return l.showTool(tool, hidden) },
	} {
		if err := show(); err != nil {
			return nil, err
		}
	}
	l.showLinks(homeLinks)
	return &Sandbox{
		writable: o.writable(), layout: l, vars: append(cleaned(o.Vars, o.Keep), "XDG_RUNTIME_DIR="+runtimeDir()),
		inside: inside{Program: o.Program, Argv: o.Argv, Hidden: slices.Concat(hidden, elsewhere), Runtime: runtimeDir()},
	}, nil
}

// findBwrap returns the path of bubblewrap. writable are the folders in which the tool may write: it could have put a program of
// that name there when it ran before, as into the bin of a virtual environment that is on PATH.
func findBwrap(writable []string) (string, error) {
	path, err := exec.LookPath("bwrap")
	if err != nil {
		return "", &protocol.Error{Code: protocol.CodeConfig, Message: "a sandbox needs bubblewrap (bwrap), which is not on PATH",
			Hint: "install the package bubblewrap of your distribution"}
	}
	real, links, err := trail(path)
	if err != nil {
		return "", err
	}
	for _, dir := range writable {
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			continue // nothing is there
		}
		if below(real, dir) || slices.ContainsFunc(links, func(l link) bool { return below(l.At, dir) }) {
			return "", refused("the bwrap on PATH lies in "+dir+", where the tool may write",
				"take its folder off PATH, or remove it if you have not put it there: "+protocol.ShellLine("rm", path))
		}
	}
	return path, nil
}

// setting is one by which a machine forbids namespaces.
type setting struct{ file, name, forbids, allow string }

var settings = []setting{
	{"/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", "0", "1"},
	{"/proc/sys/user/max_user_namespaces", "user.max_user_namespaces", "0", "15000"},
	{"/proc/sys/user/max_net_namespaces", "user.max_net_namespaces", "0", "15000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
}

// forbidden is the error if bubblewrap can't make namespaces. read reads a file of settings, and said is what bubblewrap has
// said.
func forbidden(read func(string) string, said string) error {
	e := &protocol.Error{Code: protocol.CodeUnavailable, Message: "this machine allows no sandbox: " + said,
		Hint: "in a container, its runtime has to allow user namespaces; ask whoever manages this machine"}
	for _, s := range settings {
		if read(s.file) == s.forbids {
			e.Message = "this machine allows no sandbox, because " + s.name + " is " + s.forbids
			e.Hint = "whoever manages this machine can allow it: sudo sysctl -w " + s.name + "=" + s.allow
			break
		}
	}
	return e
}

// readSetting returns what is in a file, without the newline.
func readSetting(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text[:max(0, len(text)-1)])
}

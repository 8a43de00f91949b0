package sandbox

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// system are the folders that every program may read. What is a link there is the same link in the sandbox.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store", "/gnu/store",
	"/home/linuxbrew/.linuxbrew",
}

// private are folders that the sandbox has of its own, empty.
var private = []string{"/tmp", "/var/tmp", "/run"}

// shared are folders in which everybody has files. None of them is shown as a whole.
var shared = []string{
	"/", "/tmp", "/var/tmp", "/run", "/var", "/var/lib", "/home", "/root", "/mnt", "/media", "/srv", "/dev", "/dev/shm", "/proc",
	"/sys", "/boot",
}

// initPath is where this program is in the sandbox, to become the tool.
const initPath = "/run/ccagent"

// bind shows a file or a folder in the sandbox. Both paths are absolute, and From is without links.
type bind struct {
	From, At string
	Write    bool
}

// layout is what the sandbox has of the file system.
type layout struct {
	home  string // without links
	dir   string // the working directory, without links
	binds []bind // in order: a later one may lie in an earlier one
	dirs  []string
	links []link
}

// within reports whether something that the sandbox has from outside is at a path, or above it.
func (l *layout) within(path string) bool {
	return slices.ContainsFunc(l.binds, func(b bind) bool { return below(path, b.At) })
}

// show adds a file or a folder, but for the places in it. A folder that has places in it is made anew, and what is in it is added
// one by one: a file that is put over another is not there any more when the other is replaced, as credentials are with each
// renewal.
func (l *layout) show(b bind, places []place) error {
	if _, ok := covering(places, b.From); ok || !b.Write && l.within(b.At) {
		return nil
	}
	info, err := os.Lstat(b.From)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(b.From)
		l.links = append(l.links, link{b.At, to})
		return err
	case info.Mode()&(fs.ModeSocket|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeIrregular) != 0:
		return nil
	case !info.IsDir() || !slices.ContainsFunc(places, func(p place) bool { return p.within(b.From) }):
		l.binds = append(l.binds, b)
		return nil
	}
	l.dirs = append(l.dirs, b.At)
	entries, err := os.ReadDir(b.From)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err := l.show(bind{filepath.Join(b.From, entry.Name()), filepath.Join(b.At, entry.Name()), b.Write}, places)
		if err != nil {
			return err
		}
	}
	return nil
}

// showSystem adds the folders that every program may read.
func (l *layout) showSystem(places []place) error {
	for _, path := range system {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() && info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if err := l.show(bind{From: path, At: path}, places); err != nil {
			return err
		}
	}
	return nil
}

// showTool adds what a tool needs, and the links through which it was found.
func (l *layout) showTool(n needs, places []place) error {
	for _, path := range n.files {
		if p, ok := covering(places, path); ok {
			return refused("the tool lies in "+plain(string(p))+", which is kept out of the sandbox", "install it elsewhere")
		}
		if err := l.show(bind{From: path, At: path}, places); err != nil {
			return err
		}
	}
	l.showLinks(n.links)
	return nil
}

// showLinks adds links, where nothing from outside is.
func (l *layout) showLinks(links []link) {
	for _, one := range links {
		if !l.within(one.At) {
			l.links = append(l.links, one)
		}
	}
}

// showHome adds what config.toml lists of the home directory.
func (l *layout) showHome(listed []string, home string, places []place) error {
	for _, path := range listed {
		name := "home in [sandbox]: " + terminal.Sanitize(path)
		real, links, err := trail(path)
		if err != nil {
			if os.IsNotExist(err) {
				continue
			}
			return refused(name+": "+err.Error(), "take it out of config.toml")
		}
		for _, one := range links { // a link that the tool can change would lead anywhere the next time
			if below(one.At, l.dir) && !below(real, l.dir) {
				return refused(name+" leads through the link "+one.At+", which the tool can change", "list "+real+" in its place")
			}
		}
		if p, ok := covering(places, real); ok {
			return refused(name+" lies in "+plain(string(p))+", which is kept out of the sandbox", "take it out of config.toml")
		}
		if everybodys(real, l.home) {
			return refused(name+" leads to "+real+", which is too much for a sandbox", "list what the tool needs of it")
		}
		rel, err := filepath.Rel(home, path)
		if err != nil {
			return err
		}
		if err := l.show(bind{real, filepath.Join(l.home, rel), true}, places); err != nil {
			return err
		}
	}
	return nil
}

// showDir adds the working directory. A folder with places in it is refused, because files that a tool makes in a folder that is
// made anew would be lost.
func (l *layout) showDir(places []place) error {
	const elsewhere = "start the tool in the folder of your project"
	if everybodys(l.dir, l.home) || slices.Contains(system, l.dir) {
		what := "which is everybody's"
		if below(l.home, l.dir) {
			what = "and your home directory is in it"
			if l.dir == l.home {
				what = "your home directory"
			}
		}
		return refused(fmt.Sprintf("the sandbox would show the tool all of %s, %s", l.dir, what), elsewhere)
	}
	for _, top := range []string{"/proc", "/sys", "/dev"} {
		if below(l.dir, top) {
			return refused("a sandbox can't be made in "+l.dir, elsewhere)
		}
	}
	if p, ok := covering(places, l.dir); ok {
		return refused(fmt.Sprintf("this folder lies in %s, which is kept out of the sandbox", plain(string(p))), elsewhere)
	}
	if i := slices.IndexFunc(places, func(p place) bool { return p.within(l.dir) }); i >= 0 {
		return refused(
			fmt.Sprintf("%s is in this folder, and it is kept out of the sandbox", plain(string(places[i]))),
			elsewhere,
		)
	}
	l.binds = append(l.binds, bind{l.dir, l.dir, true})
	return nil
}

// arguments returns what bubblewrap is told. self is this program's file, and seccomp the number of the descriptor with the
// filter of system calls.
func (l *layout) arguments(self string, seccomp int) []string {
	args := []string{
		"--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
		"--die-with-parent", "--cap-drop", "ALL", "--seccomp", fmt.Sprint(seccomp),
	}
	at := func(path string) int { // what lies in the home or in a private folder comes after it
		return strings.Count(path, "/")
	}
	type step struct {
		path string
		args []string
	}
	steps := []step{
		{"/proc", []string{"--proc", "/proc"}},
		{"/dev", []string{"--dev", "/dev"}},
		{l.home, []string{"--tmpfs", l.home}},
	}
	for _, path := range private {
		steps = append(steps, step{path, []string{"--tmpfs", path}})
	}
	for _, path := range l.dirs {
		steps = append(steps, step{path, []string{"--dir", path}})
	}
	for _, b := range l.binds {
		option := "--ro-bind"
		if b.Write {
			option = "--bind"
		}
		steps = append(steps, step{b.At, []string{option, b.From, b.At}})
	}
	steps = append(steps, step{initPath, []string{"--ro-bind", self, initPath}})
	seen := map[string]bool{}
	for _, s := range l.links {
		if !seen[s.At] {
			seen[s.At] = true
			steps = append(steps, step{s.At, []string{"--symlink", s.To, s.At}})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(at(a.path), at(b.path)) })
	for _, s := range steps {
		args = append(args, s.args...)
	}
	return append(args, "--remount-ro", "/", "--chdir", l.dir)
}

// refused is the error for what a sandbox can't be made with.
func refused(message, hint string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: message, Hint: hint}
}

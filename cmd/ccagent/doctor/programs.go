package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/protocol"
)

// checkPrograms looks at both programs: who may put another in their place, and who may look into their memory as they start.
func checkPrograms(env environ.Vars) []Finding {
	self, err := os.Executable()
	if err != nil {
		return []Finding{{"programs", "skip", "this program does not know where it lies: " + err.Error(), ""}}
	}
	paths := []string{self}
	if helper, err := env.Helper(); err == nil { // one that is missing is checkHelper's
		paths = append(paths, helper)
	}
	var found []Finding
	for _, path := range paths {
		found = append(found, judgeProgram(path, os.Geteuid(), thisKernel()))
	}
	return found
}

// kernel is what keeps a person's other programs out of the memory of a program that has not closed it yet.
type kernel struct {
	apart  bool   // no program may look into those that it has not started (Yama, ptrace_scope from 1 on)
	closes bool   // it starts a program that its user may run and not read with its memory closed
	mend   string // what makes it close them; "" where nothing does
}

func thisKernel() kernel {
	if runtime.GOOS != "linux" {
		return kernel{}
	}
	setting := func(name string) string {
		value, _ := os.ReadFile("/proc/sys/" + name)
		return strings.TrimSpace(string(value))
	}
	scope := setting("kernel/yama/ptrace_scope")
	k := kernel{apart: scope != "" && scope != "0", closes: true}
	if setting("fs/suid_dumpable") == "1" { // for debugging: it opens what is closed otherwise
		k.closes, k.mend = false, "sudo sysctl fs.suid_dumpable=0"
	}
	return k
}

// judgeProgram judges the program that path leads to.
func judgeProgram(path string, user int, k kernel) Finding {
	program, err1 := filepath.EvalSymlinks(path)
	folder, err2 := filepath.EvalSymlinks(filepath.Dir(path)) // of a link, where there is one
	if err := errors.Join(err1, err2); err != nil {
		return Finding{"programs", "fail", err.Error(), bothAnew}
	}
	names := andAbove(program)
	rootAlone := true // may put another in its place
	for i, name := range slices.Concat(names, andAbove(folder)) {
		info, err := os.Stat(name)
		if err != nil {
			return Finding{"programs", "fail", err.Error(), bothAnew}
		}
		owner, known := files.Owner(info)
		if f := judgeWriters(name, info.Mode(), owner, user); known && f.State != "" {
			f.What += ": another program could be put in the place of " + path
			return f
		}
		if i < len(names) && (!known || owner != 0) {
			rootAlone = false
		}
	}
	path = program
	const (
		open = "look into its memory in the first milliseconds of a run"
		shut = "the kernel keeps your other programs out of its memory (yama)"
	)
	state, install := "warn", "install the package, or for the whole machine: sudo make install"
	if !k.closes && k.mend == "" {
		state, install = "ok", "" // nobody can do better there
	}
	switch {
	case user == 0:
		return Finding{"programs", "ok", path, ""}
	case rootAlone && k.apart:
		return Finding{"programs", "ok", path + " belongs to root, and " + shut, ""}
	case k.apart:
		return Finding{"programs", "ok", path + " is yours: any program of yours can put another in its place, but " + shut, ""}
	case !rootAlone:
		return Finding{"programs", state, path + " is yours: any program of yours can put another in its place, or " + open, install}
	case !k.closes:
		return Finding{"programs", state, path + " belongs to root, but any program of yours can " + open, k.mend}
	case unix.Access(path, unix.R_OK) == nil:
		what := path + " may be read: any program of yours can " + open
		return Finding{"programs", "warn", what, "sudo chmod 0711 " + protocol.ShellWord(path)}
	}
	return Finding{"programs", "ok", path + " belongs to root, and you may only run it: its memory is closed from the start", ""}
}

// andAbove are a path and all folders above it.
func andAbove(path string) []string {
	names := []string{path}
	for up := filepath.Dir(path); up != path; path, up = up, filepath.Dir(up) {
		names = append(names, up)
	}
	return names
}

// judgeWriters says who else than root and the user may write a program or a folder above it; it says nothing where nobody may.
func judgeWriters(name string, mode fs.FileMode, owner uint32, user int) Finding {
	if owner != 0 && int(owner) != user {
		return Finding{"programs", "fail", fmt.Sprintf("%s belongs to user %d", name, owner), bothAnew}
	}
	if mode.IsDir() && mode&fs.ModeSticky != 0 { // who may write such a folder replaces nothing of others in it
		return Finding{}
	}
	sudo := ""
	if int(owner) != user {
		sudo = "sudo "
	}
	switch {
	case mode.Perm()&0o002 != 0:
		what := fmt.Sprintf("%s may be written by everybody (mode %04o)", name, mode.Perm())
		return Finding{"programs", "fail", what, sudo + "chmod go-w " + protocol.ShellWord(name)}
	case mode.Perm()&0o020 != 0:
		what := fmt.Sprintf("%s may be written by its group (mode %04o)", name, mode.Perm())
		return Finding{"programs", "warn", what, sudo + "chmod g-w " + protocol.ShellWord(name)}
	}
	return Finding{}
}

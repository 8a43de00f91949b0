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

// checkPrograms checks for both programs who can replace them, and who can read their memory when they start.
func checkPrograms(env environ.Vars) []Finding {
	self, err := os.Executable()
	if err != nil {
		return []Finding{{"programs", "skip", "this program can't find out its own path: " + err.Error(), ""}}
	}
	paths := []string{self}
	if helper, err := env.Helper(); err == nil { // checkHelper reports one that is missing
		paths = append(paths, helper)
	}
	var found []Finding
	for _, path := range paths {
		found = append(found, judgeProgram(path, os.Geteuid(), thisKernel()))
	}
	return found
}

// kernel says how the kernel protects the memory of a program that has just started, and has not protected it itself yet, from
// other programs of the same person.
type kernel struct {
	apart  bool   // a program can read the memory of its own children only (Yama, with a ptrace_scope of 1 or more)
	closes bool   // the memory of a program that its user may run, but not read, is protected from the start
	mend   string // the command that switches closes on; "" if there is none
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
	if setting("fs/suid_dumpable") == "1" { // a setting for debugging, which switches that protection off
		k.closes, k.mend = false, "sudo sysctl fs.suid_dumpable=0"
	}
	return k
}

// judgeProgram checks the program that path names, through links.
func judgeProgram(path string, user int, k kernel) Finding {
	program, err1 := filepath.EvalSymlinks(path)
	folder, err2 := filepath.EvalSymlinks(filepath.Dir(path)) // the folder of the link, if path is one
	if err := errors.Join(err1, err2); err != nil {
		return Finding{"programs", "fail", err.Error(), bothAnew}
	}
	names := andAbove(program)
	rootAlone := true // only root can replace the program
	for i, name := range slices.Concat(names, andAbove(folder)) {
		info, err := os.Stat(name)
		if err != nil {
			return Finding{"programs", "fail", err.Error(), bothAnew}
		}
		owner, known := files.Owner(info)
		if f := judgeWriters(name, info.Mode(), owner, user); known && f.State != "" {
			f.What += ", so " + path + " could be replaced by another program"
			return f
		}
		if i < len(names) && (!known || owner != 0) {
			rootAlone = false
		}
	}
	path = program
	const (
		open = "read its memory in the first milliseconds of a run"
		shut = "the kernel keeps your other programs from reading its memory (yama)"
	)
	state, install := "warn", "install the package, or for the whole machine: sudo make install"
	if !k.closes && k.mend == "" {
		state, install = "ok", "" // nothing better can be done on this system
	}
	switch {
	case user == 0:
		return Finding{"programs", "ok", path, ""}
	case rootAlone && k.apart:
		return Finding{"programs", "ok", path + " belongs to root, and " + shut, ""}
	case k.apart:
		return Finding{"programs", "ok", path + " is yours: any program of yours can replace it, but " + shut, ""}
	case !rootAlone:
		return Finding{"programs", state, path + " is yours: any program of yours can replace it, or " + open, install}
	case !k.closes:
		return Finding{"programs", state, path + " belongs to root, but any program of yours can " + open, k.mend}
	case unix.Access(path, unix.R_OK) == nil:
		what := path + " is readable, so any program of yours can " + open
		return Finding{"programs", "warn", what, "sudo chmod 0711 " + protocol.ShellWord(path)}
	}
	what := path + " belongs to root, and you may only run it, so its memory is protected from the start"
	return Finding{"programs", "ok", what, ""}
}

// andAbove returns a path and all folders above it.
func andAbove(path string) []string {
	names := []string{path}
	for up := filepath.Dir(path); up != path; path, up = up, filepath.Dir(up) {
		names = append(names, up)
	}
	return names
}

// judgeWriters checks whether anybody but root and the user may write a program, or a folder above it. The Finding is empty if
// nobody may.
func judgeWriters(name string, mode fs.FileMode, owner uint32, user int) Finding {
	if owner != 0 && int(owner) != user {
		return Finding{"programs", "fail", fmt.Sprintf("%s belongs to user %d", name, owner), bothAnew}
	}
	if mode.IsDir() && mode&fs.ModeSticky != 0 { // in such a folder nobody can replace the files of others
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

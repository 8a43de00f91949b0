package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// checkPrograms looks at both programs: who may put another in their place, and who may look into their memory as they start.
func checkPrograms() []finding {
	self, err := os.Executable()
	if err != nil {
		return []finding{{"programs", "skip", "this program does not know where it lies: " + err.Error(), ""}}
	}
	paths := []string{self}
	if helper, err := helperPath(); err == nil { // one that is missing is checkHelper's
		paths = append(paths, helper)
	}
	var found []finding
	for _, path := range paths {
		if path, err := filepath.EvalSymlinks(path); err == nil {
			found = append(found, judgeProgram(path, os.Geteuid(), runtime.GOOS == "linux" && !yama()))
		}
	}
	return found
}

// yama reports whether the kernel lets a process look into the memory of those below it alone (Yama, ptrace_scope from 1 on).
func yama() bool {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	return err == nil && strings.TrimSpace(string(scope)) != "0"
}

// judgeProgram judges the program at path, in which there is no link. ptrace says whether the programs of one user may look into
// each other's memory before that is closed.
func judgeProgram(path string, user int, ptrace bool) finding {
	problem := func(state, mend, format string, args ...any) finding {
		what := fmt.Sprintf(format, args...) + ": another program could be put in the place of " + path
		return finding{"programs", state, what, mend}
	}
	rootAlone := true // may put another in its place
	for name := path; ; name = filepath.Dir(name) {
		info, err := os.Stat(name)
		if err != nil {
			return finding{"programs", "fail", err.Error(), bothAnew}
		}
		owner, known := ownerOf(info)
		mode := info.Mode()
		near := name == path || name == filepath.Dir(path)
		switch {
		case known && owner != 0 && int(owner) != user:
			return problem("fail", bothAnew, "%s belongs to user %d", name, owner)
		case mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0:
			mend := "chmod go-w " + protocol.ShellWord(name)
			return problem("fail", mend, "%s may be written by everybody (mode %04o)", name, mode.Perm())
		case mode.Perm()&0o020 != 0 && near:
			mend := "chmod g-w " + protocol.ShellWord(name)
			return problem("warn", mend, "%s may be written by its group (mode %04o)", name, mode.Perm())
		}
		rootAlone = rootAlone && known && owner == 0
		if name == filepath.Dir(name) {
			break
		}
	}
	const (
		open = "look into its memory in the first milliseconds of a run"
		shut = "the kernel keeps your other programs out of its memory (yama)"
	)
	switch {
	case user == 0:
		return finding{"programs", "ok", path, ""}
	case rootAlone && unix.Access(path, unix.R_OK) != nil:
		return finding{"programs", "ok", path + " belongs to root, and you may only run it: its memory is never open", ""}
	case rootAlone && ptrace:
		what := path + " may be read: any program of yours can " + open
		return finding{"programs", "warn", what, "sudo chmod 0711 " + protocol.ShellWord(path)}
	case rootAlone:
		return finding{"programs", "ok", path + " belongs to root, and " + shut, ""}
	case ptrace:
		return finding{"programs", "warn", path + " is yours: any program of yours can put another in its place, or " + open,
			"install the package, or for the whole machine: sudo make install"}
	}
	return finding{"programs", "ok", path + " is yours: any program of yours can put another in its place, but " + shut, ""}
}

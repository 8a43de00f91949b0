package main

import (
	"os"
	"path/filepath"

	"github.com/ccagent/ccagent/protocol"
)

// helperPath is cchelper beside this program, else on PATH.
func helperPath() (string, error) {
	if exe, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(exe), "cchelper"); isProgram(beside) {
			return beside, nil
		}
	}
	if path := getenv.lookPath("cchelper"); path != "" {
		return path, nil
	}
	return "", &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "cchelper is neither beside ccagent nor on PATH",
		Hint:    "install both: make install PREFIX=~/.local",
	}
}

// lookPath is the program of that name on PATH, "" if there is none.
func (e environ) lookPath(name string) string {
	for _, dir := range filepath.SplitList(e("PATH")) {
		if path := filepath.Join(dir, name); filepath.IsAbs(dir) && isProgram(path) {
			return path
		}
	}
	return ""
}

func (e environ) onPath(name string) bool { return e.lookPath(name) != "" }

package environ

import (
	"os"
	"path/filepath"

	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/protocol"
)

// Helper returns the path of cchelper: in the folder of this program, or else on PATH.
func (e Vars) Helper() (string, error) {
	if exe, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(exe), "cchelper"); files.IsProgram(beside) {
			return beside, nil
		}
	}
	if path := e.LookPath("cchelper"); path != "" {
		return path, nil
	}
	return "", &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "cchelper is neither beside ccagent nor on PATH",
		Hint:    "install both: make install PREFIX=~/.local",
	}
}

// LookPath returns the path of the program of that name on PATH, or "" if there is none.
func (e Vars) LookPath(name string) string {
	for _, dir := range filepath.SplitList(e("PATH")) {
		if path := filepath.Join(dir, name); filepath.IsAbs(dir) && files.IsProgram(path) {
			return path
		}
	}
	return ""
}

// OnPath reports whether there is a program of that name on PATH.
func (e Vars) OnPath(name string) bool { return e.LookPath(name) != "" }

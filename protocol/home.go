package protocol

import (
	"os"
	"strings"
	"syscall"
)

// Home is the places that decide whose account a request means (docs/protocol.md §4.1). A client sends it on the default socket
// only, and the agent refuses a request whose home is not its own. The zero Home says nothing and is never refused.
//
// Dir is never a reason to refuse: with ClaudeConfigDir it chooses the profile of a request that names none. A [Client] leaves
// it out of a request that names one.
type Home struct {
	Home            string // $HOME
	XDGConfigHome   string // $XDG_CONFIG_HOME; "" if unset
	ClaudeConfigDir string // the folder of Claude Code's credentials as it is spelled; "" is .claude in Home: see ClaudeDir
	Dir             string // the working directory, without links; "": not known. See MaxDir
}

// MaxDir is the longest [Home.Dir], in bytes. A longer one is left out, and ignored where it comes nevertheless.
const MaxDir = 4096

// Place returns h without Dir: what an agent compares with its own home.
func (h Home) Place() Home {
	h.Dir = ""
	return h
}

// HomeFromEnv returns the home of this process: its environment, and the working directory that it has now. It does not check
// [Home.ClaudeConfigDir]: see [ClaudeDir].
func HomeFromEnv() Home {
	claude, _ := ClaudeDir(os.LookupEnv)
	return Home{
		Home:            os.Getenv("HOME"),
		XDGConfigHome:   os.Getenv("XDG_CONFIG_HOME"),
		ClaudeConfigDir: claude,
		Dir:             workingDir(),
	}
}

// workingDir returns the working directory as the kernel knows it, "" where it can't be told: it was deleted, say. PWD is not
// asked, because it may lead through links.
func workingDir() string {
	dir, err := syscall.Getwd()
	if err != nil || dir == "" || dir[0] != '/' || len(dir) > MaxDir {
		return ""
	}
	return dir
}

// ClaudeDir returns the folder of Claude Code's credentials file as the environment spells it (docs/protocol.md §4.1): the value
// of CLAUDE_SECURESTORAGE_CONFIG_DIR if that is set, even to nothing, else that of CLAUDE_CONFIG_DIR. "" means .claude in the
// home. lookup is [os.LookupEnv] or the like. With an error (see [CheckClaudeDir]) it returns the value too.
func ClaudeDir(lookup func(name string) (value string, set bool)) (string, error) {
	name := "CLAUDE_SECURESTORAGE_CONFIG_DIR"
	dir, set := lookup(name)
	if !set {
		name = "CLAUDE_CONFIG_DIR"
		dir, _ = lookup(name)
	}
	return dir, CheckClaudeDir(name, dir)
}

// CheckClaudeDir refuses (ErrConfig) the value of a variable that names a folder of Claude Code's, if it is not an absolute path.
// Claude Code itself takes such a path, and a ~ in quotes too, to lie below the folder that it is started in. So nobody can tell
// which folder is meant, and to go on with the default one would mean another account.
func CheckClaudeDir(name, dir string) error {
	if dir == "" {
		return nil
	}
	hint := "set it to an absolute path, or unset it"
	switch {
	case strings.IndexFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
		return &Error{Code: CodeConfig, Message: name + " holds control characters: " + quote(dir), Hint: hint}
	case dir[0] == '/':
		return nil
	case dir == "~" || strings.HasPrefix(dir, "~/"):
		hint = "a shell leaves a ~ in quotes as it is: export " + name + "=\"$HOME" + dir[1:] + "\""
		if strings.ContainsAny(dir, "\"$`\\!") {
			hint = "a shell leaves a ~ in quotes as it is: write $HOME instead"
		}
	}
	return &Error{Code: CodeConfig, Message: name + " is not an absolute path: " + quote(dir), Hint: hint}
}

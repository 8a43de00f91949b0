package protocol

import "strings"

// ClaudeDir returns the folder of Claude Code's credentials file as the environment spells it (docs/protocol.md §4.1):
// CLAUDE_SECURESTORAGE_CONFIG_DIR where that is set, else CLAUDE_CONFIG_DIR. "" is .claude in the home; the former means that too
// where it is set and empty, whatever the latter says. lookup is [os.LookupEnv]. It returns what it found also with an error: see
// [CheckClaudeDir].
func ClaudeDir(lookup func(name string) (value string, set bool)) (string, error) {
	name := "CLAUDE_SECURESTORAGE_CONFIG_DIR"
	dir, set := lookup(name)
	if !set {
		name = "CLAUDE_CONFIG_DIR"
		dir, _ = lookup(name)
	}
	return dir, CheckClaudeDir(name, dir)
}

// CheckClaudeDir refuses (ErrConfig) the value of a variable that names a folder of Claude Code's and is no absolute path. Claude
// Code itself takes such a one as below the folder that it is started in, a ~ in quotes included, so nobody can tell which folder
// is meant: going on with the default one would be another account.
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

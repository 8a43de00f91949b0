package environ

import (
	"path/filepath"
	"strings"
)

// Shell is how a shell sets, unsets and quotes, and takes what `ccagent env` prints. Set and Unset are formats, for the name of
// the variable and the quoted value.
type Shell struct {
	Set, Unset string
	Quote      func(string) string
	Load       string
}

// Shells are the shells that are known, by the names of their programs.
var Shells = map[string]Shell{
	"sh":         posix,
	"bash":       posix,
	"zsh":        posix,
	"fish":       {"set -gx %s %s;", "set -e %s;", quoteWith(`\`, `\\`, `'`, `\'`), "ccagent env | source"},
	"csh":        csh,
	"tcsh":       csh,
	"powershell": powershell,
	"pwsh":       powershell,
}

var (
	posix      = Shell{"export %s=%s;", "unset %s;", quoteWith(`'`, `'\''`), `eval "$(ccagent env)"`}
	csh        = Shell{"setenv %s %s;", "unsetenv %s;", quoteCsh, "eval `ccagent env`"}
	quoteCsh   = quoteWith(`'`, `'\''`, `!`, `\!`) // history is expanded even between single quotes
	powershell = Shell{"$env:%s = %s", "Remove-Item Env:%s", quoteWith(
		`'`,
		`''`,
		`‘`,
		`‘‘`,
		`’`,
		`’’`,
		`‚`,
		`‚‚`,
		`‛`,
		`‛‛`,
	), "ccagent env | Out-String | Invoke-Expression"} // it takes the typographic ones for quotes as well
)

// quoteWith puts a string into single quotes, with the pairs of what is replaced inside.
func quoteWith(pairs ...string) func(string) string {
	replace := strings.NewReplacer(pairs...)
	return func(s string) string { return "'" + replace.Replace(s) + "'" }
}

// GuessShell names the dialect of the login shell at path; any that is not known is taken for a Bourne shell.
func GuessShell(path string) string {
	name := strings.TrimPrefix(filepath.Base(path), "-")
	if _, ok := Shells[name]; ok {
		return name
	}
	return "sh"
}

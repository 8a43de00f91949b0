package environ

import (
	"path/filepath"
	"strings"
)

// Shell describes the syntax of a shell. Set and Unset are formats for the name of a variable and, for Set, the quoted value.
// Quote quotes a value. Load is the line that runs what `ccagent env` prints.
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
	quoteCsh   = quoteWith(`'`, `'\''`, `!`, `\!`) // csh expands a ! even between single quotes
	powershell = Shell{"$env:%s = %s", "Remove-Item Env:%s", quoteWith(`'`, `''`, `‘`, `‘‘`, `’`, `’’`, `‚`, `‚‚`, `‛`,
		`‛‛`), "ccagent env | Out-String | Invoke-Expression"} // it accepts typographic quotation marks as quotes too
)

// quoteWith returns a function that puts a string into single quotes. pairs are what it replaces inside, each followed by the
// replacement.
func quoteWith(pairs ...string) func(string) string {
	replace := strings.NewReplacer(pairs...)
	return func(s string) string { return "'" + replace.Replace(s) + "'" }
}

// GuessShell returns the key in Shells for the login shell at path. An unknown shell counts as a Bourne shell.
func GuessShell(path string) string {
	name := strings.TrimPrefix(filepath.Base(path), "-")
	if _, ok := Shells[name]; ok {
		return name
	}
	return "sh"
}

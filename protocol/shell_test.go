package protocol_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestShellLine(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"work": "work", "/usr/bin/x": "/usr/bin/x", "https://a.example/x,y": "https://a.example/x,y",
		"": "''", "a b": "'a b'", "x'; cmd; '": `'x'\''; cmd; '\'''`, "$(cmd)": "'$(cmd)'", "`cmd`": "'`cmd`'",
		"~": "'~'", "a&b": "'a&b'", "#a": "'#a'", "!a": "'!a'", "=ls": "'=ls'", `a\`: `'a\'`, "ü": "'ü'", "*": "'*'",
		"{a,b}":  "'{a,b}'",
		"a\ncmd": `$'a\012cmd'`, "a\n'; cmd; '": `$'a\012\047; cmd; \047'`, "\xff\\": `$'\377\134'`, "\x1b[2J": `$'\033[2J'`,
		"a\u202eb": `$'a\342\200\256b'`, "\ufffd\n": "$'\ufffd\\012'",
	} {
		got := protocol.ShellLine("ccagent", word)
		if got != "ccagent "+want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
		// Every shell reads it as one word, and those that know $'' as the right one.
		for _, shell := range []string{"sh", "bash", "zsh", "ksh", "dash"} {
			path, err := exec.LookPath(shell)
			if err != nil {
				continue
			}
			if out, err := exec.Command(path, "-c", `printf %s `+protocol.ShellWord(word)).Output(); err != nil || string(out) != word {
				t.Errorf("%q: %s is given %q, %v", word, shell, out, err)
			}
			out, err := exec.Command(path, "-c", "set -- "+protocol.ShellLine(word, "end")+`; printf '%s|' "$#" "$2" "$1"`).Output()
			if said := string(out); err != nil || !strings.HasPrefix(said, "2|end|") ||
				said != "2|end|"+word+"|" && (!strings.HasPrefix(want, "$'") || shell == "bash" || shell == "zsh") {
				t.Errorf("%q: %s reads %q, %v", word, shell, out, err)
			}
		}
	}
}

package protocol_test

import (
	"os/exec"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestShellLine(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"work": "work", "/usr/bin/x": "/usr/bin/x", "https://a.example/x,y": "https://a.example/x,y",
		"": "''", "a b": "'a b'", "x'; cmd; '": `'x'\''; cmd; '\'''`, "$(cmd)": "'$(cmd)'", "`cmd`": "'`cmd`'", "a\ncmd": "'a\ncmd'",
		"~": "'~'", "a&b": "'a&b'", "#a": "'#a'", "!a": "'!a'", "=ls": "'=ls'", `a\`: `'a\'`, "ü": "'ü'", "\xff": "'\xff'", "*": "'*'", "{a,b}": "'{a,b}'",
	} {
		if got := protocol.ShellLine("ccagent", word); got != "ccagent "+want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
		if sh, err := exec.LookPath("sh"); err == nil {
			if got, err := exec.Command(sh, "-c", protocol.ShellLine("printf", "%s", word)).Output(); err != nil || string(got) != word {
				t.Errorf("%q: a shell reads %q, %v", word, got, err)
			}
		}
	}
}

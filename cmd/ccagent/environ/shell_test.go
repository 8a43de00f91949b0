package environ

import (
	"testing"
)

func TestShellQuotes(t *testing.T) {
	t.Parallel()
	const path = `/a b/$x'y\z!"q`
	for name, want := range map[string]string{
		"sh": `'/a b/$x'\''y\z!"q'`, "fish": `'/a b/$x\'y\\z!"q'`, "csh": `'/a b/$x'\''y\z\!"q'`, "powershell": `'/a b/$x''y\z!"q'`,
	} {
		if got := Shells[name].Quote(path); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if got := Shells["powershell"].Quote("’"); got != "'’’'" {
		t.Errorf("powershell: got %s", got)
	}
	for in, want := range map[string]string{"/bin/bash": "bash", "-zsh": "zsh", "/usr/bin/dash": "sh", "": "sh",
		"/opt/fish": "fish"} {
		if got := GuessShell(in); got != want {
			t.Errorf("guessShell(%q) = %s, want %s", in, got, want)
		}
	}
}

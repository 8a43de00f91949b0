//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestCompletion types at the prompt of each real shell, presses Tab, and looks at what it made of the line.
func TestCompletion(t *testing.T) {
	lines := []struct{ typed, want string }{
		{"ccagent sta", "ccagent status"},
		{"ccagent token --js", "ccagent token --json"},
		{"ccagent validate -p gat", "ccagent validate -p gateway"},
		{"ccagent remove gat", "ccagent remove gateway"},
		{"ccagent env --shell fi", "ccagent env --shell fish"},
		{"ccagent completion z", "ccagent completion zsh"},
		{"ccagent add x --provider sta", "ccagent add x --provider static"},
		{"ccagent setup ter", "ccagent setup terraform"},
		{"ccagent help remot", "ccagent help remote"},
		{"ccagent guard c", "ccagent guard claude-code"},
		{"ccagent import cred", "ccagent import credentials.json"},
	}
	for _, shell := range []struct {
		name  string
		args  []string
		setup string
	}{
		{"bash", []string{"--norc", "--noprofile", "-i"}, `source <(ccagent completion bash)`},
		{"zsh", []string{"-f", "-i"}, `autoload -U compinit; compinit -u -D; source <(ccagent completion zsh)`},
		{"fish", []string{"--no-config"}, `ccagent completion fish | source`},
	} {
		t.Run(shell.name, func(t *testing.T) {
			h := newHome(t)
			h.write("credentials.json", "{}")
			h.config("[profiles.gateway]\nprovider = \"static\"\nstore = \"file\"\n")
			tt := h.terminal(100, need(t, shell.name), shell.args...)
			tt.types(shell.setup + "; echo set-up-$((6 * 7))")
			if shell.name == "fish" {
				tt.press("C-u")
				tt.types(shell.setup + "; echo set-up-(math '6 * 7')")
			}
			tt.press("Enter")
			tt.shows("set-up-42")
			for _, line := range lines {
				tt.press("C-u") // an empty line
				tt.types(line.typed)
				tt.shows(line.typed)
				tt.press("Tab")
				tt.until(line.want, func(screen string) bool {
					shown := strings.Split(strings.TrimRight(screen, "\n"), "\n")
					return strings.HasSuffix(strings.TrimRight(shown[len(shown)-1], " "), line.want)
				})
			}
		})
	}
}

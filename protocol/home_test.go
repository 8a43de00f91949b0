package protocol_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// TestClaudeDir: the folder of Claude Code's credentials is the one that Claude Code 2.1.332 was seen to use. Which folder it
// takes a relative path for depends on where it is started, so a relative path is refused.
func TestClaudeDir(t *testing.T) {
	t.Parallel()
	const unset = "\x00"
	for _, tt := range []struct {
		secure, config string
		want           string
		wrong          string // the variable that is refused; "": none
	}{
		{unset, unset, "", ""},
		{unset, "", "", ""},
		{unset, "/c", "/c", ""},
		{unset, "/c//x/", "/c//x/", ""}, // as it is spelled
		{"/s", unset, "/s", ""},
		{"/s", "/c", "/s", ""},
		{"", "/c", "", ""}, // set and empty means the default; the other variable does not count
		{"", unset, "", ""},
		{"/s", "~/c", "/s", ""}, // the second variable does not count
		{unset, "~/.claude-work", "", "CLAUDE_CONFIG_DIR"},
		{unset, "~", "", "CLAUDE_CONFIG_DIR"},
		{unset, "~alice/.claude", "", "CLAUDE_CONFIG_DIR"},
		{unset, ".claude-work", "", "CLAUDE_CONFIG_DIR"},
		{unset, "./x", "", "CLAUDE_CONFIG_DIR"},
		{unset, " /c", "", "CLAUDE_CONFIG_DIR"},
		{unset, "$HOME/.claude", "", "CLAUDE_CONFIG_DIR"},
		{unset, "/c\n", "", "CLAUDE_CONFIG_DIR"},
		{"~/s", "/c", "", "CLAUDE_SECURESTORAGE_CONFIG_DIR"},
		{"s", unset, "", "CLAUDE_SECURESTORAGE_CONFIG_DIR"},
	} {
		env := map[string]string{"CLAUDE_SECURESTORAGE_CONFIG_DIR": tt.secure, "CLAUDE_CONFIG_DIR": tt.config}
		got, err := protocol.ClaudeDir(func(name string) (string, bool) {
			if env[name] == unset {
				return "", false
			}
			return env[name], true
		})
		if tt.wrong == "" {
			if got != tt.want || err != nil {
				t.Errorf("%q %q: %q, %v; want %q", tt.secure, tt.config, got, err, tt.want)
			}
			continue
		}
		if !errors.Is(err, protocol.ErrConfig) || !strings.HasPrefix(err.Error(), tt.wrong+" ") || protocol.HintOf(err) == "" {
			t.Errorf("%q %q: %q, %v (%s)", tt.secure, tt.config, got, err, protocol.HintOf(err))
		}
	}
	_, err := protocol.ClaudeDir(func(string) (string, bool) { return "~/.claude-work", true })
	if hint := protocol.HintOf(err); !strings.Contains(hint, `export CLAUDE_SECURESTORAGE_CONFIG_DIR="$HOME/.claude-work"`) {
		t.Errorf("the hint is %q", hint)
	}
}

package keyring

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestClaudeServices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dir, home, want string }{
		{"/Users/alice/.claude", "/Users/alice", "[Claude Code-credentials Claude Code-credentials-5ac5e874]"},
		{"/Users/alice/.claude-work", "/Users/alice", "[Claude Code-credentials-be865d75]"},
		{"/Users/alice/.claude", "", "[Claude Code-credentials-5ac5e874]"},
		{"/Users/zoë/.claude", "", "[Claude Code-credentials-8dc9348b]"},
	} {
		got, err := ClaudeServices(tt.dir, tt.home, "")
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s at %s: %v, %v", tt.dir, tt.home, got, err)
		}
	}
	_, err := ClaudeServices("/Users/zoe\u0308/.claude", "", "")
	if !errors.Is(err, protocol.ErrConfig) {
		t.Error(err)
	}
}

// TestClaudeServicesByVariable: the item is named for the folder as the variable spells it. Only where no variable names the
// folder may the name lack the digest.
func TestClaudeServicesByVariable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dir, variable, want string }{
		{"/Users/alice/.claude", "", "[Claude Code-credentials Claude Code-credentials-5ac5e874]"},
		{"/Users/alice/.claude", "/Users/alice/.claude", "[Claude Code-credentials-5ac5e874]"},
		{"/Users/alice/.claude", "/Users/alice/.claude-work", "[Claude Code-credentials Claude Code-credentials-5ac5e874]"},
		{"/Users/alice/.claude-work", "/Users/alice/.claude-work", "[Claude Code-credentials-be865d75]"},
		{"/Users/alice/.claude-work/", "/Users/alice/.claude-work/", "[Claude Code-credentials-95672096]"},
		{"/Users/alice//.claude", "/Users/alice//.claude", "[Claude Code-credentials-fd01006c]"},
	} {
		got, err := ClaudeServices(tt.dir, "/Users/alice", tt.variable)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s with the variable %q: %v, %v", tt.dir, tt.variable, got, err)
		}
	}
}

func TestClaudeAccount(t *testing.T) {
	t.Parallel()
	for user, want := range map[string]string{"alice": "alice", "a.b-c_9": "a.b-c_9", "": "claude-code-user",
		"zoë": "claude-code-user", "a b": "claude-code-user", "a\n": "claude-code-user"} {
		if got := claudeAccount(user); got != want {
			t.Errorf("%q: %q, want %q", user, got, want)
		}
	}
}

func TestLoginKeychain(t *testing.T) {
	t.Parallel()
	if got := loginKeychain("/Users/alice"); got != "/Users/alice/Library/Keychains/login.keychain-db" || loginKeychain("") != "" {
		t.Error(got)
	}
}

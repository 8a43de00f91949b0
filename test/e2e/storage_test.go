//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// newSecured is a home whose Claude Code has its credentials in one folder and its settings in another, and a sign-in in neither
// of the places where it would look without the two variables.
func newSecured(t *testing.T) (*home, *oauthtest.Server, *messagesAPI) {
	t.Helper()
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config(fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = %q\n", provider.TokenURL()))
	h.write("sec/.credentials.json", string(provider.Issue().CredentialsFile()))
	h.write("conf/settings.json", "{}")
	h.vars = []string{"CLAUDE_CONFIG_DIR=" + h.path("conf"), "CLAUDE_SECURESTORAGE_CONFIG_DIR=" + h.path("sec")}
	return h, provider, newMessagesAPI(t, provider.Live)
}

// The real Claude Code and the agent use the credentials in the same folder, shared and guarded.
func TestClaudeCodeStorageFolder(t *testing.T) {
	h, provider, api := newSecured(t)
	shown := func() string { s := api.seen(); return s[len(s)-1].Bearer }
	answers(t, claude(t, h, api))
	if token := h.token(); shown() != token {
		t.Errorf("Claude Code showed %s, and the agent serves %s", shown(), token)
	}
	h.ccagent("refresh").must(t)
	answers(t, claude(t, h, api))
	if token := h.token(); shown() != token {
		t.Errorf("once renewed Claude Code showed %s, and the agent serves %s", shown(), token)
	}

	h.ccagent("guard", "claude-code", "--store", "file").must(t)
	if s := readStored(t, h.path("sec/.credentials.json")); s.RefreshToken != "" || s.AccessToken != h.token() {
		t.Errorf("the view is %+v", s)
	}
	before := h.token()
	provider.RevokeToken(before)
	wait(t, "another renewal", func() bool { // one that was asked for a moment ago would answer the first
		h.ccagent("refresh").must(t)
		return h.token() != before
	})
	answers(t, claude(t, h, api))
	if token := h.token(); shown() != token {
		t.Errorf("guarded Claude Code showed %s, and the agent serves %s", shown(), token)
	}
	for _, path := range []string{"conf/.credentials.json", ".claude/.credentials.json"} {
		if exists(h.path(path)) {
			t.Errorf("there is %s", path)
		}
	}
}

// The real Claude Code takes its locks where the agent takes them: while it renews, both hold for one another.
func TestClaudeCodeStorageLocks(t *testing.T) {
	h, provider, api := newSecured(t)
	h.write("sec/.credentials.json", string(expired(provider.Issue()).CredentialsFile()))
	way, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	cmd := claude(t, h, api)
	cmd.Env = append(cmd.Env, "HTTPS_PROXY=http://"+way.Addr().String(), "NO_PROXY=127.0.0.1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	// It is on its way to the provider, of which it gets no answer, when it holds them.
	var held []net.Conn
	defer func() {
		for _, conn := range held {
			conn.Close()
		}
	}()
	way.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	other := otherClaude{h.path("sec"), provider}
	for !exists(other.locks()[0]) || !exists(other.locks()[1]) {
		conn, err := way.Accept()
		if err != nil {
			t.Fatalf("Claude Code did not take %s: %v", other.locks(), err)
		}
		held = append(held, conn)
	}
	h.helper("--timeout", "3s").fails(t, 7, "")
	if n := provider.Counts().Requests; n != 0 {
		t.Errorf("the provider was asked %d times while Claude Code held its locks", n)
	}
}

// A folder that nobody can find is refused by both programs, whether or not an agent runs, and no other account is served.
func TestClaudeCodeFolderNotAbsolute(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.config("")
	for _, name := range []string{"CLAUDE_CONFIG_DIR", "CLAUDE_SECURESTORAGE_CONFIG_DIR"} {
		for _, dir := range []string{"~/.claude-work", "work", "./work"} {
			for _, args := range [][]string{{"cchelper"}, {"cchelper", "-f", "header"}, {"ccagent", "token"},
				{"ccagent", "exec", "--", "true"}, {"ccagent", "serve"}} {
				cmd := h.command(program(args[0]), args[1:]...)
				cmd.Env = append(cmd.Env, name+"="+dir)
				r := finish(t, cmd)
				r.fails(t, 2, name+" is not an absolute path")
				if !strings.Contains(r.stderr, dir) || !strings.Contains(r.stderr, "\nhint: ") {
					t.Errorf("%v with %s=%s: %q", args, name, dir, r.stderr)
				}
			}
		}
		if _, err := os.Stat(h.socket()); name == "CLAUDE_CONFIG_DIR" && err == nil {
			t.Error("an agent was started")
		}
		h.serve()
		h.token() // and is there for the other variable
	}
}

// A setup token, kept as a key is kept, reaches the real Claude Code as the OAuth token that it is.
func TestClaudeCodeSetupToken(t *testing.T) {
	const token = "sk-ant-oat01-fake"
	h := newHome(t)
	api := newMessagesAPI(t, func(shown string) bool { return shown == token })
	h.run("/bin/sh", "-c", "echo "+token+" | ccagent add ci --provider static --store file").must(t)
	cmd := h.command(program("ccagent"), "exec", "-p", "ci", "--", need(t, partsDir()+"/claude"), "-p", "is the token good?")
	cmd.Env = append(cmd.Env, append(claudeEnv(api), "ANTHROPIC_API_KEY=fake-key-of-old")...)
	answers(t, cmd)
	if s := api.seen()[0]; s.Bearer != token || s.APIKey != "" || !strings.Contains(s.Beta, "oauth-") {
		t.Errorf("Claude Code showed %+v, want an OAuth token's headers", s)
	}
}

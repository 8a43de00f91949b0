//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// claude is the real Claude Code, asked one thing in a home, with api as its API.
func claude(t *testing.T, h *home, api *messagesAPI) *exec.Cmd {
	t.Helper()
	cmd := h.command(need(t, partsDir()+"/claude"), "-p", "is the token good?")
	cmd.Env = append(cmd.Env, claudeEnv(api)...)
	return cmd
}

func claudeEnv(api *messagesAPI) []string {
	return []string{"ANTHROPIC_BASE_URL=" + api.URL, "DISABLE_TELEMETRY=1", "DISABLE_ERROR_REPORTING=1", "DISABLE_AUTOUPDATER=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "CLAUDE_CODE_MAX_RETRIES=1"}
}

// answers runs Claude Code and checks that it got its answer.
func answers(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if r := finish(t, cmd); r.exit != 0 || !strings.Contains(r.stdout, answer) {
		t.Fatalf("claude -p: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
	}
}

// helperSettings is the one line that a person writes: the helper, by its path as README has it.
func helperSettings(args string) string {
	return fmt.Sprintf(`{"apiKeyHelper": %q}`, strings.TrimSpace(program("cchelper")+" "+args))
}

// newGateway is a home whose Claude Code talks to a gateway: the profile's sign-in is in Claude Code's format, but its Claude
// Code directory is not the one that Claude Code itself uses, so that only the helper can have brought the token.
func newGateway(t *testing.T) (*home, *oauthtest.Server, *messagesAPI) {
	t.Helper()
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config("default_profile = \"gateway\"\n" + claudeProfile("gateway", h.path("gateway"), provider))
	h.write("gateway/.credentials.json", string(provider.Issue().CredentialsFile()))
	h.write(".claude/settings.json", helperSettings(""))
	return h, provider, newMessagesAPI(t, provider.Live)
}

func TestClaudeCodeWithHelper(t *testing.T) {
	h, provider, api := newGateway(t)
	answers(t, claude(t, h, api))
	first := h.token()
	if s := api.seen(); s[0].Bearer != first || s[0].APIKey != first {
		t.Errorf("Claude Code showed %+v, want the helper's token in both headers", s[0])
	}

	provider.RevokeToken(first)
	h.ccagent("refresh").must(t)
	answers(t, claude(t, h, api))
	second := h.token()
	if second == first {
		t.Error("the revoked token is still handed out")
	}
	if s := api.seen(); s[len(s)-1].Bearer != second {
		t.Errorf("Claude Code showed %+v, want the renewed token", s[len(s)-1])
	}
	if n := provider.Counts().Refreshes; n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

// Claude Code asks the helper again after a 401 and goes on: a sign-in that is renewed while it runs is no interruption.
func TestClaudeCodeAsksAgainAfter401(t *testing.T) {
	h, provider, api := newGateway(t)
	dead := h.token()
	provider.RevokeToken(dead)
	// The helper's first answer is the dead token; whoever runs between the two renews it.
	h.write(
		"helper",
		fmt.Sprintf(
			"#!/bin/sh\nif [ -e %[1]s/asked ]; then %[2]s/ccagent refresh >/dev/null; fi\n: >%[1]s/asked\nexec %[2]s/cchelper\n",
			h.dir,
			binDir,
		),
	)
	h.write(".claude/settings.json", fmt.Sprintf(`{"apiKeyHelper": "/bin/sh %s/helper"}`, h.dir))
	answers(t, claude(t, h, api))
	if s := api.seen(); len(s) < 2 || s[0].Bearer != dead || s[0].Status != 401 || s[len(s)-1].Bearer != h.token() {
		t.Errorf("Claude Code showed %+v, want the dead token, then the renewed one", s)
	}
}

func TestClaudeCodeThroughExec(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	api := newMessagesAPI(t, provider.Live)
	run := func() {
		t.Helper()
		cmd := h.command(program("ccagent"), "exec", "--", need(t, partsDir()+"/claude"), "-p", "is the token good?")
		cmd.Env = append(cmd.Env, claudeEnv(api)...)
		answers(t, cmd)
	}
	run()
	first := h.token()
	if s := api.seen()[0]; s.Bearer != first || s.APIKey != "" || !strings.Contains(s.Beta, "oauth-") {
		t.Errorf("Claude Code showed %+v, want an OAuth token's headers", s)
	}
	provider.RevokeToken(first)
	h.ccagent("refresh").must(t)
	run()
	if s := api.seen(); s[len(s)-1].Bearer == first {
		t.Error("the revoked token was used again")
	}
	checkSignIn(t, h.credentialsFile(), provider)
}

// TestClaudeCodeOnBedrock has Claude Code sign its requests to Bedrock with the keys that a command prints.
func TestClaudeCodeOnBedrock(t *testing.T) {
	h := newHome(t)
	h.write("keys", `{"Version":1,"AccessKeyId":"FAKEKEYID","SecretAccessKey":"fake-key","SessionToken":"fake-session-1"}`)
	h.config("[profiles.keys]\nprovider = \"command\"\ncommand = [\"cat\", \"" + h.path("keys") + "\"]\n")
	h.write(".claude/settings.json", fmt.Sprintf(`{"awsCredentialExport": %q}`, program("cchelper")+" -p keys -f aws"))
	var mu sync.Mutex
	var signed []string
	bedrock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		signed = append(signed, r.Header.Get("Authorization")+" "+r.Header.Get("X-Amz-Security-Token"))
		mu.Unlock()
		w.WriteHeader(http.StatusForbidden)
	}))
	defer bedrock.Close()
	cmd := h.command(need(t, partsDir()+"/claude"), "-p", "are the keys good?")
	cmd.Env = append(cmd.Env, claudeEnv(&messagesAPI{URL: bedrock.URL})...)
	cmd.Env = append(cmd.Env, "CLAUDE_CODE_USE_BEDROCK=1", "AWS_REGION=us-east-1", "ANTHROPIC_BEDROCK_BASE_URL="+bedrock.URL,
		"AWS_EC2_METADATA_DISABLED=true")
	r := finish(t, cmd)
	mu.Lock()
	defer mu.Unlock()
	if len(signed) == 0 || !strings.Contains(signed[0], "Credential=FAKEKEYID/") ||
		!strings.HasSuffix(signed[0], " fake-session-1") {
		t.Errorf("Bedrock was asked with %q\nexit %d\n%s%s", signed, r.exit, r.stdout, r.stderr)
	}
}

func TestClaudeCodeShowsWhyTheHelperFailed(t *testing.T) {
	h, provider, api := newGateway(t)
	signIn := provider.Issue()
	provider.RevokeGrant(signIn.AccessToken)
	h.write("gateway/.credentials.json", string(expired(signIn).CredentialsFile()))
	h.helper().fails(t, 4, "no longer accepts this sign-in")
	line, _, _ := strings.Cut(h.helper().stderr, "\n")
	if !strings.HasPrefix(line, "ccagent: ") {
		t.Fatalf("cchelper said %q", line)
	}
	line, _, _ = strings.Cut(line, ")") // behind it are the provider's own words, which whoever waited for its answer hears alone
	r := finish(t, claude(t, h, api))
	if want := "apiKeyHelper failed: exited 4: " + line + ")"; r.exit == 0 || !strings.Contains(r.stdout+r.stderr, want) {
		t.Errorf("claude -p: exit %d\n%s%s\nwant %q in it", r.exit, r.stdout, r.stderr, want)
	}
}

// A token that is revoked in the middle of a session mends itself: the same prompt gets its answer, because the helper is asked
// again by the same program. Another session is no reason to renew.
func TestClaudeCodeMendsARejectedToken(t *testing.T) {
	h, provider, api := newGateway(t)
	h.write(".claude/settings.json", helperSettings("--on-reask=renew"))
	answers(t, claude(t, h, api))
	answers(t, claude(t, h, api))
	if n := provider.Counts().Refreshes; n != 0 {
		t.Fatalf("%d renewals for two sessions with a good token", n)
	}

	s := newSession(t, h, claudeEnv(api), "")
	if wrong := s.prompt(); wrong != "" {
		t.Fatalf("the first prompt: %s", wrong)
	}
	dead := h.token()
	provider.RevokeToken(dead)
	if wrong := s.prompt(); wrong != "" {
		t.Errorf("the prompt after the revocation: %s", wrong)
	}
	if n := provider.Counts().Refreshes; n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
	if s := api.seen(); s[len(s)-1].Bearer == dead || s[len(s)-1].Status != 200 {
		t.Errorf("Claude Code showed %+v at the end", s[len(s)-1])
	}
}

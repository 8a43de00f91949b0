//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// newRouted is a home whose Claude Code has no sign-in of its own, and a gateway's route to an API.
func newRouted(t *testing.T) (*home, *oauthtest.Server, *messagesAPI) {
	t.Helper()
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	api := newMessagesAPI(t, provider.Live)
	h.config("default_profile = \"work\"\n" + claudeProfile("work", h.path("work"), provider) +
		fmt.Sprintf("[gateway.routes.anthropic]\nupstream = %q\nallow = [\"HEAD /\", \"POST /v1/messages\"]\n", api.URL))
	h.write("work/.credentials.json", string(provider.Issue().CredentialsFile()))
	return h, provider, api
}

// routed is a tool that a gateway serves, with the variables of Claude Code that keep it quiet.
func routed(h *home, api *messagesAPI, argv ...string) *exec.Cmd {
	cmd := h.command(program("ccagent"), append([]string{"run", "--"}, argv...)...)
	cmd.Env = append(cmd.Env, claudeEnv(api)[1:]...) // where the API is, the gateway says
	return cmd
}

// gateways returns the gateways of a home.
func gateways(t *testing.T, h *home) []process {
	t.Helper()
	var found []process
	for _, p := range h.processes() {
		if isGateway(p) {
			found = append(found, p)
		}
	}
	return found
}

func isGateway(p process) bool { return len(p.args) > 1 && p.args[1] == "gateway" }

// gone waits until a home has no gateway any more, which is soon.
func gone(t *testing.T, h *home) {
	t.Helper()
	began := time.Now()
	wait(t, "the gateway to end", func() bool { return len(gateways(t, h)) == 0 })
	t.Logf("the gateway was gone after %v", time.Since(began).Round(time.Millisecond))
}

// A token that is revoked in the middle of a session is renewed, and Claude Code sees nothing of it, and never has the token.
func TestClaudeCodeThroughGateway(t *testing.T) {
	h, provider, api := newRouted(t)
	cmd := routed(h, api, append([]string{need(t, partsDir()+"/claude")}, sessionArgs...)...)
	s := converse(t, cmd)
	if wrong := s.prompt(); wrong != "" {
		t.Fatalf("the first prompt: %s", wrong)
	}
	first := h.token()
	provider.RevokeToken(first)
	if wrong := s.prompt(); wrong != "" {
		t.Errorf("the prompt after the revocation: %s", wrong)
	}
	second := h.token()
	if n := provider.Counts().Refreshes; n != 1 || first == second {
		t.Errorf("%d renewals, want 1", n)
	}

	seen := api.seen()
	for i, one := range seen {
		if one.Bearer != first && one.Bearer != second || one.APIKey != "" || !strings.Contains(one.Beta, "oauth-") {
			t.Errorf("request %d showed %+v, want a live token and an OAuth token's headers", i, one)
		}
	}
	if last := seen[len(seen)-1]; last.Bearer != second || last.Status != 200 {
		t.Errorf("the last request showed %+v, want the renewed token", last)
	}
	if bytes.Contains(api.raw.Bytes(), []byte("ccag_")) {
		t.Error("a stand-in came to the API")
	}

	// What the tool has, and what the gateway has been given where others could read it.
	var tool process
	for _, p := range h.processes() {
		for _, part := range []string{"/environ", "/cmdline"} {
			text, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + part)
			if bytes.Contains(text, []byte(first)) || bytes.Contains(text, []byte(second)) {
				t.Errorf("%q has a token in its %s", p.args, part)
			}
			if standIn := bytes.Contains(text, []byte("ccag_")); standIn && isGateway(p) {
				t.Errorf("the gateway has a stand-in in its %s", part)
			} else if standIn && p.pid == cmd.Process.Pid {
				tool = p
			}
		}
	}
	if tool.pid == 0 {
		t.Error("the tool has no stand-in in its environment: the search finds nothing")
	}
	serving := gateways(t, h)
	if len(serving) != 1 {
		t.Fatalf("%d gateways", len(serving))
	}
	if g := serving[0]; g.ppid == cmd.Process.Pid || g.session == tool.session {
		t.Errorf("the gateway is %+v, below the tool %+v", g, tool)
	}
	s.in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("Claude Code ended with %v", err)
	}
	gone(t, h)
}

// A sign-in that ends is told in the API's own form, so that Claude Code shows what to do.
func TestClaudeCodeThroughGatewaySignedOut(t *testing.T) {
	h, provider, api := newRouted(t)
	s := converse(t, routed(h, api, append([]string{need(t, partsDir()+"/claude")}, sessionArgs...)...))
	if wrong := s.prompt(); wrong != "" {
		t.Fatalf("the first prompt: %s", wrong)
	}
	token := h.token()
	provider.RevokeGrant(token)
	provider.RevokeToken(token)
	if said := s.prompt(); !strings.Contains(said, "ccagent login") {
		t.Errorf("Claude Code shows %q", said)
	}
}

// The gateway ends with the tool, however that ends, and the tool has nothing of it.
func TestGatewayEndsWithTool(t *testing.T) {
	h, _, api := newRouted(t)
	cmd := routed(h, api, "sleep", "1000")
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	wait(t, "the tool to run", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return string(text) == "sleep\x001000\x00"
	})
	for _, p := range h.processes() {
		if p.ppid == pid {
			t.Errorf("the tool has a child that it did not start: %q", p.args)
		}
	}
	direct := exec.Command("sleep", "1000") // it has what this test hands on
	if err := direct.Start(); err != nil {
		t.Fatal(err)
	}
	defer direct.Wait()
	defer direct.Process.Kill()
	if got, want := openFiles(t, pid), openFiles(t, direct.Process.Pid); got != want {
		t.Errorf("the tool has %d open files, want %d", got, want)
	}
	if n := len(gateways(t, h)); n != 1 {
		t.Errorf("%d gateways", n)
	}
	cmd.Process.Kill()
	cmd.Wait()
	gone(t, h)
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

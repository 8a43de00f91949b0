//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// greeting is what the MCP servers' tool says.
const greeting = "hello from the server"

// sdkDir holds the official MCP SDK, as setup.sh has installed it.
func sdkDir(t *testing.T) string { return need(t, partsDir()+"/mcp-sdk") }

// node runs a program of node's that says a line with ready once it serves, and returns when it does.
func node(t *testing.T, ready string, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command(need(t, "node"), args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			default: // nobody waits for it any more
			}
		}
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended; cmd.Wait() })
	said, late := "", time.After(time.Minute)
	for !strings.Contains(said, ready) {
		select {
		case line := <-lines:
			said += line + "\n"
		case <-ended:
			t.Fatalf("%v ended: %s", args, said)
		case <-late:
			t.Fatalf("%v serves not: %s", args, said)
		}
	}
}

// ports are free ones.
func ports(t *testing.T, n int) (free []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		free = append(free, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	}
	return free
}

// tooling stands in for the Messages API with a model that calls a tool once for each prompt, and repeats what came of it.
func tooling(t *testing.T, tool string) *messagesAPI {
	t.Helper()
	var answers atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Model    string `json:"model"`
			Messages []struct {
				Role    string          `json:"role"`
				Content json.RawMessage `json:"content"`
			} `json:"messages"`
		}
		if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&request) != nil {
			return
		}
		n := answers.Add(1)
		last := ""
		var blocks []json.RawMessage // of the last message, which may be a text instead
		if n := len(request.Messages); n > 0 && json.Unmarshal(request.Messages[n-1].Content, &blocks) == nil && len(blocks) > 0 {
			last = string(blocks[len(blocks)-1])
		}
		block := map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d", n), "name": tool, "input": map[string]any{}}
		delta := map[string]any{"type": "input_json_delta", "partial_json": `{"name": "Alice"}`}
		reason := "tool_use"
		if strings.Contains(last, "tool_result") {
			block, reason = map[string]any{"type": "text", "text": ""}, "end_turn"
			delta = map[string]any{"type": "text_delta", "text": "the tool said: " + last}
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []map[string]any{
			{"type": "message_start", "message": map[string]any{
				"id": fmt.Sprintf("msg_%d", n), "type": "message", "role": "assistant", "model": request.Model, "content": []any{},
				"stop_reason": nil, "stop_sequence": nil, "usage": map[string]int{"input_tokens": 1, "output_tokens": 1},
			}},
			{"type": "content_block_start", "index": 0, "content_block": block},
			{"type": "content_block_delta", "index": 0, "delta": delta},
			{"type": "content_block_stop", "index": 0},
			{"type": "message_delta", "delta": map[string]any{"stop_reason": reason}, "usage": map[string]int{"output_tokens": 5}},
			{"type": "message_stop"},
		} {
			data, err := json.Marshal(event)
			if err != nil {
				return
			}
			fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event["type"], data)
		}
	}))
	t.Cleanup(server.Close)
	return &messagesAPI{URL: server.URL}
}

// signInToMCP signs in to an MCP server, without a person, and returns what login said.
func (h *home) signInToMCP(address string, more ...string) result {
	h.t.Helper()
	l := h.login(append([]string{"docs", "--browser", "--mcp", address}, more...)...)
	visit(h.t, l.address())
	return l.finish().must(h.t)
}

// TestMCPExampleServer signs in to the example server of the official MCP SDK as it is, and has the real Claude Code call its
// tool. Then the server has lost its memory, and the same command signs in again.
func TestMCPExampleServer(t *testing.T) {
	example := need(t, sdkDir(t)+"/node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js")
	h := newHome(t)
	port := ports(t, 2)
	address := "http://localhost:" + port[0] + "/mcp"
	env := []string{"MCP_PORT=" + port[0], "MCP_AUTH_PORT=" + port[1]}
	t.Run("fresh", func(t *testing.T) {
		node(t, "MCP Streamable HTTP Server listening", env, example, "--oauth", "--oauth-strict")
		r := h.signInToMCP(address)
		if told := "has you sign in at http://localhost:" + port[1] + "/"; !strings.Contains(r.stderr, told) {
			t.Errorf("login said\n%s\nwant %q", r.stderr, told)
		}
		h.ccagent("validate", "-p", "docs", "--online").must(t)
		before := h.read(".config/ccagent/config.toml")
		h.signInToMCP(address, "--force")
		if after := h.read(".config/ccagent/config.toml"); after != before {
			t.Errorf("the second sign-in changed\n%s\ninto\n%s", before, after)
		}
		h.ccagent("setup", "claude-code", "--mcp", "docs", "--yes").must(t)
		callsTool(t, h, "Hello, Alice!")
	})
	t.Run("forgotten", func(t *testing.T) {
		node(t, "MCP Streamable HTTP Server listening", env, example, "--oauth", "--oauth-strict")
		if r := h.signInToMCP(address, "--force"); !strings.Contains(r.stderr, "this client is registered anew") {
			t.Errorf("login said\n%s", r.stderr)
		}
		callsTool(t, h, "Hello, Alice!")
	})
}

// callsTool has the real Claude Code call the tool greet of the MCP server docs in one prompt.
func callsTool(t *testing.T, h *home, want string) {
	t.Helper()
	cmd := h.command(need(t, partsDir()+"/claude"), "-p", "greet me", "--allowedTools", "mcp__docs__greet")
	cmd.Env = append(cmd.Env, claudeEnv(tooling(t, "mcp__docs__greet"))...)
	cmd.Env = append(cmd.Env, "ANTHROPIC_API_KEY=fake-key")
	if r := finish(t, cmd); r.exit != 0 || !strings.Contains(r.stdout, want) {
		t.Fatalf("claude -p: exit %d\n%s%s\nwant %q", r.exit, r.stdout, r.stderr, want)
	}
}

// TestMCPTokenExpires has a session of the real Claude Code call the tool of an MCP server, made of the official SDK, before and
// after its token has expired. The server is in the settings of a project, and only the helper brings tokens.
func TestMCPTokenExpires(t *testing.T) {
	t.Parallel()
	const lifetime = 20 * time.Second
	h := newHome(t)
	port := ports(t, 1)[0]
	address := "http://localhost:" + port + "/mcp"
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	node(t, "ready", nil, here+"/mcp/server.mjs", sdkDir(t), port, fmt.Sprint(int(lifetime/time.Second)))
	h.signInToMCP(address)
	project := h.path("project")
	mkdir(t, project, 0o755)
	set := h.command(program("ccagent"), "setup", "claude-code", "--mcp", "docs", "--project", "--yes")
	set.Dir = project
	finish(t, set).must(t)
	if settings := h.read("project/.mcp.json"); strings.Contains(settings, h.dir) || strings.Contains(settings, binDir) {
		t.Errorf("what others share has a path of this machine:\n%s", settings)
	}
	h.write(".claude.json", fmt.Sprintf(`{"projects": {%q: {"hasTrustDialogAccepted": true}}}`, project))

	seen := func() (bearers []string) {
		resp, err := http.Get("http://localhost:" + port + "/seen")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var all []struct {
			Bearer string
			Status int
		}
		if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.Status < 300 {
				bearers = append(bearers, s.Bearer)
			}
		}
		return bearers
	}
	s := newSession(t, h, append(claudeEnv(tooling(t, "mcp__docs__greet")), "ANTHROPIC_API_KEY=fake-key"), project,
		"--allowedTools", "mcp__docs__greet")
	if wrong := s.ask("greet me", greeting); wrong != "" {
		t.Fatalf("the first prompt: %s", wrong)
	}
	first := seen()
	token := first[len(first)-1]
	if !strings.HasPrefix(token, "fake-access-") {
		t.Fatalf("the server saw %q", first)
	}
	wait(t, "the token of the first prompt to expire", func() bool {
		req, err := http.NewRequest(http.MethodPost, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		time.Sleep(200 * time.Millisecond) // between one question and the next
		return resp.StatusCode == http.StatusUnauthorized
	})
	if wrong := s.ask("greet me again", greeting); wrong != "" {
		t.Errorf("the prompt after the token has expired: %s", wrong)
	}
	if all := seen(); len(all) == 0 || all[len(all)-1] == token {
		t.Errorf("the server saw %q, want another token at the end", all)
	}
}

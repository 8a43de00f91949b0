//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// TestReadme runs README as a newcomer would: every sh block, in order, in one shell and a new home. Ours in it are a sign-in as
// Claude Code leaves it, a provider, and the programs that README takes for granted.
func TestReadme(t *testing.T) {
	blocks := shellBlocks(t, "../../README.md")

	home, err := os.MkdirTemp("", "ccr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	provider := oauthtest.New(t, oauthtest.Options{})
	signIn := provider.Issue()
	credentials, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken": signIn.AccessToken, "refreshToken": signIn.RefreshToken, "expiresAt": signIn.Expiry.UnixMilli(),
		"scopes": signIn.Scopes, "subscriptionType": signIn.Subscription,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for path, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		".claude/.credentials.json": {string(credentials), 0o600},
		".config/ccagent/config.toml": {fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = %q\n", provider.TokenURL()),
			0o600},
		"stand-in/company-login": {"#!/bin/sh\n[ \"$1\" = --print-token ] && echo fake-gateway-1\n", 0o700},
		"stand-in/curl":          {"#!/bin/sh\nread -r header && echo \"curl got $header\"\n", 0o700},
		"stand-in/claude":        {"#!/bin/sh\necho \"claude got $CLAUDE_CODE_OAUTH_TOKEN\"\n", 0o700},
	} {
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	runtimeDir := filepath.Join(home, "run")
	if err := os.Mkdir(runtimeDir, 0o700); err != nil {
		t.Fatal(err)
	}

	var script strings.Builder
	script.WriteString("set -eu\n")
	for _, b := range blocks {
		fmt.Fprintf(&script, "echo '# README.md line %d'\n%s", b.line, b.text)
	}
	cmd := exec.CommandContext(t.Context(), "sh")
	cmd.Stdin = strings.NewReader(script.String())
	cmd.Dir = "../.."
	cmd.Env = []string{
		"HOME=" + home, "XDG_RUNTIME_DIR=" + runtimeDir, "MY_API_KEY=fake-key-1",
		"PATH=" + filepath.Join(home, "stand-in") + ":" + os.Getenv("PATH"),
		"GOCACHE=" + goEnv(t, "GOCACHE"), "GOMODCACHE=" + goEnv(t, "GOMODCACHE"),
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}

	for _, want := range []string{
		"\nfake-gateway-1\n",
		"\nAuthorization: Bearer fake-key-1\n",
		"\n" + signIn.AccessToken + "\n",
		"\nclaude got fake-access-", // another than the first: it was refreshed meanwhile
		"\ncurl got Authorization: Bearer fake-gateway-1\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in what it printed:\n%s", want, &out)
		}
	}
	if n := provider.Counts().Refreshes; n != 1 {
		t.Errorf("%d renewals, want the one of `ccagent refresh`", n)
	}
	socket := filepath.Join(runtimeDir, "ccagent", "agent.sock")
	_, err = protocol.NewClient(socket).Status(t.Context(), protocol.StatusRequest{})
	if protocol.CodeOf(err) != protocol.CodeNoAgent {
		t.Errorf("after README's end an agent still answers: %v", err)
	}
}

// shellBlock is a fenced block of a document that says it is for sh.
type shellBlock struct {
	line int
	text string
}

func shellBlocks(t *testing.T, path string) []shellBlock {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []shellBlock
	var open *shellBlock
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		switch fence := strings.TrimSpace(line); {
		case open == nil && fence == "```sh":
			open = &shellBlock{line: number + 1}
		case open != nil && fence == "```":
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	if len(blocks) < 5 || open != nil {
		t.Fatalf("%s has %d blocks for sh, and one open: %v", path, len(blocks), open != nil)
	}
	return blocks
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

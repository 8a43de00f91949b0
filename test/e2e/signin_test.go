//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// Zero configuration: a sign-in of Claude Code's and cchelper, nothing else.
func TestZeroConfiguration(t *testing.T) {
	for _, dir := range []string{".claude", "elsewhere/claude"} {
		t.Run(dir, func(t *testing.T) {
			h := newHome(t)
			h.write(
				dir+"/.credentials.json",
				`{"claudeAiOauth":{"accessToken":"fake-live","refreshToken":"fake-unused","expiresAt":`+fmt.Sprint(
					time.Now().Add(time.Hour).UnixMilli(),
				)+`}}`,
			)
			cmd := h.command(program("cchelper"))
			if dir != ".claude" {
				cmd.Env = append(cmd.Env, "CLAUDE_CONFIG_DIR="+h.path(dir))
			}
			if r := finish(t, cmd).must(t); r.stdout != "fake-live\n" || r.stderr != "" {
				t.Errorf("printed %q, %q", r.stdout, r.stderr)
			}
			if exists(h.path(".config")) {
				t.Error("a configuration was made")
			}
		})
	}
	t.Run("an agent of another Claude Code directory", func(t *testing.T) {
		h, _ := newSignedIn(t, time.Hour)
		h.config("") // the profile's directory is the environment's
		h.serve()
		h.token()
		cmd := h.command(program("cchelper"))
		cmd.Env = append(cmd.Env, "CLAUDE_CONFIG_DIR="+h.path("other"))
		r := finish(t, cmd)
		if r.exit == 0 || r.stdout != "" || !strings.Contains(r.stderr, "CLAUDE_CONFIG_DIR") {
			t.Errorf("exit %d, %q: the token of another account, or no word of why not: %q", r.exit, r.stdout, r.stderr)
		}
	})
}

// A renewal changes our keys in the shared file, and not one byte of what others keep there.
func TestRenewalKeepsEverythingElse(t *testing.T) {
	for _, link := range []bool{false, true} {
		t.Run(fmt.Sprintf("symbolic link %v", link), func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			signIn := provider.Issue()
			const frame = "{ \"mcpOAuth\" : {\"a\":[1.0, 2e3,\"\\u00e9\"]},\n\t\"claudeAiOauth\":{\"unknown\": {\"b\" : null}, " +
				"\"accessToken\":%q,\"refreshToken\":%q " +
				",\"expiresAt\":%d,\"scopes\":[\"user:inference\",\"user:profile\"],\"subscriptionType\":\"max\",\"rateLimitTier\":\"x\"  " +
				"},\r\n \"zz\":123456789012345678901234567890 }\n\n"
			file := ".claude/.credentials.json"
			if link {
				file = "dotfiles/credentials.json"
				h.write(file, "")
				if err := os.Remove(h.credentialsFile()); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(h.path(file), h.credentialsFile()); err != nil {
					t.Fatal(err)
				}
			}
			h.write(file, fmt.Sprintf(frame, signIn.AccessToken, signIn.RefreshToken, 0))
			token := h.token()
			var now struct {
				ClaudeAiOauth stored `json:"claudeAiOauth"`
			}
			got := h.read(file)
			if err := json.Unmarshal([]byte(got), &now); err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if want := fmt.Sprintf(frame, token, now.ClaudeAiOauth.RefreshToken, now.ClaudeAiOauth.ExpiresAt); got != want ||
				token == signIn.AccessToken {
				t.Errorf("token %s, file\n%q\nwant\n%q", token, got, want)
			}
			checkMode(t, h.path(file), 0o600)
			if info, err := os.Lstat(h.credentialsFile()); err != nil || (info.Mode()&os.ModeSymlink != 0) != link {
				t.Errorf("%v %v: the link was replaced", info.Mode(), err)
			}
			checkSignIn(t, h.credentialsFile(), provider)
		})
	}
}

// A token of a few seconds' life works as well as one of 8 hours, and outages are ridden out with what still lives.
func TestShortLivedTokens(t *testing.T) {
	h, provider := newSignedIn(t, 8*time.Second)
	h.serve()
	seen := make(map[string]bool)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		token := h.token()
		if !provider.Live(token) {
			t.Fatalf("token %s is dead", token)
		}
		seen[token] = true
	}
	if len(seen) < 3 || len(seen) > 6 {
		t.Errorf("%d tokens in 20 s of 8 s each", len(seen))
	}
	provider.SetFault(oauthtest.Fault{Status: 503})
	last := ""
	wait(t, "the next renewal to fail", func() bool { last = h.token(); return h.profile("claude").State == "backing off" })
	if token := h.token(); token != last || !provider.Live(token) {
		t.Errorf("token %s during an outage, want the old one while it lives", token)
	}
	checkSignIn(t, h.credentialsFile(), provider)
}

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// claudeProfile is a profile whose provider is the stand-in.
func claudeProfile(name, dir string, provider *oauthtest.Server) string {
	return fmt.Sprintf("[profiles.%s]\nprovider = \"claude\"\nstore = \"claude-code\"\nconfig_dir = %q\ntoken_url = %q\n\n",
		name, dir, provider.TokenURL())
}

// newSignedIn makes a home with a sign-in at a new provider, as Claude Code would have stored it, and the one line of
// config.toml that points the profile to the stand-in.
func newSignedIn(t *testing.T, lifetime time.Duration) (*home, *oauthtest.Server) {
	t.Helper()
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: lifetime})
	h.config(claudeProfile("claude", h.path(".claude"), provider))
	h.signIn(provider.Issue())
	return h, provider
}

func (h *home) signIn(s oauthtest.SignIn) {
	h.t.Helper()
	h.write(".claude/.credentials.json", string(s.CredentialsFile()))
}

// expired is a sign-in whose access token is past its time by what the file says.
func expired(s oauthtest.SignIn) oauthtest.SignIn {
	s.Expiry = time.Now().Add(-time.Minute)
	return s
}

// stored is what Claude Code would read.
type stored struct {
	AccessToken  string `json:"accessToken"`
	RefreshToken string `json:"refreshToken"`
	ExpiresAt    int64  `json:"expiresAt"`
}

func readStored(t *testing.T, path string) stored {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		ClaudeAiOauth stored          `json:"claudeAiOauth"`
		MCPOAuth      json.RawMessage `json:"mcpOAuth"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if file.MCPOAuth == nil {
		t.Errorf("%s has lost mcpOAuth", path)
	}
	return file.ClaudeAiOauth
}

// checkSignIn checks that what is stored can still be renewed, and that nobody used a refresh token twice.
func checkSignIn(t *testing.T, path string, provider *oauthtest.Server) {
	t.Helper()
	if n := provider.Counts().Reuses; n != 0 {
		t.Errorf("%d refresh tokens were used twice", n)
	}
	if s := readStored(t, path); !provider.Renewable(s.RefreshToken) {
		t.Errorf("the stored sign-in is lost: the provider no longer takes its refresh token")
	}
}

//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// TestAnotherAccountsFile puts account A's sign-in in the place of B's, whose token both programs have given out.
func TestAnotherAccountsFile(t *testing.T) {
	for _, tt := range []struct {
		name string
		a    func(h *home, provider *oauthtest.Server, s oauthtest.SignIn) (file string)
		exit int
	}{
		{"revoked", func(h *home, provider *oauthtest.Server, s oauthtest.SignIn) string {
			provider.RevokeGrant(s.RefreshToken)
			return string(expired(s).CredentialsFile())
		}, 4},
		{"without a refresh token", func(h *home, provider *oauthtest.Server, s oauthtest.SignIn) string {
			s.RefreshToken = ""
			return string(expired(s).CredentialsFile())
		}, 4},
		{"the provider is down", func(h *home, provider *oauthtest.Server, s oauthtest.SignIn) string {
			provider.SetFault(oauthtest.Fault{Status: 503})
			return string(expired(s).CredentialsFile())
		}, 7},
		{"truncated", func(h *home, provider *oauthtest.Server, s oauthtest.SignIn) string {
			return string(s.CredentialsFile()[:40])
		}, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			b := h.token()
			file := tt.a(h, provider, provider.Issue())
			h.write(".claude/.credentials.json", file)
			for range 2 {
				h.helper().fails(t, tt.exit, "")
				if r := h.ccagent("exec", "--", "printenv", "CLAUDE_CODE_OAUTH_TOKEN"); r.exit != tt.exit ||
					strings.Contains(r.stdout, b) {
					t.Errorf("exec: exit %d, want %d; B's token: %v", r.exit, tt.exit, strings.Contains(r.stdout, b))
				}
			}
			if h.read(".claude/.credentials.json") != file {
				t.Error("the file was changed")
			}
		})
	}
}

// TestOldFileAfterFirstContact has cchelper's first request renew, and then a backup bring the old file back.
func TestOldFileAfterFirstContact(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.signIn(expired(provider.Issue()))
	old := h.read(".claude/.credentials.json")
	newest := h.token()
	for range 2 {
		h.write(".claude/.credentials.json", old)
		if got := h.token(); got != newest {
			t.Errorf("got %q, want the newest", got)
		}
		h.ccagent("stop").must(t)
	}
	if n := provider.Counts(); n.Reuses != 0 {
		t.Errorf("a spent refresh token was sent: %+v", n)
	}
}

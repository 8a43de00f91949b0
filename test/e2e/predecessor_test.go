//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// TestPredecessorKeyring: the Python predecessor's item in the keyring is taken over, and gone once the sign-in is stored: of one
// that rotates two copies would end each other.
func TestPredecessorKeyring(t *testing.T) {
	h := newHome(t)
	secrets := h.newBus().secrets()
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	signIn := provider.Issue()
	if _, _, err := secrets.create(map[string]dbus.Variant{
		"org.freedesktop.Secret.Item.Attributes": dbus.MakeVariant(map[string]string{"service": "claude-code-proxy",
			"username": "default"}),
	}, secretValue{Value: signIn.CredentialsFile()}, true); err != nil {
		t.Fatal(err)
	}
	h.serve()
	out := h.ccagent("import", "--keyring", "-p", "old").must(t).stdout
	if !strings.Contains(out, "the keyring's item claude-code-proxy was deleted") {
		t.Errorf("it says %q", out)
	}
	if held := secrets.values(); strings.Contains(held, signIn.RefreshToken) {
		t.Error("the keyring still holds the refresh token")
	}
	if token := h.token("-p", "old"); token != signIn.AccessToken {
		t.Errorf("token %s, want %s", token, signIn.AccessToken)
	}
	h.ccagent("import", "--keyring", "-p", "again").fails(t, 3, "there is no item")
}

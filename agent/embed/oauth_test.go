package embed_test

import (
	"context"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// A provider made of package oauth: what it is refused for good ends with the exit code of a sign-in or of the configuration, and
// what passes does not. The record stays.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault oauthtest.Fault
		exit  int
	}{
		{"final", oauthtest.Fault{Status: 200, Body: `{"error":"bad_refresh_token"}`}, 4},
		{"the client", oauthtest.Fault{Status: 400, Body: `{"error":"incorrect_client_credentials"}`}, 2},
		{"a guard", oauthtest.Fault{Status: 403, Body: "<html>"}, 7},
		{"busy", oauthtest.Fault{Status: 400, Body: `{"error":"slow_down"}`}, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := oauthtest.New(t, oauthtest.Options{})
			client := &oauth.Client{TokenURL: server.TokenURL()}
			place := store.NewFile(t.TempDir(), "main")
			signIn := server.Issue()
			old := store.Record{
				AccessToken:  protocol.NewSecret(signIn.AccessToken),
				RefreshToken: protocol.NewSecret(signIn.RefreshToken),
				Expiry:       time.Now().Add(-time.Minute).Truncate(time.Millisecond),
			}
			if _, err := place.Save(t.Context(), old, store.Version{}); err != nil {
				t.Fatal(err)
			}
			server.SetFault(tt.fault)
			provider := embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
				reply, err := client.Refresh(ctx, r.RefreshToken)
				r.AccessToken, r.Expiry = reply.AccessToken, reply.Expiry
				return r, err
			})
			a := start(t, &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: provider, Store: place}}})
			_, err := a.Token(t.Context(), protocol.TokenRequest{})
			if got := protocol.ExitCode(err); got != tt.exit {
				t.Errorf("exit code %d (%v), want %d", got, err, tt.exit)
			}
			if r, _, err := place.Load(t.Context()); err != nil || r.RefreshToken.Reveal() != signIn.RefreshToken {
				t.Errorf("the record is %+v, %v", r, err)
			}
		})
	}
}

package oauth

import (
	"testing"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// TestExchangeToken leaves out a refresh token that comes with an exchange: nobody would keep it.
func TestExchangeToken(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{Exchange: true})
	server.SetFault(oauthtest.Fault{Edit: func(r map[string]any) { r["refresh_token"] = "fake-refresh-of-exchange" }})
	signIn := server.IssueFor("a", "b")
	c := &Client{Issuer: server.Issuer(), ClientID: "cli"}
	if err := c.Discover(t.Context()); err != nil || !c.ExchangesTokens() {
		t.Fatalf("it does token exchange: %v, %v", c.ExchangesTokens(), err)
	}
	reply, err := c.ExchangeToken(t.Context(), protocol.NewSecret(signIn.AccessToken), protocol.Derived{Scope: "a"})
	if err != nil || !reply.RefreshToken.Empty() || !server.Live(reply.AccessToken.Reveal()) || len(reply.Scopes) != 1 {
		t.Errorf("%+v, %v", reply, err)
	}
	for name, fault := range map[string]any{"a number": 7, "blanks": "a b"} {
		server.SetFault(oauthtest.Fault{Edit: func(r map[string]any) { r["refresh_token"] = fault }})
		reply, err := c.ExchangeToken(t.Context(), protocol.NewSecret(signIn.AccessToken), protocol.Derived{Scope: "b"})
		if err != nil || !server.Live(reply.AccessToken.Reveal()) {
			t.Errorf("%s as refresh token, which nobody wants: %v", name, err)
		}
	}
	if !server.Renewable(signIn.RefreshToken) {
		t.Error("the sign-in's refresh token was spent")
	}
}

package oauth

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// A renewal that is refused for what config.toml has it say is mended there. For what it does not say, a new sign-in is needed.
func TestRenewalRefusedForItsParameters(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{})
	for _, tt := range []struct {
		name, code string
		c          Client
		want       error
	}{
		{"a target", "invalid_target", Client{Resource: []string{"https://one.example"}}, protocol.ErrConfig},
		{"an audience", "invalid_audience", Client{Audience: "a"}, protocol.ErrConfig},
		{"a scope", "invalid_scope", Client{Extra: Extra{Refresh: map[string]string{"scope": "a"}}}, protocol.ErrConfig},
		{"the sign-in's scope", "invalid_scope", Client{Scopes: []string{"a"}, Audience: "a"}, protocol.ErrLoginRequired},
		{"Entra, of one application", `invalid_request","error_description":"AADSTS90009: is requesting a token for itself`,
			Client{}, protocol.ErrConfig},
		{"no target", "invalid_target", Client{Resource: []string{"https://one.example"},
			Extra: Extra{Refresh: map[string]string{"resource": ""}}}, protocol.ErrLoginRequired},
	} {
		c := tt.c
		c.TokenURL, c.ClientID = server.TokenURL(), "fake-client"
		server.SetFault(oauthtest.Fault{Status: 400, Body: `{"error":"` + tt.code + `"}`})
		_, err := c.Refresh(t.Context(), protocol.NewSecret("fake-refresh-sent"))
		if !errors.Is(err, tt.want) || strings.Contains(protocol.HintOf(err), "refresh_params") != (tt.want == protocol.ErrConfig) {
			t.Errorf("%s: %v, hint %q", tt.name, err, protocol.HintOf(err))
		}
	}
}

// Which parameters go with which request. What a token is for is said in each; an empty value leaves a parameter out; and what
// the protocol needs can't be replaced.
func TestParameters(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-secret"})
	client := func(extra Extra) *Client {
		return &Client{
			ClientID: "fake-client", Auth: ClientSecretPost, Secret: protocol.NewSecret("fake-secret"),
			AuthorizeURL: server.AuthorizeURL(), TokenURL: server.TokenURL(), DeviceURL: server.DeviceURL(),
			Scopes: []string{"a", "b"}, Audience: "fake-audience", Resource: []string{"https://one.example", "https://two.example"},
			Params: map[string]string{"prompt": "consent"}, Extra: extra,
		}
	}
	const token = "/v1/oauth/token"
	compared := []string{"scope", "audience", "resource", "prompt", "x", "grant_type"}
	check := func(name, at string, want map[string]string) {
		t.Helper()
		got := server.Sent(at)
		maps.DeleteFunc(got, func(name, _ string) bool { return !slices.Contains(compared, name) })
		if !maps.Equal(got, want) {
			t.Errorf("%s sent %q, want %q", name, got, want)
		}
	}
	const resources = "https://one.example https://two.example"
	for _, tt := range []struct {
		extra                         Extra
		authorize, code, refresh, own map[string]string
	}{
		{
			authorize: map[string]string{"scope": "a b", "audience": "fake-audience", "resource": resources, "prompt": "consent"},
			code:      map[string]string{"grant_type": "authorization_code", "audience": "fake-audience", "resource": resources},
			refresh:   map[string]string{"grant_type": "refresh_token", "audience": "fake-audience", "resource": resources},
			own: map[string]string{"grant_type": "client_credentials", "scope": "a b", "audience": "fake-audience",
				"resource": resources, "prompt": "consent"},
		},
		{
			extra: Extra{
				Authorize: map[string]string{"x": "1", "prompt": "login", "audience": ""},
				Token:     map[string]string{"x": "2", "resource": "", "grant_type": "fake", "scope": "a"},
				Refresh: map[string]string{"x": "3", "scope": "a offline_access", "audience": "", "resource": "https://one.example",
					"grant_type": "fake"},
			},
			authorize: map[string]string{"scope": "a b", "resource": resources, "prompt": "login", "x": "1"},
			code:      map[string]string{"grant_type": "authorization_code", "audience": "fake-audience", "x": "2", "scope": "a"},
			refresh: map[string]string{"grant_type": "refresh_token", "resource": "https://one.example", "x": "3",
				"scope": "a offline_access"},
			own: map[string]string{"grant_type": "client_credentials", "scope": "a", "audience": "fake-audience", "prompt": "consent",
				"x": "2"},
		},
	} {
		c := client(tt.extra)
		reply, err := signIn(t, c)
		if err != nil {
			t.Fatal(err)
		}
		check("the authorize request", "/authorize", tt.authorize)
		check("the exchange", token, tt.code)
		if _, err := c.Refresh(t.Context(), reply.RefreshToken); err != nil {
			t.Fatal(err)
		}
		check("the renewal", token, tt.refresh)
		if _, err := c.ClientCredentials(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("the machine", token, tt.own)
		d, err := c.StartDevice(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		check("the device request", "/device", tt.authorize)
		server.Approve(d.UserCode)
		if _, err := c.PollDevice(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		poll := maps.Clone(tt.code)
		poll["grant_type"] = "urn:ietf:params:oauth:grant-type:device_code"
		check("the poll", token, poll)
	}
}

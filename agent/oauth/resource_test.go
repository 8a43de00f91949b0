package oauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// web is a network: what is at each address. "401 " at the beginning of a value stands for a challenge, which follows it, and a
// number for an answer with that status; anything else is a document.
type web map[string]string

// client is a client on that network. asked are the addresses that it has asked, in turn.
func (w web) client(asked *[]string) *Client {
	return &Client{Profile: "docs", MCP: true, roundTrip: func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r.URL.String())
		resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}}
		value, there := w[r.URL.String()]
		switch {
		case !there:
			resp.StatusCode = http.StatusNotFound
		case strings.HasPrefix(value, "401 "):
			resp.StatusCode = http.StatusUnauthorized
			resp.Header.Set("WWW-Authenticate", strings.TrimPrefix(value, "401 "))
			value = ""
		case strings.HasPrefix(value, "302 "):
			resp.StatusCode = http.StatusFound
			resp.Header.Set("Location", strings.TrimPrefix(value, "302 "))
			value = ""
		case len(value) == 3:
			fmt.Sscan(value, &resp.StatusCode)
			value = ""
		case strings.HasPrefix(value, "<"):
			resp.Header.Set("Content-Type", "text/html")
		}
		resp.Body = io.NopCloser(strings.NewReader(value))
		return resp, nil
	}}
}

const (
	mcp       = "https://mcp.example.com/a/mcp"
	described = "https://mcp.example.com/.well-known/oauth-protected-resource/a/mcp"
	atOrigin  = "https://mcp.example.com/.well-known/oauth-protected-resource"
	document  = `{"resource": "` + mcp + `", "authorization_servers": ["https://sso.example.com"]}`
)

func TestFindResource(t *testing.T) {
	for name, c := range map[string]struct {
		web    web
		want   string // the resource; "": an error
		issuer string // "": none
		scopes string
		fails  string
	}{
		"named by the challenge": {
			web:  web{mcp: `401 Bearer resource_metadata="https://mcp.example.com/meta", scope="a b a"`, "https://mcp.example.com/meta": document},
			want: mcp, issuer: "https://sso.example.com", scopes: "a b",
		},
		"named by a challenge among others": {
			web: web{mcp: `401 Basic realm="x", Bearer error="invalid_token", resource_metadata="https://mcp.example.com/meta"`,
				"https://mcp.example.com/meta": document},
			want: mcp, issuer: "https://sso.example.com",
		},
		"at its own path": {
			web:  web{mcp: "401 Bearer", described: document, atOrigin: "500"},
			want: mcp, issuer: "https://sso.example.com",
		},
		"at its origin": {
			web:  web{mcp: "401 Bearer", atOrigin: document},
			want: mcp, issuer: "https://sso.example.com",
		},
		"at its origin, behind a site that answers for everything": {
			web:  web{mcp: "401 Bearer", described: "<html>", atOrigin: document},
			want: mcp, issuer: "https://sso.example.com",
		},
		"without a challenge": {
			web:  web{mcp: "405", described: document},
			want: mcp, issuer: "https://sso.example.com",
		},
		"scopes of the description": {
			web: web{mcp: "401 Bearer", described: `{"resource": "` + mcp + `", "authorization_servers": ["https://sso.example.com"],
				"scopes_supported": ["a", "b c", "", "d", "a"]}`},
			want: mcp, issuer: "https://sso.example.com", scopes: "a d",
		},
		"the whole origin, described there": {
			web:  web{mcp: "401 Bearer", atOrigin: `{"resource": "https://mcp.example.com/", "authorization_servers": ["https://sso.example.com"]}`},
			want: "https://mcp.example.com/", issuer: "https://sso.example.com",
		},
		"the same, spelled otherwise": {
			web:  web{mcp: "401 Bearer", described: `{"resource": "HTTPS://MCP.example.com:443/a/mcp", "authorization_servers": ["https://sso.example.com"]}`},
			want: "HTTPS://MCP.example.com:443/a/mcp", issuer: "https://sso.example.com",
		},
		"one bad authorization server among two": {
			web:  web{mcp: "401 Bearer", described: `{"resource": "` + mcp + `", "authorization_servers": ["http://127.0.0.1:80", "https://sso.example.com"]}`},
			want: mcp, issuer: "https://sso.example.com",
		},
		"no authorization server": {web: web{mcp: "401 Bearer", described: `{"resource": "` + mcp + `"}`}, want: mcp},
		"no description":          {web: web{mcp: `401 Bearer scope="a"`}, want: mcp, scopes: "a"},

		"the whole origin, described by one path of it, and by itself": {
			web: web{mcp: "401 Bearer", described: `{"resource": "https://mcp.example.com", "authorization_servers": ["https://evil.test"]}`,
				atOrigin: `{"resource": "https://mcp.example.com", "authorization_servers": ["https://sso.example.com"]}`},
			want: "https://mcp.example.com", issuer: "https://sso.example.com",
		},
		"the whole origin, described by one path of it": {
			web:   web{mcp: "401 Bearer", described: `{"resource": "https://mcp.example.com/", "authorization_servers": ["https://sso.example.com"]}`},
			fails: "is for https://mcp.example.com/, not for " + mcp,
		},
		"another path": {
			web:   web{mcp: "401 Bearer", described: `{"resource": "https://mcp.example.com/a/mcp2", "authorization_servers": ["https://sso.example.com"]}`},
			fails: "not for " + mcp,
		},
		"a part of a path": {
			web:   web{mcp: "401 Bearer", atOrigin: `{"resource": "https://mcp.example.com/a/m"}`},
			fails: "not for " + mcp,
		},
		"another's name": {
			web:   web{mcp: "401 Bearer", described: `{"resource": "https://bank.example.com/mcp", "authorization_servers": ["https://sso.example.com"]}`},
			fails: "is for https://bank.example.com/mcp",
		},
		"no resource":  {web: web{mcp: "401 Bearer", described: `{}`}, fails: "resource is missing"},
		"a wrong type": {web: web{mcp: "401 Bearer", described: `{"resource": 1}`}, fails: "resource is missing"},
		"a list":       {web: web{mcp: "401 Bearer", described: `[]`}, fails: "not a JSON object"},
		"half of it":   {web: web{mcp: "401 Bearer", described: document[:20]}, fails: "not a JSON object"},
		"too large":    {web: web{mcp: "401 Bearer", described: strings.Repeat(" ", maxReply+1)}, fails: "larger than 1 MiB"},
		"servers no list": {
			web:   web{mcp: "401 Bearer", described: `{"resource": "` + mcp + `", "authorization_servers": {"a": 1}}`},
			fails: "authorization_servers is not a list",
		},
		"another site": {
			web:   web{mcp: `401 Bearer resource_metadata="https://other.example.com/meta"`, "https://other.example.com/meta": document},
			fails: "at another site, https://other.example.com, which is not asked",
		},
		"another port": {
			web:   web{mcp: `401 Bearer resource_metadata="https://mcp.example.com:8443/meta"`, "https://mcp.example.com:8443/meta": document},
			fails: "at another site",
		},
		"without TLS": {
			web:   web{mcp: `401 Bearer resource_metadata="http://mcp.example.com/meta"`},
			fails: "must begin with https://",
		},
		"on this machine": {
			web:   web{mcp: `401 Bearer resource_metadata="http://127.0.0.1:1/meta"`},
			fails: "at another site",
		},
		"a file": {web: web{mcp: `401 Bearer resource_metadata="file:///etc/passwd"`}, fails: "is not a URL"},
		"named and not there": {
			web:  web{mcp: `401 Bearer resource_metadata="https://mcp.example.com/meta"`, described: document},
			want: mcp, issuer: "https://sso.example.com",
		},
		"named and broken": {
			web:   web{mcp: `401 Bearer resource_metadata="https://mcp.example.com/meta"`, "https://mcp.example.com/meta": "403", described: document},
			fails: "403",
		},
		"one authorization server, spelled in two ways": {
			web: web{mcp: "401 Bearer", described: `{"resource": "` + mcp + `", "authorization_servers": ["https://sso.example.com", ` +
				`"https://sso.example.com/"]}`},
			want: mcp, issuer: "https://sso.example.com",
		},
		"a redirect to its description": {
			web:   web{mcp: "401 Bearer", described: "302 https://other.example.com/meta", "https://other.example.com/meta": document},
			fails: "redirect (302) to other.example.com",
		},
		"a redirect": {web: web{mcp: "302 https://other.example.com/mcp"}, fails: "redirect (302) to other.example.com"},
		"broken":     {web: web{mcp: "503", described: document}, fails: "can't answer now"},
		"no token wanted": {
			web:   web{mcp: `{"jsonrpc":"2.0","id":1,"result":{}}`},
			fails: "asks for no token",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			r, err := c.web.client(&asked).FindResource(t.Context(), mcp)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%+v, %v; want an error with %q", r, err, c.fails)
				}
				return
			}
			if err != nil || r.ID != c.want || strings.Join(r.Issuers, " ") != c.issuer ||
				strings.Join(r.Scopes, " ") != c.scopes {
				t.Errorf("%+v, %v; want %q at %q for %q\nasked: %q", r, err, c.want, c.issuer, c.scopes, asked)
			}
		})
	}
}

// An MCP server and its issuer may differ in a slash at the end of the issuer's name, and in nothing else. What config.toml says
// is taken at its word.
func TestIssuerWithSlash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		asked, says string
		mcp, taken  bool
	}{
		{"https://sso.example.com/", "https://sso.example.com", true, true},
		{"https://sso.example.com", "https://sso.example.com/", true, true},
		{"https://sso.example.com/tenant/", "https://sso.example.com/tenant", true, true},
		{"https://SSO.example.com:443", "https://sso.example.com", true, true},
		{"https://sso.example.com", "https://sso.example.com/tenant", true, false},
		{"https://sso.example.com", "https://sso.example.com//", true, false},
		{"https://sso.example.com", "https://sso.example.com?x=1", true, false},
		{"https://sso.example.com", "https://sso2.example.com", true, false},
		{"https://sso.example.com", "http://sso.example.com", true, false},
		{"https://sso.example.com/", "https://sso.example.com", false, false},
	} {
		description := `{"issuer": "` + c.says + `", "token_endpoint": "https://sso.example.com/token"}`
		client := web{}.client(new([]string))
		client.roundTrip = func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(description))}, nil
		}
		client.MCP, client.Issuer = c.mcp, c.asked
		err := client.Discover(t.Context())
		if c.taken != (err == nil) || c.taken && client.Issuer != c.says {
			t.Errorf("%s, which calls itself %s: %s, %v", c.asked, c.says, client.Issuer, err)
		}
	}
}

// A server elsewhere can't send a sign-in into this machine or its network, and one there can't send it nearer.
func TestFindResourceNearIssuer(t *testing.T) {
	for _, c := range []struct {
		server, issuer string
		allowed        bool
	}{
		{"https://mcp.example.com/mcp", "https://sso.example.com", true},
		{"https://mcp.example.com/mcp", "https://192.0.2.7", true},
		{"https://mcp.example.com/mcp", "https://mcp.example.com", true},
		{"https://mcp.example.com/mcp", "http://127.0.0.1:8080", false},
		{"https://mcp.example.com/mcp", "https://localhost", false},
		{"https://mcp.example.com/mcp", "https://x.localhost", false},
		{"https://mcp.example.com/mcp", "https://[::1]:8443", false},
		{"https://mcp.example.com/mcp", "https://[::ffff:127.0.0.1]", false},
		{"https://mcp.example.com/mcp", "https://0.0.0.0", false},
		{"https://mcp.example.com/mcp", "https://169.254.169.254/latest", false},
		{"https://mcp.example.com/mcp", "https://[fe80::1]", false},
		{"https://mcp.example.com/mcp", "https://10.0.0.1", false},
		{"https://mcp.example.com/mcp", "https://[fd00::1]", false},
		{"https://mcp.example.com/mcp", "https://100.100.1.1", false},
		{"https://mcp.example.com/mcp", "http://sso.example.com", false},
		{"https://mcp.example.com/mcp", "javascript:alert(1)", false},
		{"https://mcp.example.com/mcp", "file:///etc/passwd", false},
		{"https://mcp.example.com/mcp", "https://a:b@sso.example.com", false},
		{"https://mcp.example.com/mcp", "https://sso.example.com/#x", false},
		{"https://mcp.example.com/mcp", "https://sso.example.com/?x", false},
		{"https://10.0.0.2/mcp", "https://10.0.0.1", true},
		{"https://10.0.0.2/mcp", "https://169.254.169.254", false},
		{"https://10.0.0.2/mcp", "http://localhost:1", false},
		{"http://localhost:3000/mcp", "http://localhost:3001/", true},
		{"http://127.0.0.1:3000/mcp", "https://sso.example.com", true},
	} {
		var asked []string
		at := wellKnownResource(c.server)[0]
		net := web{c.server: "401 Bearer", at: fmt.Sprintf(`{"resource": %q, "authorization_servers": [%q]}`, c.server, c.issuer)}
		r, err := net.client(&asked).FindResource(t.Context(), c.server)
		if c.allowed != (err == nil) || err != nil && !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("%s names %s: %v, %v", c.server, c.issuer, r, err)
		}
	}
}

// The order is that of MCP's authorization specification (2025-11-25, Authorization Server Metadata Discovery).
func TestDiscoverInMCPOrder(t *testing.T) {
	for issuer, want := range map[string][]string{
		"https://auth.example.com/tenant1": {
			"https://auth.example.com/.well-known/oauth-authorization-server/tenant1",
			"https://auth.example.com/.well-known/openid-configuration/tenant1",
			"https://auth.example.com/tenant1/.well-known/openid-configuration",
		},
		"https://auth.example.com": {
			"https://auth.example.com/.well-known/oauth-authorization-server",
			"https://auth.example.com/.well-known/openid-configuration",
		},
		"https://auth.example.com/": {
			"https://auth.example.com/.well-known/oauth-authorization-server",
			"https://auth.example.com/.well-known/openid-configuration",
		},
	} {
		var asked []string
		c := web{}.client(&asked)
		c.Issuer = issuer
		if err := c.Discover(t.Context()); !errors.Is(err, protocol.ErrConfig) || !slices.Equal(asked, want) {
			t.Errorf("%s: %v, asked %q, want %q", issuer, err, asked, want)
		}
		for _, place := range want {
			asked = nil
			c := web{
				place: fmt.Sprintf(`{"issuer": %q, "token_endpoint": "https://auth.example.com/token"}`, issuer),
			}.client(
				&asked,
			)
			c.Issuer = issuer
			if err := c.Discover(t.Context()); err != nil || c.TokenURL == "" || asked[len(asked)-1] != place {
				t.Errorf("%s at %s: %v, asked %q", issuer, place, err, asked)
			}
		}
	}
}

func TestMCPWantsPKCE(t *testing.T) {
	for methods, allowed := range map[string]bool{`["plain", "S256"]`: true, `["plain"]`: false, `null`: false, `"S256"`: true} {
		var asked []string
		c := web{"https://sso.example.com/.well-known/oauth-authorization-server": `{"issuer": "https://sso.example.com",
			"authorization_endpoint": "https://sso.example.com/authorize", "token_endpoint": "https://sso.example.com/token",
			"registration_endpoint": "https://sso.example.com/register", "code_challenge_methods_supported": ` + methods + `}`}.client(&asked)
		c.Issuer = "https://sso.example.com"
		if err := c.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := c.Authorize(redirectURI)
		if can := c.CanRegister(); (err == nil) != allowed || (can == nil) != allowed {
			t.Errorf("%s: %v, %v", methods, err, can)
		}
		if err != nil && !strings.Contains(err.Error(), "PKCE") {
			t.Errorf("%s: %v", methods, err)
		}
	}
}

// registering is a client of an issuer that answers to a registration with reply.
func registering(t *testing.T, description, reply string) *Client {
	t.Helper()
	var asked []string
	c := web{
		"https://sso.example.com/.well-known/oauth-authorization-server": `{"issuer": "https://sso.example.com",
			"token_endpoint": "https://sso.example.com/token", "code_challenge_methods_supported": ["S256"]` + description + `}`,
		"https://sso.example.com/register": reply,
	}.client(&asked)
	c.Issuer = "https://sso.example.com"
	if err := c.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRegister(t *testing.T) {
	const endpoint = `, "registration_endpoint": "https://sso.example.com/register"`
	for name, c := range map[string]struct {
		description, reply string
		want               Registration
		fails              string
	}{
		"public":     {endpoint, `{"client_id": "fake-1"}`, Registration{ClientID: "fake-1"}, ""},
		"by default": {endpoint + `, "token_endpoint_auth_methods_supported": ["none", "client_secret_post"]`, `{"client_id": "fake-1"}`, Registration{ClientID: "fake-1"}, ""},
		"basic": {
			endpoint + `, "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]`,
			`{"client_id": "fake-1", "client_secret": "fake-secret"}`,
			Registration{ClientID: "fake-1", Auth: ClientSecretBasic, Secret: protocol.NewSecret("fake-secret")}, "",
		},
		"the server decides": {
			endpoint, `{"client_id": "fake-1", "client_secret": "fake-secret", "token_endpoint_auth_method": "client_secret_post"}`,
			Registration{ClientID: "fake-1", Auth: ClientSecretPost, Secret: protocol.NewSecret("fake-secret")}, "",
		},
		"a secret that nobody uses": {endpoint, `{"client_id": "fake-1", "client_secret": "fake-secret"}`, Registration{ClientID: "fake-1"}, ""},
		"kept": {
			endpoint,
			`{"client_id": "fake-1", "registration_client_uri": "https://sso.example.com/r/1", "registration_access_token": "fake-token"}`,
			Registration{ClientID: "fake-1", URL: "https://sso.example.com/r/1", Token: protocol.NewSecret("fake-token")}, "",
		},
		"kept elsewhere": {
			endpoint,
			`{"client_id": "fake-1", "registration_client_uri": "https://sso.example.com.evil.test/r", "registration_access_token": "fake-token"}`,
			Registration{ClientID: "fake-1"}, "",
		},
		"no endpoint":      {``, ``, Registration{}, "registers no clients by itself"},
		"a plain endpoint": {`, "registration_endpoint": "http://sso.example.com/register"`, ``, Registration{}, "must begin with https://"},
		"one on this machine": {
			`, "registration_endpoint": "http://127.0.0.1:1/register"`, ``, Registration{}, "is plain http, and the issuer itself is https",
		},
		"keys alone": {
			endpoint + `, "token_endpoint_auth_methods_supported": ["private_key_jwt"]`, ``, Registration{}, "no way to authenticate",
		},
		"no id":         {endpoint, `{"client_id": ""}`, Registration{}, "no client id"},
		"a number":      {endpoint, `{"client_id": 1}`, Registration{}, "no client id"},
		"an escape":     {endpoint, `{"client_id": "a\u001b[2Jb"}`, Registration{}, "no client id"},
		"no secret":     {endpoint, `{"client_id": "fake-1", "token_endpoint_auth_method": "client_secret_basic"}`, Registration{}, "no client secret"},
		"another way":   {endpoint, `{"client_id": "fake-1", "token_endpoint_auth_method": "tls_client_auth"}`, Registration{}, "authenticate by tls_client_auth"},
		"no JSON":       {endpoint, `fake`, Registration{}, "not a JSON object"},
		"a page":        {endpoint, `<html>`, Registration{}, "does not register this client"},
		"refused":       {endpoint, `{"error": "invalid_redirect_uri", "error_description": "loopback"}`, Registration{}, "does not register this client"},
		"not for us":    {endpoint, `401 Bearer`, Registration{}, "does not register this client"},
		"elsewhere":     {endpoint, `302 https://evil.test/`, Registration{}, "redirect (302)"},
		"not there now": {endpoint, `404`, Registration{}, "does not register this client"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := registering(t, c.description, c.reply).Register(t.Context(), redirectURI)
			switch {
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("%+v, %v; want an error with %q", r, err, c.fails)
			case c.fails != "":
			case err != nil || r.ClientID != c.want.ClientID || r.Auth != c.want.Auth || r.Secret.Reveal() != c.want.Secret.Reveal() ||
				r.URL != c.want.URL || r.Token.Reveal() != c.want.Token.Reveal():
				t.Errorf("%+v, %v; want %+v", r, err, c.want)
			}
			if err != nil &&
				(strings.Contains(err.Error()+protocol.HintOf(err), "fake-secret") || strings.Contains(err.Error(), "\x1b")) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Where clients are known by a document of their own, the hint says that its address serves as an id.
func TestRegisterByDocument(t *testing.T) {
	_, err := registering(t, `, "client_id_metadata_document_supported": true`, "").Register(t.Context(), redirectURI)
	if !strings.Contains(protocol.HintOf(err), "client ID metadata document") ||
		!strings.Contains(protocol.HintOf(err), "--client-id") {
		t.Errorf("%v: %s", err, protocol.HintOf(err))
	}
}

func TestCheckResource(t *testing.T) {
	for answer, want := range map[string]error{
		`{"jsonrpc":"2.0","id":1,"result":{}}`: nil, "400": nil, "405": nil,
		"401 Bearer": protocol.ErrExpired, "403": protocol.ErrDenied, "503": protocol.ErrUnavailable, "404": protocol.ErrUnavailable,
		"302 https://other.example.com/": protocol.ErrUnavailable,
	} {
		var asked []string
		err := web{mcp: answer}.client(&asked).CheckResource(t.Context(), mcp, protocol.NewSecret("fake-access"))
		if !errors.Is(err, want) || len(asked) != 1 {
			t.Errorf("%.10s: %v, want %v", answer, err, want)
		}
	}
	c := &Client{Profile: "docs", roundTrip: func(r *http.Request) (*http.Response, error) {
		challenge := `Bearer error="insufficient_scope", scope="files:read files:write", resource_metadata="https://x.example/meta"`
		return &http.Response{StatusCode: 403, Header: http.Header{"Www-Authenticate": {challenge}}, Body: http.NoBody}, nil
	}}
	err := c.CheckResource(t.Context(), mcp, protocol.NewSecret("fake-access"))
	if hint := protocol.HintOf(err); !errors.Is(err, protocol.ErrDenied) ||
		hint != "ask for it with: ccagent login --scope files:read --scope files:write docs" {
		t.Errorf("%v, hint %q", err, hint)
	}
}

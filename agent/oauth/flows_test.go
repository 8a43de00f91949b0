package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

const redirectURI = "http://127.0.0.1:1/callback"

// consent does what the browser does, and returns what the provider sends back.
func consent(t *testing.T, a *Authorization) Callback {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		t.Fatalf("no redirect, but status %d", resp.StatusCode)
	}
	return callbackOf(to.Query())
}

// openID is a client that has discovered its issuer.
func openID(t *testing.T, server *oauthtest.Server) *Client {
	t.Helper()
	c := &Client{Issuer: server.Issuer(), ClientID: server.ClientID, Scopes: []string{"openid", "offline_access"}}
	if err := c.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func signIn(t *testing.T, c *Client) (Reply, error) {
	t.Helper()
	a, err := c.Authorize(redirectURI)
	if err != nil {
		t.Fatal(err)
	}
	return c.Exchange(t.Context(), a, consent(t, a))
}

func TestSignInClaude(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client"})
	c := &Client{
		JSON:         true,
		AuthorizeURL: server.AuthorizeURL(),
		TokenURL:     server.TokenURL(),
		ProfileURL:   server.ProfileURL(),
		ClientID:     "fake-client",
		Scopes:       []string{"user:profile"},
	}
	reply, err := signIn(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if !server.Live(reply.AccessToken.Reveal()) || !server.Renewable(reply.RefreshToken.Reveal()) ||
		!slices.Equal(reply.Scopes, []string{"user:profile"}) {
		t.Errorf("reply %+v", reply)
	}
	if reply.Identity.Email != "alice@example.com" || reply.Identity.Organization != "Example" {
		t.Errorf("identity %+v", reply.Identity)
	}
	id, err := c.Identify(t.Context(), reply.AccessToken)
	if err != nil || id.Subscription != "max" || id.Name != "Alice Example" || id.Fetched.IsZero() {
		t.Errorf("identity %+v, %v", id, err)
	}
}

func TestSignInOpenID(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-secret/+"})
	for _, auth := range []Auth{ClientSecretBasic, ClientSecretPost} {
		c := openID(t, server)
		c.Auth, c.Secret = auth, protocol.NewSecret("fake-secret/+")
		reply, err := signIn(t, c)
		if err != nil {
			t.Fatalf("%s: %v", auth, err)
		}
		if reply.Identity.Email != "alice@example.com" || reply.Identity.Account != "alice-1" {
			t.Errorf("%s: identity %+v", auth, reply.Identity)
		}
		next, err := c.Refresh(t.Context(), reply.RefreshToken)
		if err != nil || !server.Live(next.AccessToken.Reveal()) {
			t.Fatalf("%s: renewal: %v", auth, err)
		}
		if err := c.Introspect(t.Context(), next.AccessToken); err != nil {
			t.Errorf("%s: introspection: %v", auth, err)
		}
		if err := c.Revoke(t.Context(), next.RefreshToken, RefreshToken); err != nil || server.Live(next.AccessToken.Reveal()) {
			t.Errorf("%s: revocation: %v", auth, err)
		}
		if err := c.Introspect(t.Context(), next.AccessToken); !errors.Is(err, protocol.ErrExpired) {
			t.Errorf("%s: introspection of a revoked token: %v", auth, err)
		}
		c.Secret = protocol.NewSecret("fake-wrong")
		if _, err := signIn(t, c); !errors.Is(err, protocol.ErrConfig) || strings.Contains(err.Error(), "fake-wrong") {
			t.Errorf("%s: a wrong secret: %v", auth, err)
		}
		c.Secret = protocol.Secret{}
		if _, err := signIn(t, c); err == nil || !strings.Contains(err.Error(), "client secret") {
			t.Errorf("%s: no secret: %v", auth, err)
		}
	}
}

func keyPair(t *testing.T) (*Key, *ecdsa.PrivateKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return key, private
}

func TestPrivateKeyJWT(t *testing.T) {
	t.Parallel()
	key, private := keyPair(t)
	server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientKey: private.Public()})
	c := openID(t, server)
	c.Auth, c.Key = PrivateKeyJWT, key
	if _, err := c.ClientCredentials(t.Context()); err != nil {
		t.Error(err)
	}
	c.Key, _ = keyPair(t)
	if _, err := c.ClientCredentials(t.Context()); !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("another key: %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "fake-private", "{}", `{"kty":"oct","k":"ZmFrZQ"}`,
		"-----BEGIN PRIVATE KEY-----\nZmFrZQ==\n-----END PRIVATE KEY-----\n", "-----BEGIN X-----\nZmFrZQ==\n-----END X-----\n"} {
		if _, err := ParseKey([]byte(in)); !errors.Is(err, protocol.ErrConfig) || strings.Contains(err.Error(), "fake") ||
			strings.Contains(err.Error(), "ZmFr") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	_, private := keyPair(t)
	server := oauthtest.New(t,
		oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-secret", AssertionKey: private.Public()})
	c := &Client{
		TokenURL: server.TokenURL(),
		ClientID: "fake-client",
		Auth:     ClientSecretBasic,
		Secret:   protocol.NewSecret("fake-secret"),
		Scopes:   []string{"jobs"},
	}
	reply, err := c.ClientCredentials(t.Context())
	if err != nil || !server.Live(reply.AccessToken.Reveal()) || !reply.RefreshToken.Empty() ||
		!slices.Equal(reply.Scopes, []string{"jobs"}) {
		t.Errorf("client credentials: %+v, %v", reply, err)
	}
	sign := func(audience string) protocol.Secret {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims, _ := json.Marshal(map[string]any{"iss": "ci", "sub": "job", "aud": audience, "exp": time.Now().Add(time.Minute).Unix()})
		signed, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		jwt, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return protocol.NewSecret(jwt + "\n")
	}
	if reply, err := c.JWTBearer(t.Context(), sign(server.TokenURL())); err != nil || !server.Live(reply.AccessToken.Reveal()) {
		t.Errorf("an assertion: %v", err)
	}
	if _, err := c.JWTBearer(t.Context(), sign("https://elsewhere.example.com")); !errors.Is(err, protocol.ErrLoginRequired) {
		t.Errorf("an assertion for somebody else: %v", err)
	}
	if _, err := c.JWTBearer(t.Context(), protocol.Secret{}); !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("no assertion: %v", err)
	}
	c.Auth, c.Secret = None, protocol.Secret{}
	if _, err := c.ClientCredentials(t.Context()); !errors.Is(err, protocol.ErrLoginRequired) {
		t.Errorf("client credentials without any: %v", err)
	}
}

// A machine's client without a configured client_auth authenticates in the way that its provider supports.
func TestMachineDefaultAuth(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		methods []string // what the provider takes
		silent  bool     // and it does not say so
		asked   bool     // the issuer's description is read before
		want    error
	}{
		{"basic", []string{"client_secret_basic"}, false, true, nil},
		{"post", []string{"client_secret_post"}, false, true, nil},
		{"both", []string{"client_secret_post", "client_secret_basic"}, false, true, nil},
		{"among others", []string{"private_key_jwt", "client_secret_post", "none"}, false, true, nil},
		{"basic, not said", []string{"client_secret_basic"}, true, true, nil},
		{"basic, not asked", []string{"client_secret_basic"}, false, false, nil},
		{"post, not asked", []string{"client_secret_post"}, false, false, nil},
		{"post, not said", []string{"client_secret_post"}, true, true, protocol.ErrConfig},
		{"neither", []string{"private_key_jwt"}, false, true, protocol.ErrConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-secret",
				AuthMethods: tt.methods, HideAuthMethods: tt.silent})
			c := &Client{ClientID: "fake-client", Secret: protocol.NewSecret("fake-secret"), Issuer: server.Issuer(),
				TokenURL: server.TokenURL()}
			if tt.asked {
				c.TokenURL = ""
				if err := c.Discover(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.ClientCredentials(t.Context()); !errors.Is(err, tt.want) || err != nil && tt.want == nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if c.Auth != None {
				t.Errorf("the client's own Auth is now %q", c.Auth)
			}
		})
	}
}

// The hint for a client that is not accepted depends on what may be wrong.
func TestAuthHints(t *testing.T) {
	t.Parallel()
	const special, plain = "fake-secret/+", "fake-secret"
	for _, tt := range []struct {
		name    string
		secret  string // the provider's
		methods []string
		raw     bool // the provider does not decode a Basic header
		auth    Auth
		ours    string
		hint    string // "": it works
	}{
		{"decoded", special, nil, false, ClientSecretBasic, special, ""},
		{"not decoded", special, nil, true, ClientSecretBasic, special, `client_auth = "client_secret_post"`},
		{"not decoded, but plain", plain, nil, true, ClientSecretBasic, plain, ""},
		{"not decoded, and what the hint says", special, nil, true, ClientSecretPost, special, ""},
		{"another secret", plain, nil, false, ClientSecretBasic, "fake-other", "ccagent login --client-secret-stdin"},
		{"another secret, with special characters", plain, nil, false, ClientSecretBasic, special,
			"ccagent login --client-secret-stdin"},
		{"another secret, posted", plain, nil, false, ClientSecretPost, special, "ccagent login --client-secret-stdin"},
		{"post alone", plain, []string{"client_secret_post"}, false, ClientSecretBasic, plain, `"client_secret_post"`},
		{"basic alone", plain, []string{"client_secret_basic"}, false, ClientSecretPost, plain, `"client_secret_basic"`},
		{"no authentication", plain, []string{"client_secret_basic"}, false, None, "",
			"set client_auth in config.toml; it supports client_secret_basic"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: tt.secret,
				AuthMethods: tt.methods, RawBasic: tt.raw})
			c := &Client{Issuer: server.Issuer(), ClientID: "fake-client", Auth: tt.auth, Secret: protocol.NewSecret(tt.ours)}
			if err := c.Discover(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := c.Refresh(t.Context(), protocol.NewSecret(server.Issue().RefreshToken))
			hint := protocol.HintOf(err)
			if (err == nil) != (tt.hint == "") || !strings.Contains(hint, tt.hint) {
				t.Errorf("got %v with the hint %q, want %q", err, hint, tt.hint)
			}
			special := strings.Contains(hint, "special characters")
			if err != nil && special != (tt.auth == ClientSecretBasic && strings.Contains(tt.ours, "/")) {
				t.Errorf("the hint speaks of special characters: %v (%q)", special, hint)
			}
			if tt.ours != "" && strings.Contains(hint, tt.ours) {
				t.Errorf("the hint shows the secret: %q", hint)
			}
		})
	}
}

// One published key that can't be used does not make the sign-in fail.
func TestUnusableKeys(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"an empty certificate": `{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"bad","x5c":[""]}`,
		"an unknown curve":     `{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA","kid":"bad"}`,
		"an unknown type":      `{"kty":"fake","kid":"bad"}`,
		"the same name":        `{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"fake-key-1"}`,
		"not a key":            `7`,
	} {
		server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client",
			ID: oauthtest.IDFault{Keys: []json.RawMessage{json.RawMessage(key)}}})
		if reply, err := signIn(t, openID(t, server)); err != nil || reply.Identity.Account != "alice-1" {
			t.Errorf("%s: %+v, %v", name, reply.Identity, err)
		}
	}
}

// If the keys can't be fetched, the error says so, with the host and what it answered.
func TestKeysAway(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]oauthtest.Fault{
		"down": {Status: 503}, "not there": {Status: 404}, "forbidden": {Status: 401}, "a page": {Body: "<html>blocked</html>"},
		"no keys": {Body: `{"keys":[]}`}, "cut off": {Body: `{"keys":[`}, "dropped": {Drop: true},
	} {
		server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client"})
		c := openID(t, server)
		server.SetFaultAt("/keys", fault)
		_, err := signIn(t, c)
		if !errors.Is(err, protocol.ErrLogin) || !strings.Contains(err.Error(), "its signing keys can't be fetched: 127.0.0.1") ||
			strings.Contains(err.Error(), "blocked") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExchangeRefuses(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client"})
	c := openID(t, server)
	fresh := func() (*Authorization, Callback) {
		a, err := c.Authorize(redirectURI)
		if err != nil {
			t.Fatal(err)
		}
		return a, consent(t, a)
	}
	a, cb := fresh()
	if _, err := c.Exchange(t.Context(), a, cb); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exchange(t.Context(), a, cb); !errors.Is(err, protocol.ErrLogin) ||
		!strings.Contains(err.Error(), "refuses the code") {
		t.Errorf("a code used twice: %v", err)
	}
	for name, spoil := range map[string]func(*Authorization, *Callback){
		"another state":  func(_ *Authorization, cb *Callback) { cb.State = "other" },
		"another issuer": func(_ *Authorization, cb *Callback) { cb.Issuer = "https://evil.example.com" },
		"no issuer":      func(_ *Authorization, cb *Callback) { cb.Issuer = "" },
		"denied":         func(_ *Authorization, cb *Callback) { cb.Error = "access_denied\x1b[2J" },
		"no code":        func(_ *Authorization, cb *Callback) { cb.Code = protocol.Secret{} },
	} {
		a, cb := fresh()
		spoil(a, &cb)
		if _, err := c.Exchange(t.Context(), a, cb); !errors.Is(err, protocol.ErrCallback) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, cb = fresh()
	a.verifier = protocol.NewSecret(random())
	if _, err := c.Exchange(t.Context(), a, cb); !errors.Is(err, protocol.ErrLogin) {
		t.Errorf("another verifier: %v", err)
	}
	for name, fault := range map[string]oauthtest.Fault{
		"400": {Status: 400, Body: `{"error":"invalid_grant","error_description":"bad"}`}, "429": {Status: 429, Body: "{}"},
		"500":  {Status: 500, Body: "<html>"},
		"html": {Body: "<html>"}, "truncated": {Truncate: true}, "dropped": {Drop: true},
		"redirect": {Status: 302, Header: map[string]string{"Location": "https://evil.example.com/"}, Body: "x"},
	} {
		fault.Times = 1
		server.SetFault(fault)
		a, cb := fresh()
		_, err := c.Exchange(t.Context(), a, cb)
		if !errors.Is(err, protocol.ErrLogin) {
			t.Errorf("%s: %v", name, err)
		}
		for _, secret := range []string{cb.Code.Reveal(), a.verifier.Reveal(), "<html>"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows %q: %v", name, secret, err)
			}
		}
	}
}

func TestIDTokenRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fault oauthtest.IDFault
		says  string
	}{
		{"expired", oauthtest.IDFault{Clock: -10 * time.Minute}, "it expired 5m"},
		{"from the future", oauthtest.IDFault{Clock: 10 * time.Minute}, "it will be issued in"},
		{"wrong key", oauthtest.IDFault{OtherKey: true}, "its signature is not the issuer's"},
		{"alg none", oauthtest.IDFault{Unsigned: true}, "not signed by an algorithm"},
		{"wrong nonce", oauthtest.IDFault{Nonce: "other"}, "its nonce is another"},
		{"wrong audience", oauthtest.IDFault{Audience: "other"}, "another client"},
		{"missing", oauthtest.IDFault{Missing: true}, "it is missing"},
		{"of another issuer", oauthtest.IDFault{Claims: map[string]any{"iss": "https://other.example"}}, "it is from another issuer"},
		{"of no issuer", oauthtest.IDFault{Claims: map[string]any{"iss": []string{"x"}}}, "it is from another issuer"},
		{"for nobody", oauthtest.IDFault{Claims: map[string]any{"aud": nil}}, "it is for another client"},
		{"for a number", oauthtest.IDFault{Claims: map[string]any{"aud": 7}}, "it is for another client"},
		{"issued to another", oauthtest.IDFault{Claims: map[string]any{"azp": "other"}}, "it was issued to another client"},
		{"without an expiry", oauthtest.IDFault{Claims: map[string]any{"exp": nil}}, "does not say when it expires"},
		{"an expiry that is none", oauthtest.IDFault{Claims: map[string]any{"exp": "tomorrow"}}, "does not say when it expires"},
		{"without a nonce", oauthtest.IDFault{Claims: map[string]any{"nonce": nil}}, "its nonce is another"},
		{"a nonce that is none", oauthtest.IDFault{Claims: map[string]any{"nonce": 7}}, "its nonce is another"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ID: tc.fault})
			_, err := signIn(t, openID(t, server))
			if !errors.Is(err, protocol.ErrLogin) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want one that says %q", err, tc.says)
			}
			if tc.fault.Clock != 0 && !strings.Contains(protocol.HintOf(err), "clock") {
				t.Errorf("hint %q says nothing of the clock", protocol.HintOf(err))
			}
		})
	}
}

// TestIDTokenSpoiled: a claim that is not needed spoils no sign-in, whatever it is.
func TestIDTokenSpoiled(t *testing.T) {
	t.Parallel()
	for name, claims := range map[string]map[string]any{
		"a number as subject":     {"sub": 4711},
		"no subject":              {"sub": nil},
		"issued at no time":       {"iat": "yesterday"},
		"not before no time":      {"nbf": map[string]any{}},
		"a hash of another type":  {"at_hash": []int{1}},
		"sources without names":   {"_claim_names": map[string]any{"groups": "src1"}},
		"sources of other types":  {"_claim_names": []string{"groups"}, "_claim_sources": 7},
		"an odd authorized party": {"azp": []string{"fake-client"}},
		"times in quotes":         {"exp": fmt.Sprint(time.Now().Unix() + 300), "iat": fmt.Sprint(time.Now().Unix())},
		"audiences of all types":  {"aud": []any{7, nil, "fake-client"}},
		"names of other types":    {"name": 7.5, "email": map[string]any{"value": "x"}, "email_verified": "yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ID: oauthtest.IDFault{Claims: claims}})
			reply, err := signIn(t, openID(t, server))
			if err != nil || reply.IDToken.Empty() {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	other := oauthtest.New(t, oauthtest.Options{ID: oauthtest.IDFault{Issuer: "https://evil.example.com"}})
	c := &Client{Issuer: other.URL()}
	if err := c.Discover(t.Context()); !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), "evil.example.com") {
		t.Errorf("another issuer: %v", err)
	}

	answers := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(404)
		}
		w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	for _, tc := range []struct{ name, path, body, says string }{
		{"nothing", "", "", "does not describe itself"},
		{"html", "/realm/.well-known/openid-configuration", "<html>fake</html>", "not a JSON object"},
		{"plain http elsewhere", "/realm/.well-known/openid-configuration",
			`{"issuer":"ISSUER","token_endpoint":"http://sso.example.com/"}`, "plain http"},
		{"a number", "/realm/.well-known/openid-configuration", `{"issuer":"ISSUER","token_endpoint":1}`, "not"},
		{"RFC 8414", "/.well-known/oauth-authorization-server/realm",
			`{"issuer":"ISSUER","token_endpoint":"https://sso.example.com/token"}`, ""},
	} {
		issuer := server.URL + "/realm"
		clear(answers)
		answers[tc.path] = strings.ReplaceAll(tc.body, "ISSUER", issuer)
		c := &Client{Issuer: issuer}
		err := c.Discover(t.Context())
		switch {
		case tc.says == "" && (err != nil || c.TokenURL != "https://sso.example.com/token"):
			t.Errorf("%s: %q, %v", tc.name, c.TokenURL, err)
		case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "fake")):
			t.Errorf("%s: %v, want one that says %q", tc.name, err, tc.says)
		}
	}
	set := &Client{Issuer: server.URL + "/realm", TokenURL: "https://own.example.com/token"}
	if err := set.Discover(t.Context()); err != nil || set.TokenURL != "https://own.example.com/token" {
		t.Errorf("a setting of one's own: %q, %v", set.TokenURL, err)
	}
}

func TestIdentifyRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		header string
		body   string
		is     error
		says   string
	}{
		{"dead token", 401, `Bearer error="invalid_token"`, "", protocol.ErrExpired, "refuses the token"},
		{"missing scope", 403, `Bearer realm="x", error="insufficient_scope", scope="user:profile"`, "", protocol.ErrDenied,
			"the scope user:profile"},
		{"scopes that are commands", 403, `Bearer error="insufficient_scope", scope="a x'; cmd; '"`, "", protocol.ErrDenied,
			`; ask for it with: ccagent login --scope a --scope 'x'\'';' --scope 'cmd;' --scope ''\'''`},
		{"missing scope in the body", 403, "", `{"error":"insufficient_scope","scope":"user:profile"}`, protocol.ErrDenied,
			"the scope user:profile"},
		{"forbidden", 403, "", "{}", protocol.ErrDenied, "does not let"},
		{"busy", 503, "", "fake-body", protocol.ErrUnavailable, "503"},
		{"html", 200, "", "<html>fake-body", protocol.ErrUnavailable, "not a JSON object"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tc.header != "" {
				w.Header().Set("WWW-Authenticate", tc.header)
			}
			w.WriteHeader(tc.status)
			w.Write([]byte(tc.body))
		}))
		_, err := (&Client{ProfileURL: server.URL}).Identify(t.Context(), protocol.NewSecret("fake-access"))
		if !errors.Is(err, tc.is) || !strings.Contains(err.Error()+"; "+protocol.HintOf(err), tc.says) ||
			strings.Contains(err.Error(), "fake-") {
			t.Errorf("%s: %v", tc.name, err)
		}
		server.Close()
	}
}

// The address that a person is shown can't be mistaken for another one. Otherwise none is shown.
func TestDeviceAddress(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ uri, whole, shown, shownWhole string }{
		{"https://a.example/device", "https://a.example/device?c=FAKE", "https://a.example/device", "https://a.example/device?c=FAKE"},
		{"https://good.example@a.example/device", "https://good.example:x@A.example/device?c=FAKE", "https://a.example/device",
			"https://A.example/device?c=FAKE"},
		{"https://good.example%2f:x@a.example/", "", "https://a.example/", ""},
		{"https://a.example:8443/@b", "https://a.example/?c=FAKE", "https://a.example:8443/@b", ""},
		{"https://a.example/", "https://b.example/?c=FAKE", "https://a.example/", ""},
		{"https://a.example/", "http://a.example/?c=FAKE", "https://a.example/", ""},
		{"https://a.example/", "https://a.example/?c=FAKE\x1b[2J", "https://a.example/", ""},
		{"https://a.example/\x1b]0;x\a", "", "", ""},
		{"https://a.example/\nhttps://b.example/", "", "", ""},
		{"https://a.example/\u202etxt", "", "", ""},
		{"https://gооgle.example/", "", "", ""}, // with two Cyrillic letters
		{"https://g%D0%BE.example/", "", "", ""},
		{`https://good.example\@a.example/`, "", "", ""},
		{"https://@/", "", "", ""},
		{"https://:443/", "", "", ""},
		{"javascript:alert(1)", "", "", ""},
		{"//a.example/", "", "", ""},
		{"", "", "", ""},
	} {
		c := &Client{DeviceURL: "https://sso.example.com/start", ClientID: "fake-client"}
		c.roundTrip = func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			json.NewEncoder(w).
				Encode(map[string]any{"device_code": "fake-device", "user_code": "FAKE", "verification_uri": tc.uri,
					"verification_uri_complete": tc.whole})
			return w.Result(), nil
		}
		d, err := c.StartDevice(t.Context())
		if tc.shown == "" {
			if !errors.Is(err, protocol.ErrLogin) {
				t.Errorf("%q: %+v, %v", tc.uri, d, err)
			}
		} else if err != nil || d.VerificationURI != tc.shown || d.VerificationURIComplete != tc.shownWhole {
			t.Errorf("%q, %q: %+v, %v", tc.uri, tc.whole, d, err)
		}
	}
}

// The subscription is found by the rules of the provider's own client.
func TestSubscription(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{}`: "",
		`{"account":null,"organization":{"organization_type":"claude_max"}}`:                    "",
		`{"account":{"has_claude_max":true,"has_claude_pro":true}}`:                             "max",
		`{"account":{"has_claude_pro":true},"organization":{"organization_type":"claude_max"}}`: "pro",
		`{"account":{},"organization":{"organization_type":"claude_enterprise"}}`:               "enterprise",
		`{"account":{},"organization":{"organization_type":"claude_team"}}`:                     "team",
		`{"account":{},"organization":{"organization_type":"claude_max"}}`:                      "max",
		`{"account":{},"organization":{}}`:                                                      "free",
		`{"account":"x"}`:                                                                       "",
	} {
		fields, err := object([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got := claudeProfile(fields).Subscription; got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client"})
	c := openID(t, server)
	begin := func() *Device {
		d, err := c.StartDevice(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		d.interval = time.Millisecond
		return d
	}
	d := begin()
	if !strings.HasPrefix(d.UserCode, "FAKE-") || !strings.HasPrefix(d.VerificationURIComplete, d.VerificationURI) {
		t.Errorf("device %+v", d)
	}
	server.Approve(d.UserCode)
	reply, err := c.PollDevice(t.Context(), d)
	if err != nil || !server.Live(reply.AccessToken.Reveal()) || reply.Identity.Email == "" {
		t.Errorf("approved: %+v, %v", reply, err)
	}
	d = begin()
	server.Deny(d.UserCode)
	if _, err := c.PollDevice(t.Context(), d); !errors.Is(err, protocol.ErrCallback) {
		t.Errorf("denied: %v", err)
	}
	d = begin()
	server.Expire(d.UserCode)
	if _, err := c.PollDevice(t.Context(), d); !errors.Is(err, protocol.ErrLogin) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %v", err)
	}
	c.DeviceURL = server.URL() + "/nowhere"
	if _, err := c.StartDevice(t.Context()); !errors.Is(err, protocol.ErrLogin) {
		t.Errorf("no such endpoint: %v", err)
	}
}

// Polling keeps to the pace that the provider asks for, and asks a failing provider again.
func TestDevicePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []string{
			`{"error":"authorization_pending"}`,
			`{"error":"slow_down"}`,
			`{"error":"authorization_pending"}`,
			"down",
			`{"access_token":"fake-access-1"}`,
		}
		var asked []time.Duration
		begun := time.Now()
		c := &Client{TokenURL: "https://sso.example.com/token", ClientID: "fake-client"}
		c.roundTrip = func(*http.Request) (*http.Response, error) {
			asked = append(asked, time.Since(begun))
			body := answers[0]
			answers = answers[1:]
			w := httptest.NewRecorder()
			switch {
			case body == "down":
				w.WriteHeader(503)
			case strings.Contains(body, "slow_down"): // as GitHub says it, with status 200
				w.WriteString(body)
			case strings.Contains(body, "error"):
				w.WriteHeader(400)
				w.WriteString(body)
			default:
				w.WriteString(body)
			}
			return w.Result(), nil
		}
		d := &Device{Expiry: begun.Add(time.Hour), interval: 5 * time.Second, code: protocol.NewSecret("fake-device")}
		reply, err := c.PollDevice(t.Context(), d)
		if err != nil || reply.AccessToken.Reveal() != "fake-access-1" {
			t.Fatalf("%+v, %v", reply, err)
		}
		want := []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second, 50 * time.Second}
		if !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
	})
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`Bearer error="insufficient_scope", scope="a b"`: "a b", `bearer scope=a`: "a", `Basic scope="a"`: "",
		`Basic realm="x", Bearer scope="a"`: "a", ``: "", `Bearer`: "", `Bearer scope="`: "",
		`Bearer realm="x,y", scope="z"`: "z",
	} {
		if got := challenge(in)["scope"]; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestEndpointsAreOurs(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*Client) error{
		"token":      func(c *Client) error { _, err := c.Refresh(t.Context(), protocol.NewSecret("fake")); return err },
		"device":     func(c *Client) error { _, err := c.StartDevice(t.Context()); return err },
		"revoke":     func(c *Client) error { return c.Revoke(t.Context(), protocol.NewSecret("fake"), AccessToken) },
		"introspect": func(c *Client) error { return c.Introspect(t.Context(), protocol.NewSecret("fake")) },
		"profile":    func(c *Client) error { _, err := c.Identify(t.Context(), protocol.NewSecret("fake")); return err },
		"discover":   func(c *Client) error { return c.Discover(t.Context()) },
	} {
		const open = "http://sso.example.com/x"
		c := &Client{TokenURL: open, DeviceURL: open, RevokeURL: open, IntrospectURL: open, ProfileURL: open, Issuer: open}
		if err := call(c); !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), "plain http") {
			t.Errorf("%s over plain http: %v", name, err)
		}
	}
}

// A provider may quote the request as it was encoded.
func TestCleanEncodedSecrets(t *testing.T) {
	t.Parallel()
	const secret = "fake/secret+1 x"
	for _, quoted := range []string{secret, "fake%2Fsecret%2B1+x", "fake%2Fsecret+1%20x"} {
		if got := clean("no "+quoted+" here", []string{secret}); got != "no [redacted] here" {
			t.Errorf("%q is shown as %q", quoted, got)
		}
	}
}

package oauth

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// describing is a client of an https issuer. The issuer describes itself with a token and a revocation endpoint, and with
// more.
func describing(t *testing.T, more map[string]any) *Client {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		said := map[string]any{"issuer": server.URL, "token_endpoint": server.URL + "/token",
			"revocation_endpoint": server.URL + "/revoke"}
		for name, value := range more {
			said[name] = value
		}
		json.NewEncoder(w).Encode(said)
	}))
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return &Client{Issuer: server.URL, CA: pool}
}

// A described endpoint that no secret may be sent to is refused by name when it is needed, and nothing else fails for it. An
// https issuer must not lead to plain http, not even on this machine, where any program may answer.
func TestDiscoverStaysSecure(t *testing.T) {
	t.Parallel()
	fake := protocol.NewSecret("fake")
	needs := map[string]func(*Client) error{
		authorizationEndpoint: func(c *Client) error { _, err := c.Authorize(redirectURI); return err },
		tokenEndpoint:         func(c *Client) error { _, err := c.Refresh(t.Context(), fake); return err },
		DeviceEndpoint:        func(c *Client) error { _, err := c.StartDevice(t.Context()); return err },
		RevocationEndpoint:    func(c *Client) error { return c.Revoke(t.Context(), fake, AccessToken) },
		introspectionEndpoint: func(c *Client) error { return c.Introspect(t.Context(), fake) },
		UserinfoEndpoint:      func(c *Client) error { _, err := c.Identify(t.Context(), fake); return err },
		registrationEndpoint:  func(c *Client) error { _, err := c.Register(t.Context(), redirectURI); return err },
		keysEndpoint:          func(c *Client) error { _, failure := c.keys(t.Context()); return failure },
	}
	for _, e := range new(Client).endpoints() {
		for name, value := range map[string]any{
			"plain": "http://127.0.0.1:9/x", "open": "http://sso.example.com/x", "relative": "/x", "a name": "sso.example.com/x",
			"a number": 1, "a list": []string{"https://sso.example.com/x"}, "with a user": "https://a:b@sso.example.com/x",
		} {
			c := describing(t, map[string]any{e.name: value})
			err := c.Discover(t.Context())
			if e.name == tokenEndpoint { // which everything needs
				if !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), e.name) {
					t.Errorf("%s, %s: %v, want ErrConfig that names it", e.name, name, err)
				}
				continue
			}
			if err != nil || c.TokenURL == "" || c.RevokeURL == "" && e.name != RevocationEndpoint {
				t.Errorf("%s, %s: the rest of the description is not taken: %v", e.name, name, err)
			}
			if *e.url != "" || c.EndpointError(e.name) == nil {
				t.Errorf("%s, %s: taken, %v", e.name, name, c.EndpointError(e.name))
			}
			if err := needs[e.name](c); !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), "the issuer's "+e.name) {
				t.Errorf("%s, %s: what needs it: %v, want ErrConfig that names it", e.name, name, err)
			}
		}
	}
}

// If the issuer's name has a placeholder, the hint must not say to copy it.
func TestDiscoverPlaceholder(t *testing.T) {
	t.Parallel()
	for name, hint := range map[string]string{
		"https://login.example.com/{tenantid}/v2.0": "put the id of your tenant there", "https://other.example.com": "exactly so",
	} {
		err := describing(t, map[string]any{"issuer": name}).Discover(t.Context())
		if !errors.Is(err, protocol.ErrConfig) || !strings.Contains(protocol.HintOf(err), hint) {
			t.Errorf("%s: %v, hint %q", name, err, protocol.HintOf(err))
		}
	}
}

// A bound client takes no endpoint at another origin. The others still work.
func TestDiscoverBound(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://elsewhere.example.com"
	for name, value := range map[string]any{
		"elsewhere": elsewhere + "/x", "another port": "https://127.0.0.1:9/x", "plain": "http://127.0.0.1:9/x", "a number": 1,
		"open": "http://elsewhere.example.com/", "with a user": "https://a:b@elsewhere.example.com/",
	} {
		for _, endpoint := range []string{RevocationEndpoint, UserinfoEndpoint} {
			c := describing(t, map[string]any{endpoint: value})
			c.Bound = []string{c.Issuer}
			if err := c.Discover(t.Context()); err != nil || c.TokenURL == "" {
				t.Errorf("%s: %v: a renewal needs the token endpoint alone", name, err)
			}
			taken := map[string]string{RevocationEndpoint: c.RevokeURL, UserinfoEndpoint: c.ProfileURL}[endpoint]
			if taken != "" || c.EndpointError(endpoint) == nil {
				t.Errorf("%s: the %s is taken to be at %q, and %v", name, endpoint, taken, c.EndpointError(endpoint))
			}
		}
	}
	c := describing(t, map[string]any{UserinfoEndpoint: elsewhere + "/x"})
	c.Bound = []string{c.Issuer, elsewhere}
	err := c.Discover(t.Context())
	if err != nil || c.ProfileURL != elsewhere+"/x" || c.EndpointError(UserinfoEndpoint) != nil || c.RevokeURL == "" {
		t.Errorf("what the person was shown: %q, %v, %v", c.ProfileURL, c.EndpointError(UserinfoEndpoint), err)
	}
	c = describing(t, map[string]any{"token_endpoint": "http://127.0.0.1:9/x"})
	c.Bound = []string{c.Issuer}
	if err := c.Discover(t.Context()); !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("the token endpoint: %v", err)
	}
}

// An issuer that a sign-in is bound to has described itself before. If nothing is there now, or something else, that is an
// outage.
func TestDiscoverGone(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]http.Handler{
		"nothing": http.NotFoundHandler(),
		"something else": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"status":"maintenance"}`))
		}),
	} {
		server := httptest.NewServer(there)
		defer server.Close()
		for _, tt := range []struct {
			bound []string
			want  error
		}{{nil, protocol.ErrConfig}, {[]string{server.URL}, protocol.ErrUnavailable}} {
			if err := (&Client{Issuer: server.URL, Bound: tt.bound}).Discover(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("%s, bound to %v: %v, want %v", name, tt.bound, err, tt.want)
			}
		}
	}
}

func TestSites(t *testing.T) {
	t.Parallel()
	c := &Client{Issuer: "https://Accounts.example.com:443", AuthorizeURL: "https://accounts.example.com/auth",
		TokenURL: "https://tokens.example.com/t", RevokeURL: "https://tokens.example.com/r", KeysURL: "https://keys.example.com/"}
	var got []string
	for _, s := range c.Sites() {
		got = append(got, s.Origin+": "+strings.Join(s.Endpoints, ", "))
	}
	want := []string{"https://accounts.example.com: issuer, sign-in page",
		"https://tokens.example.com: token endpoint, revocation endpoint"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An https device endpoint must not send a person to a page of plain http.
func TestDeviceStaysSecure(t *testing.T) {
	t.Parallel()
	for uri, good := range map[string]bool{
		"https://sso.example.com/device": true, "http://sso.example.com/device": false, "http://127.0.0.1/device": false,
	} {
		c := &Client{DeviceURL: "https://sso.example.com/start", ClientID: "fake-client"}
		c.roundTrip = func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			json.NewEncoder(w).Encode(map[string]any{"device_code": "fake-device", "user_code": "FAKE", "verification_uri": uri})
			return w.Result(), nil
		}
		if _, err := c.StartDevice(t.Context()); good != (err == nil) || err != nil && !errors.Is(err, protocol.ErrLogin) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// Reach sends no configured header, because a secret may be in it.
func TestReachSendsNoSecret(t *testing.T) {
	t.Parallel()
	c := &Client{TokenURL: "https://sso.example.com/token", Headers: map[string]string{"X-Gateway-Key": "fake-key"}}
	reached := false
	c.roundTrip = func(r *http.Request) (*http.Response, error) {
		if reached = true; r.Header.Get("X-Gateway-Key") != "" {
			t.Error("the header was sent")
		}
		return httptest.NewRecorder().Result(), nil
	}
	if _, err := c.Reach(t.Context()); err != nil || !reached {
		t.Error(err)
	}
}

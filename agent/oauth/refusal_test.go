package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// Every endpoint sorts what it is answered by the same rule.
func TestRefusalsElsewhere(t *testing.T) {
	t.Parallel()
	access := protocol.NewSecret("fake-access-sent")
	identify := func(ctx context.Context, c *Client) error { _, err := c.Identify(ctx, access); return err }
	introspect := func(ctx context.Context, c *Client) error { return c.Introspect(ctx, access) }
	revoke := func(ctx context.Context, c *Client) error { return c.Revoke(ctx, access, AccessToken) }
	device := func(ctx context.Context, c *Client) error { _, err := c.StartDevice(ctx); return err }
	discover := func(ctx context.Context, c *Client) error { return (&Client{Issuer: c.Issuer}).Discover(ctx) }
	machine := func(ctx context.Context, c *Client) error {
		robot := &Client{TokenURL: c.TokenURL, ClientID: "x", Auth: ClientSecretPost, Secret: protocol.NewSecret("fake-secret")}
		_, err := robot.ClientCredentials(ctx)
		return err
	}
	assert := func(ctx context.Context, c *Client) error { _, err := c.JWTBearer(ctx, access); return err }
	says := func(status int, body string) oauthtest.Fault { return oauthtest.Fault{Status: status, Body: body} }
	const description = "/.well-known/openid-configuration"
	const page = "<html>blocked</html>"
	for _, tt := range []struct {
		name string
		path string
		call func(context.Context, *Client) error
		said oauthtest.Fault
		want error // nil: it is done
	}{
		{"a dead token", "/userinfo", identify, says(401, ""), protocol.ErrExpired},
		{"a dead token by its code", "/userinfo", identify, says(400, `{"error":"invalid_token"}`), protocol.ErrExpired},
		{"a dead token as a success", "/userinfo", identify, says(200, `{"ok":false,"error":"invalid_auth"}`), protocol.ErrExpired},
		{"a guard before the profile", "/userinfo", identify, says(403, page), protocol.ErrUnavailable},
		{"a page before the profile", "/userinfo", identify, says(401, page), protocol.ErrUnavailable},
		{"a profile that is not ours to see", "/userinfo", identify, says(403, `{"error":"access_denied"}`), protocol.ErrDenied},
		{"a busy profile", "/userinfo", identify, says(403, `{"error":"rate_limit_exceeded"}`), protocol.ErrUnavailable},

		{"introspection for others", "/introspect", introspect, says(401, ""), protocol.ErrConfig},
		{"introspection denied", "/introspect", introspect, says(403, `{"error":"access_denied"}`), protocol.ErrConfig},
		{"introspection as a success", "/introspect", introspect, says(200, `{"error":"invalid_client"}`), protocol.ErrConfig},
		{"a guard before introspection", "/introspect", introspect, says(403, page), protocol.ErrUnavailable},

		{"revoked before", "/revoke", revoke, says(400, `{"error":"invalid_token"}`), nil},
		{"not to be revoked", "/revoke", revoke, says(400, `{"error":"unsupported_token_type"}`), protocol.ErrConfig},
		{"not revoked, as a success", "/revoke", revoke, says(200, `{"ok":false,"error":"not_allowed"}`), protocol.ErrExpired},
		{"a guard before revocation", "/revoke", revoke, says(403, page), protocol.ErrUnavailable},

		{"no device flow", "/device", device, says(200, `{"error":"device_flow_disabled"}`), protocol.ErrConfig},
		{"no device flow for us", "/device", device, says(403, `{"error":"go_away"}`), protocol.ErrConfig},
		{"a guard before the device flow", "/device", device, says(403, page), protocol.ErrLogin},

		{"no description", description, discover, says(404, page), nil}, // it is in the other place
		{"a forbidden description", description, discover, says(403, page), protocol.ErrUnavailable},
		{"a description too often", description, discover, says(429, ""), protocol.ErrUnavailable},
		{"a description too early", description, discover, says(425, ""), protocol.ErrUnavailable},

		{"a machine that is refused", "", machine, says(400, `{"error":"go_away"}`), protocol.ErrConfig},
		{"a machine's scope", "", machine, says(400, `{"error":"invalid_scope"}`), protocol.ErrConfig},
		{"an assertion that is refused", "", assert, says(400, `{"error":"go_away"}`), protocol.ErrLoginRequired},
		{"an assertion's target", "", assert, says(400, `{"error":"invalid_target"}`), protocol.ErrConfig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := oauthtest.New(t, oauthtest.Options{})
			c := openID(t, server)
			if tt.path == "" {
				server.SetFault(tt.said)
			} else {
				server.SetFaultAt(tt.path, tt.said)
			}
			err := tt.call(t.Context(), c)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "blocked") || strings.Contains(err.Error(), "fake-access-sent")) {
				t.Errorf("the error quotes too much: %v", err)
			}
		})
	}
}

// The device flow is over with the first answer that no waiting mends, and goes on at every other.
func TestDeviceRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error // nil: it asks again
		says   string
	}{
		{"denied", 400, `{"error":"access_denied"}`, protocol.ErrCallback, "access_denied"},
		{"declined", 400, `{"error":"authorization_declined"}`, protocol.ErrCallback, "access_denied"},
		{"denied in another spelling", 200, `{"error":"AccessDenied"}`, protocol.ErrCallback, "access_denied"},
		{"expired", 400, `{"error":"expired_token"}`, protocol.ErrLogin, "expired before it was entered"},
		{"another code", 400, `{"error":"bad_verification_code"}`, protocol.ErrLogin, "bad_verification_code"},
		{"GitHub's other code", 200, `{"error":"incorrect_device_code"}`, protocol.ErrLogin, "refuses the code"},
		{"used before", 400, `{"error":"invalid_grant"}`, protocol.ErrLogin, "refuses the code"},
		{"no more than 401", 401, ``, protocol.ErrLogin, "401"},
		{"another client", 200, `{"error":"incorrect_client_credentials"}`, protocol.ErrConfig, "incorrect_client_credentials"},
		{"switched off", 400, `{"error":"device_flow_disabled"}`, protocol.ErrConfig, "device_flow_disabled"},

		{"pending", 400, `{"error":"authorization_pending"}`, nil, ""},
		{"Google's pending", 428, `{"error":"authorization_pending"}`, nil, ""},
		{"slow down", 403, `{"error":"slow_down"}`, nil, ""},
		{"a guard", 403, `<html>blocked</html>`, nil, ""},
		{"a failure", 502, `<html>blocked</html>`, nil, ""},
		{"a failure that quotes", 502, `{"error":"access_denied_elsewhere"}`, nil, ""},
		{"too many", 429, ``, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := &Client{TokenURL: "https://sso.example.com/token", ClientID: "fake-client"}
				c.roundTrip = func(*http.Request) (*http.Response, error) {
					w := httptest.NewRecorder()
					if asked++; asked == 1 {
						w.WriteHeader(tt.status)
						w.WriteString(tt.body)
					} else {
						w.WriteString(`{"access_token":"fake-access-1"}`)
					}
					return w.Result(), nil
				}
				d := &Device{Expiry: time.Now().Add(time.Hour), interval: 5 * time.Second, code: protocol.NewSecret("fake-device")}
				_, err := c.PollDevice(t.Context(), d)
				if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v, want %v that says %q", err, tt.want, tt.says)
				}
				if want := map[bool]int{true: 2, false: 1}[tt.want == nil]; asked != want {
					t.Errorf("asked %d times, want %d", asked, want)
				}
			})
		})
	}
}

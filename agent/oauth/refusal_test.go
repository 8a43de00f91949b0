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

// All endpoints classify their answers by the same rule.
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

		{"a dead token as a ban", "/userinfo", identify, says(403, `{"error":"invalid_token"}`), protocol.ErrExpired},

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
		{"something else than a description", description, discover, says(200, `{"status":"maintenance"}`), nil},
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

// What providers, and the gateways in front of them, answer to a refresh token in formats of their own.
func TestRefusalShapes(t *testing.T) {
	t.Parallel()
	login, config, later := protocol.ErrLoginRequired, protocol.ErrConfig, protocol.ErrUnavailable
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error
		dead   bool   // the token itself was refused
		says   string // in what is shown
	}{
		{"Google", 400, `{"error":"invalid_grant","error_description":"Token has been expired."}`, login, true, "expired"},
		{"Google's rule", 400, `{"error":"invalid_grant","error_subtype":"invalid_rapt"}`, login, false, "invalid_grant"},
		{"Entra", 400, `{"error":"invalid_grant","error_description":"AADSTS700082"}`, login, true, "AADSTS"},
		{"Entra's bad token", 400, `{"error":"invalid_grant","suberror":"bad_token"}`, login, true, ""},
		{"Entra's rule", 400, `{"error":"invalid_grant","error_codes":[50076],"suberror":"basic_action"}`, login, false, ""},
		{"Entra's consent", 400, `{"error":"invalid_grant","suberror":"consent_required"}`, login, false, ""},
		{"Entra's client", 401, `{"error":"invalid_client","error_codes":[7000215]}`, config, false, ""},
		{"Auth0", 403, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`, login, true, ""},
		{"Auth0's client", 403, `{"error":"unauthorized_client","error_description":"Grant type 'refresh_token' not allowed."}`,
			config, false, ""},
		{"Okta", 401, `{"errorCode":"E0000011","errorSummary":"Invalid token provided"}`, login, false, "Invalid token provided"},
		{"Atlassian", 403, `{"error":"unauthorized_client","error_description":"refresh_token is invalid"}`, login, true,
			"(403 unauthorized_client): refresh_token is invalid"},
		{"Zoom", 400, `{"reason":"Invalid Token!","error":"invalid_request"}`, login, true, "Invalid Token!"},
		{"Salesforce", 400, `{"error":"inactive user","error_description":"user is inactive"}`, login, false, "inactive user"},
		{"Salesforce's app", 400, `{"error":"invalid_app_access"}`, login, false, ""},
		{"Salesforce's client", 400, `{"error":"invalid_client_credentials"}`, config, false, ""},
		{"Twitch", 400, `{"status":400,"message":"Invalid refresh token"}`, login, true, "(400 Bad Request): Invalid"},
		{"Twitch with an error", 400, `{"error":"Bad Request","status":400,"message":"Invalid refresh token"}`, login, true, ""},
		{"Twitch's client", 400, `{"status":400,"message":"invalid client"}`, config, false, ""},
		{"HubSpot", 400, `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}`, login, true, ""},
		{"HubSpot without words", 400, `{"status":"BAD_REFRESH_TOKEN"}`, login, true, ""},
		{"HubSpot's client", 400, `{"status":"BAD_CLIENT_ID"}`, config, false, ""},
		{"Fitbit", 400, `{"errors":[{"errorType":"invalid_grant","message":"gone"}],"success":false}`, login, true, "gone"},
		{"Cognito", 400, `{"__type":"NotAuthorizedException","message":"Refresh Token has been revoked"}`, login, true, ""},
		{"an exception that passes", 400, `{"error":"TooManyRequestsException"}`, later, false, ""},
		{"Slack's move", 200, `{"ok":false,"error":"team_added_to_org"}`, later, false, ""},
		{"Dropbox", 401, `{"error_summary":"expired_access_token/..","error":{".tag":"expired_access_token"}}`, login, false, ""},
		{"Laravel", 422, `{"message":"The refresh token is invalid."}`, login, true, ""},
		{"GitLab", 401, `{"message":"401 Unauthorized"}`, login, false, ""},
		{"OpenAI's country", 403, `{"error":{"code":"unsupported_country","type":"request_forbidden"}}`, login, false, ""},
		{"words for a 403", 403, `{"error":"Forbidden","message":"Refresh token expired"}`, login, true, "Refresh token expired"},

		{"a router's error", 404, `{"error":{"type":"not_found_error","message":"blocked"}}`, later, false, "nothing at"},
		{"a realm that is away", 404, `{"error":"Realm does not exist"}`, later, false, "nothing at that address"},
		{"a guard in words", 403, `{"error":"Request blocked","support_id":"1"}`, later, false, "403 Forbidden"},
		{"a guard's number", 403, `{"error":{"code":403,"message":"blocked"}}`, later, false, ""},
		{"a guard's problem", 403, `{"type":"https://example.com/waf","title":"Denied","status":403}`, later, false, ""},
		{"a gateway in words", 400, `{"message":"Bad Request"}`, later, false, ""},
		{"a gateway in words, with its number", 400, `{"error":"400 Bad Request"}`, later, false, ""},
		{"an empty 400", 400, ``, later, false, ""},
		{"a network's login", 511, ``, later, false, "something between"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := answering(t, tt.status, nil, tt.body).Refresh(t.Context(), protocol.NewSecret(sent))
			var failure *Error
			if !errors.As(err, &failure) || !errors.Is(err, tt.want) || failure.Dead != tt.dead {
				t.Fatalf("got %v (dead %v), want %v (dead %v)", err, failure.Dead, tt.want, tt.dead)
			}
			if said := protocol.Says(err); !strings.Contains(said, tt.says) || strings.Contains(said, "blocked") {
				t.Errorf("shown is %q, want %q", said, tt.says)
			}
		})
	}
}

// What a provider says of our client tells a secret that has expired from a wrong one, and both from a client that is unknown.
func TestRefusedClient(t *testing.T) {
	t.Parallel()
	const again, isPublic = "ccagent login --client-secret-stdin gw", Auth("")
	for _, tt := range []struct {
		name       string
		status     int
		code, text string
		auth       Auth
		secret     string
		says, hint string
	}{
		{"Entra, expired", 401, "invalid_client", "AADSTS7000222: The provided client secret keys for app 'x' are expired.",
			ClientSecretPost, "", "the client secret has expired (401 invalid_client)", "make a new secret for this client"},
		{"expired in words", 401, "invalid_client", "Client secret expired", ClientSecretBasic, "", "the client secret has expired",
			again},
		{"expired in a code", 400, "client_secret_expired", "", ClientSecretPost, "", "the client secret has expired", again},
		{"Entra, wrong", 401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", ClientSecretPost, "",
			"the client secret is not that of this client", again},
		{"Entra, the ID of a secret", 401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", ClientSecretPost,
			"0a1b2c3d-0000-4000-8000-0123456789ab", "not that of this client", "looks like the ID of a secret"},
		{"Entra, unknown", 400, "unauthorized_client", "AADSTS700016: Application with identifier 'x' was not found", ClientSecretPost,
			"", "the provider has no such client", "client_id in config.toml"},
		{"Entra, a longer number", 400, "unauthorized_client", "AADSTS7000169: fake", isPublic, "", "refuses our request", ""},
		{"Entra, confidential", 401, "invalid_client", "AADSTS7000218: The request body must contain client_secret", isPublic, "",
			"wants this client to authenticate", "client_auth"},
		{"Entra, public", 401, "invalid_client", "AADSTS700025: Client is public", ClientSecretPost, "", "as a public one",
			`client_auth = "none"`},
		{"Entra, switched off", 401, "unauthorized_client", "AADSTS7000112: Application is disabled.", ClientSecretPost, "",
			"switched off", "switch it on"},
		{"Keycloak, wrong", 401, "unauthorized_client", "Invalid client or Invalid client credentials", ClientSecretBasic, "",
			"refuses our request (401 unauthorized_client)", again},
		{"Google, wrong", 401, "invalid_client", "The provided client secret is invalid.", ClientSecretPost, "",
			"refuses our request", again},
		{"GitHub, wrong", 200, "incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.",
			ClientSecretPost, "", "refuses our request", again},
		{"a grant that is not allowed", 400, "unauthorized_client", "", isPublic, "", "refuses our request",
			"have its grant allowed there"},
	} {
		c := answering(t, tt.status, nil, `{"error":"`+tt.code+`","error_description":"`+tt.text+`"}`)
		c.Profile, c.ClientID, c.Auth, c.Secret = "gw", "fake-client", tt.auth, protocol.NewSecret("fakesecret"+tt.secret)
		if tt.secret != "" {
			c.Secret = protocol.NewSecret(tt.secret)
		}
		_, err := c.Refresh(t.Context(), protocol.NewSecret(sent))
		if !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), tt.says) ||
			!strings.Contains(protocol.HintOf(err), tt.hint) {
			t.Errorf("%s: %v\nhint: %s", tt.name, err, protocol.HintOf(err))
		}
	}
}

// A refusal is recognized by each of the headers that may announce it.
func TestRefusalHeaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status      int
		name, value string
		body        string
	}{
		{200, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8", "error=bad_refresh_token"},
		{400, "Content-Type", "text/html", `{"error":"invalid_grant"}`},
		{401, "WWW-Authenticate", `Bearer error="invalid_token"`, ""},
		{401, "WWW-Authenticate", `Basic realm="a, b=c", Bearer realm="x", error="invalid_token"`, ""},
	} {
		c := answering(t, tt.status, map[string]string{tt.name: tt.value}, tt.body)
		_, err := c.Refresh(t.Context(), protocol.NewSecret(sent))
		var failure *Error
		if !errors.As(err, &failure) || !errors.Is(err, protocol.ErrLoginRequired) || !failure.Dead {
			t.Errorf("%s %s: %v", tt.name, tt.value, err)
		}
	}
}

// Any success of a revocation will do, except a web page of somebody else's.
func TestRevoked(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]error{
		"": nil, "OK": nil, `{}`: nil, `{"ok":true}`: nil, "<html>sign in to this network</html>": protocol.ErrUnavailable,
	} {
		c := answering(t, 200, map[string]string{"Content-Type": "text/html; charset=utf-8"}, body)
		c.RevokeURL = c.TokenURL
		if err := c.Revoke(t.Context(), protocol.NewSecret(sent), RefreshToken); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", body, err, want)
		}
	}
}

// A renewal keeps the rotated token even if the answer is not in the proper form.
func TestOddReplies(t *testing.T) {
	t.Parallel()
	const whole = `{"access_token":"fake-access-1","expires_in":3600,"refresh_token":"fake-refresh-2","scope":"a b"}`
	for kind, body := range map[string]string{
		"application/x-www-form-urlencoded": "access_token=fake-access-1&expires_in=3600&refresh_token=fake-refresh-2&scope=a+b",
		"application/json":                  "\ufeff" + whole,
		"text/html":                         " " + whole,
	} {
		c := answering(t, 200, map[string]string{"Content-Type": kind}, body)
		reply, err := c.Refresh(t.Context(), protocol.NewSecret(sent))
		if err != nil || reply.AccessToken.Reveal() != "fake-access-1" || reply.RefreshToken.Reveal() != "fake-refresh-2" ||
			reply.Expiry.Sub(reply.Issued).Round(time.Second) != time.Hour || len(reply.Scopes) != 2 {
			t.Errorf("%s: %+v, %v", kind, reply, err)
		}
	}
}

// The device flow ends with the first answer that waiting does not help against, and goes on after every other.
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
		{"Twitch's other code", 400, `{"status":400,"message":"invalid device code"}`, protocol.ErrLogin, "refuses the code"},
		{"switched off", 400, `{"error":"device_flow_disabled"}`, protocol.ErrConfig, "device_flow_disabled"},

		{"pending", 400, `{"error":"authorization_pending"}`, nil, ""},
		{"Google's pending", 428, `{"error":"authorization_pending"}`, nil, ""},
		{"Twitch's pending", 400, `{"status":400,"message":"authorization_pending"}`, nil, ""},
		{"pending without a word", 400, ``, nil, ""},
		{"a network's login page", 200, `<html>blocked</html>`, nil, ""},
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

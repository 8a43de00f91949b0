package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

const sent = "fake-refresh-sent"

// answering is a client of an endpoint that gives the same answer to every request.
func answering(t *testing.T, status int, header map[string]string, body string) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &Client{TokenURL: server.URL + "/token", ClientID: "fake-client"}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour, ClientID: "fake-client"})
	client := &Client{TokenURL: server.TokenURL(), ClientID: "fake-client", JSON: true}
	signIn := server.Issue()
	before := time.Now()
	reply, err := client.Refresh(t.Context(), protocol.NewSecret(signIn.RefreshToken))
	if err != nil {
		t.Fatal(err)
	}
	if !server.Live(reply.AccessToken.Reveal()) || !server.Renewable(reply.RefreshToken.Reveal()) {
		t.Error("the reply's tokens are not those of the server")
	}
	if reply.Issued.Before(before.Add(-time.Millisecond)) || reply.Expiry.Sub(reply.Issued).Round(time.Second) != time.Hour {
		t.Errorf("issued %v, expiry %v: not an hour from now", reply.Issued, reply.Expiry)
	}
	if got := strings.Join(reply.Scopes, ","); got != "user:inference,user:profile" {
		t.Errorf("scopes %q", got)
	}

	_, err = client.Refresh(t.Context(), protocol.NewSecret(signIn.RefreshToken))
	if !errors.Is(err, protocol.ErrLoginRequired) {
		t.Errorf("a spent refresh token: %v, want ErrLoginRequired", err)
	}
	client.ClientID = "fake-other"
	_, err = client.Refresh(t.Context(), reply.RefreshToken)
	if !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("an unknown client: %v, want ErrConfig", err)
	}
	if got := server.Counts(); got.Requests != 3 || got.Refreshes != 1 || got.Reuses != 1 {
		t.Errorf("the server saw %+v", got)
	}
}

// TestRequest checks the request as the provider gets it.
func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, `{"access_token":"fake-access-1"}`)
	}))
	defer server.Close()
	client := &Client{TokenURL: server.URL + "/token", ClientID: "fake-client", JSON: true, UserAgent: "ccagent/1.2",
		Headers: map[string]string{"anthropic-beta": "oauth-2025-04-20"}}
	if _, err := client.Refresh(t.Context(), protocol.NewSecret(sent)); err != nil {
		t.Fatal(err)
	}
	if len(body) != 3 || body["grant_type"] != "refresh_token" || body["refresh_token"] != sent ||
		body["client_id"] != "fake-client" {
		t.Errorf("body %v", body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "User-Agent": "ccagent/1.2",
		"Anthropic-Beta": "oauth-2025-04-20", "Accept": "application/json"} {
		if got.Header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if got.Method != http.MethodPost || !got.Close {
		t.Errorf("%s, close %v: want a POST on a connection of its own", got.Method, got.Close)
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	const ok = `"access_token":"fake-access-1"`
	tests := []struct {
		name     string
		body     string
		lifetime time.Duration // wanted; 0: an error is wanted
		refresh  string        // wanted
		scopes   int           // wanted
		grant    time.Duration // wanted
	}{
		{
			name:     "all",
			body:     `{` + ok + `,"refresh_token":"fake-refresh-2","expires_in":3600,"scope":"a b","refresh_token_expires_in":7200}`,
			lifetime: time.Hour,
			refresh:  "fake-refresh-2",
			scopes:   2,
			grant:    2 * time.Hour,
		},
		{name: "nothing but the token", body: `{` + ok + `}`, lifetime: DefaultLifetime},
		{name: "nulls", body: `{` + ok + `,"refresh_token":null,"expires_in":null,"scope":null}`, lifetime: DefaultLifetime},
		{name: "lifetime as a string", body: `{` + ok + `,"expires_in":"28800"}`, lifetime: 8 * time.Hour},
		{name: "lifetime with a fraction", body: `{` + ok + `,"expires_in":0.25}`, lifetime: 250 * time.Millisecond},
		{name: "lifetime of words", body: `{` + ok + `,"expires_in":"soon"}`, lifetime: DefaultLifetime},
		{name: "lifetime zero", body: `{` + ok + `,"expires_in":0}`, lifetime: DefaultLifetime},
		{name: "lifetime negative", body: `{` + ok + `,"expires_in":-5}`, lifetime: DefaultLifetime},
		{name: "lifetime not a number", body: `{` + ok + `,"expires_in":"NaN"}`, lifetime: DefaultLifetime},
		{
			name:     "lifetime an object, rotated",
			body:     `{` + ok + `,"expires_in":{},"refresh_token":"fake-refresh-2"}`,
			lifetime: DefaultLifetime,
			refresh:  "fake-refresh-2",
		},
		{name: "lifetime beyond all time", body: `{` + ok + `,"expires_in":1e300}`, lifetime: maxLifetime},
		{name: "lifetime beyond numbers", body: `{` + ok + `,"expires_in":1e999}`, lifetime: maxLifetime},
		{name: "scope a list", body: `{` + ok + `,"scope":["a","b c",7,""]}`, lifetime: DefaultLifetime, scopes: 3},
		{name: "scope with commas", body: `{` + ok + `,"scope":"repo,gist"}`, lifetime: DefaultLifetime, scopes: 2},
		{name: "scope of a wrong type", body: `{` + ok + `,"scope":{"a":true}}`, lifetime: DefaultLifetime},
		{name: "scopes, as Bitbucket has it", body: `{` + ok + `,"scopes":"a b"}`, lifetime: DefaultLifetime, scopes: 2},
		{name: "scope a number", body: `{` + ok + `,"scope":7}`, lifetime: DefaultLifetime},
		{name: "keys in another case are other keys", body: `{` + ok + `,"Expires_In":5}`, lifetime: DefaultLifetime},

		{name: "empty", body: ``},
		{name: "null", body: `null`},
		{name: "array", body: `[{` + ok + `}]`},
		{name: "string", body: `"fake-access-1"`},
		{name: "truncated", body: `{` + ok + `,"refresh_tok`},
		{name: "html", body: `<!doctype html><title>Login</title>`},
		{name: "two objects", body: `{` + ok + `}{}`},
		{name: "no access token", body: `{"token_type":"Bearer"}`},
		{name: "no access token, rotated", body: `{"refresh_token":"fake-refresh-2"}`, refresh: "fake-refresh-2"},
		{name: "empty access token", body: `{"access_token":""}`},
		{name: "access token a number", body: `{"access_token":42}`},
		{name: "access token an object", body: `{"access_token":{}}`},
		{name: "access token with a newline", body: `{"access_token":"fake\nX: y"}`},
		{name: "access token with a blank", body: `{"access_token":"fake access"}`},
		{name: "access token with an escape", body: `{"access_token":"fake\u001b[2J"}`},
		{name: "access token beyond ASCII", body: `{"access_token":"fäke"}`},
		{name: "access token too long", body: `{"access_token":"` + strings.Repeat("x", protocol.MaxToken+1) + `"}`},
		{name: "refresh token of a wrong type", body: `{` + ok + `,"refresh_token":[]}`},
		{name: "refresh token with a newline", body: `{` + ok + `,"refresh_token":"fake\n"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reply, err := answering(t, 200, nil, tt.body).Refresh(t.Context(), protocol.NewSecret(sent))
			if reply.RefreshToken.Reveal() != tt.refresh {
				t.Errorf("refresh token %q, want %q", reply.RefreshToken.Reveal(), tt.refresh)
			}
			if tt.lifetime == 0 {
				var failure *Error
				if !errors.As(err, &failure) || !errors.Is(err, protocol.ErrUnavailable) || !failure.Ambiguous {
					t.Errorf("got %v, want ErrUnavailable and ambiguous", err)
				}
				if !reply.AccessToken.Empty() {
					t.Error("an access token beside an error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := reply.Expiry.Sub(reply.Issued)
			if diff := got - tt.lifetime; diff > 0 || diff < -time.Millisecond { // the expiry is cut to a millisecond
				t.Errorf("lifetime %v, want %v", got, tt.lifetime)
			}
			if len(reply.Scopes) != tt.scopes {
				t.Errorf("scopes %q, want %d", reply.Scopes, tt.scopes)
			}
			if reply.GrantExpiry.IsZero() != (tt.grant == 0) ||
				tt.grant != 0 && reply.GrantExpiry.Sub(reply.Issued).Round(time.Second) != tt.grant {
				t.Errorf("grant's expiry %v, want %v from now", reply.GrantExpiry, tt.grant)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	login, config, later := protocol.ErrLoginRequired, protocol.ErrConfig, protocol.ErrUnavailable
	date := time.Now().Add(30 * time.Minute).UTC().Format(http.TimeFormat)
	tests := []struct {
		name   string
		status int
		header map[string]string
		body   string
		want   error
		shown  string // part of the message
		dead   bool   // the token itself was refused
		retry  time.Duration
		slack  time.Duration // of a date, from which the test's own time is missing
	}{
		{
			name:   "invalid_grant",
			status: 400,
			body:   `{"error":"invalid_grant","error_description":"no such token"}`,
			want:   login,
			dead:   true,
			shown:  "invalid_grant: no such token",
		},
		{name: "invalid_grant 401", status: 401, body: `{"error":"invalid_grant"}`, want: login, dead: true},
		{name: "invalid_grant 403", status: 403, body: `{"error":"invalid_grant"}`, want: login, dead: true},
		{name: "invalid_grant 404", status: 404, body: `{"error":"invalid_grant"}`, want: login, dead: true},
		{name: "invalid_grant 422", status: 422, body: `{"error":"invalid_grant"}`, want: login, dead: true},
		{name: "invalid_grant in capitals", status: 400, body: `{"error":"INVALID_GRANT"}`, want: login, dead: true},
		{name: "invalid_grant in one word", status: 400, body: `{"error":"InvalidGrant"}`, want: login, dead: true},
		{
			name:   "invalid_grant as the type",
			status: 400,
			body:   `{"type":"error","error":{"type":"invalid_grant","message":"gone"}}`,
			want:   login,
			dead:   true,
			shown:  "gone",
		},
		{name: "invalid_grant in a list", status: 400, body: `{"errors":["invalid_grant"]}`, want: login, dead: true},
		{
			name:   "invalid_grant in a list of objects",
			status: 400,
			body:   `{"error":[{"code":"invalid_grant","message":"gone"}]}`,
			want:   login,
			dead:   true,
			shown:  "gone",
		},
		{
			name:   "invalid_grant in a challenge",
			status: 401,
			header: map[string]string{"WWW-Authenticate": `Bearer error="invalid_grant", error_description="gone"`},
			want:   login,
			dead:   true,
			shown:  "gone",
		},
		{name: "invalid_grant in a rate limit", status: 429, body: `{"error":"invalid_grant"}`, want: later},
		{name: "invalid_grant in a failure", status: 502, body: `{"error":"invalid_grant"}`, want: later},
		{name: "invalid_grant too early", status: 425, body: `{"error":"invalid_grant"}`, want: later},

		{
			name:   "GitHub",
			status: 200,
			body:   `{"error":"bad_refresh_token","error_description":"gone"}`,
			want:   login,
			dead:   true,
			shown:  "200 bad_refresh_token: gone",
		},
		{name: "GitHub's client", status: 200, body: `{"error":"incorrect_client_credentials"}`, want: config},
		{name: "Slack", status: 200, body: `{"ok":false,"error":"invalid_refresh_token"}`, want: login, dead: true},
		{name: "Slack's rate limit", status: 200, body: `{"ok":false,"error":"ratelimited"}`, want: later},
		{
			name:   "a success with empty tokens",
			status: 200,
			body:   `{"access_token":"","refresh_token":null,"error":"token_revoked"}`,
			want:   login,
			dead:   true,
		},
		{
			name:   "OpenAI",
			status: 401,
			body:   `{"error":{"code":"refresh_token_reused","type":"invalid_request_error","message":"it was used"}}`,
			want:   login,
			dead:   true,
			shown:  "401 refresh_token_reused: it was used",
		},
		{
			name:   "OpenAI without a code",
			status: 400,
			body:   `{"error":{"code":null,"type":"invalid_request_error","message":"bad"}}`,
			want:   config,
			shown:  "bad",
		},
		{
			name:   "Supabase",
			status: 400,
			body:   `{"code":400,"error_code":"refresh_token_not_found","message":"gone"}`,
			want:   login,
			dead:   true,
			shown:  "gone",
		},
		{name: "a numbered code", status: 400, body: `{"error":{"code":190,"type":"OAuthException","message":"gone"}}`, want: login},
		{name: "invalid_token", status: 401, body: `{"error":"invalid_token"}`, want: login, dead: true},
		{name: "interaction_required", status: 400, body: `{"error":"interaction_required"}`, want: login},
		{name: "consent_required", status: 400, body: `{"error":"consent_required"}`, want: login},
		{name: "login_required", status: 400, body: `{"error":"login_required"}`, want: login},
		{name: "access_denied", status: 403, body: `{"error":"access_denied"}`, want: login},
		{name: "invalid_target", status: 400, body: `{"error":"invalid_target"}`, want: login}, // a renewal names none
		{name: "invalid_scope", status: 400, body: `{"error":"invalid_scope"}`, want: login},
		{name: "a code of its own", status: 400, body: `{"error":"go_away"}`, want: login, shown: "400 go_away"},
		{name: "another token than ours", status: 403, body: `{"error":"invalid_csrf_token"}`, want: login},
		{name: "a sentence", status: 400, body: `{"error":"Refresh token has expired"}`, want: login, dead: true},
		{name: "an empty 401", status: 401, want: login, shown: "401 Unauthorized"},
		{name: "an empty 401 with a type", status: 401, header: map[string]string{"Content-Type": "text/html"}, want: login},
		{name: "a 401 in JSON", status: 401, body: `{"message":"Unauthorized"}`, want: login},
		{name: "a 401 in words", status: 401, body: `{"error":"Unauthorized"}`, want: login},

		{name: "invalid_client", status: 401, body: `{"error":"invalid_client"}`, want: config, shown: "401 invalid_client"},
		{name: "unauthorized_client", status: 400, body: `{"error":"unauthorized_client"}`, want: config},
		{name: "invalid_request", status: 400, body: `{"error":"invalid_request"}`, want: config},
		{
			name:   "invalid_request_error",
			status: 400,
			body:   `{"type":"error","error":{"type":"invalid_request_error","message":"m"}}`,
			want:   config,
		},
		{name: "unsupported_grant_type", status: 400, body: `{"error":"unsupported_grant_type"}`, want: config},

		{name: "temporarily_unavailable", status: 400, body: `{"error":"temporarily_unavailable"}`, want: later},
		{name: "slow_down", status: 400, body: `{"error":"slow_down"}`, want: later},
		{name: "server_error", status: 400, body: `{"error":"server_error"}`, want: later},
		{name: "overloaded", status: 400, body: `{"error":{"type":"overloaded_error"}}`, want: later},
		{
			name:   "a wall",
			status: 403,
			body:   `<html>blocked</html>`,
			want:   later,
			shown:  "something between here and the provider answers",
		},
		{
			name:   "a wall that asks who we are",
			status: 401,
			header: map[string]string{"Content-Type": "Text/HTML; charset=utf-8"},
			body:   "blocked",
			want:   later,
			shown:  "something between",
		},
		{name: "a wall that is down", status: 503, body: " \n<!doctype html>blocked", want: later, shown: "something between"},
		{name: "a bad gateway", status: 400, body: "blocked", want: later},
		{name: "a gateway's forbidden", status: 403, body: `{"message":"blocked"}`, want: later},
		{name: "a gateway's forbidden in words", status: 403, body: `{"error":"Forbidden","message":"m"}`, want: later},
		{
			name:   "a router's not found",
			status: 404,
			body:   `{"timestamp":1,"status":404,"error":"Not Found","path":"/x"}`,
			want:   later,
			shown:  "nothing at that address",
		},
		{name: "a page not found", status: 404, body: "<html>blocked</html>", want: later},
		{name: "gone", status: 410, want: later, shown: "nothing at that address"},
		{name: "a proxy's password", status: 407, body: `{"error":"x"}`, want: later},
		{name: "error a number", status: 400, body: `{"error":42,"error_description":{}}`, want: later},
		{name: "error null", status: 400, body: `{"error":null}`, want: later},
		{name: "error empty", status: 400, body: `{"error":""}`, want: later},
		{name: "error true", status: 400, body: `{"error":true}`, want: later},
		{name: "error an empty list", status: 400, body: `{"error":[]}`, want: later},
		{name: "error an empty object", status: 400, body: `{"error":{}}`, want: later},
		{name: "error a list of numbers", status: 400, body: `{"errors":[1]}`, want: later},
		{name: "error cut off", status: 400, body: `{"error":"invalid_grant`, want: later},
		{name: "not found", status: 404, want: later},
		{name: "time-out", status: 408, want: later},
		{
			name:   "rate limit, seconds",
			status: 429,
			header: map[string]string{"Retry-After": "7"},
			want:   later,
			retry:  7 * time.Second,
		},
		{
			name:   "rate limit, date",
			status: 429,
			header: map[string]string{"Retry-After": date},
			want:   later,
			retry:  30 * time.Minute,
			slack:  10 * time.Minute,
		},
		{name: "rate limit, a day", status: 429, header: map[string]string{"Retry-After": "86400"}, want: later, retry: time.Hour},
		{
			name:   "rate limit, in the past",
			status: 429,
			header: map[string]string{"Retry-After": "Mon, 02 Jan 2006 15:04:05 GMT"},
			want:   later,
		},
		{name: "rate limit, nonsense", status: 429, header: map[string]string{"Retry-After": "-3"}, want: later},
		{name: "server error", status: 500, body: `{"error":"server_error"}`, want: later, shown: "500 server_error"},
		{name: "unavailable", status: 503, header: map[string]string{"Retry-After": "2"}, want: later, retry: 2 * time.Second},

		{
			name:   "redirect",
			status: 307,
			header: map[string]string{"Location": "https://evil.example/steal?t=" + sent},
			want:   later,
			shown:  "to evil.example,",
		},
		{name: "redirect nowhere", status: 302, want: later},
		{
			name:   "our token quoted",
			status: 400,
			body:   `{"error":"invalid_grant","error_description":"token ` + sent + ` is unknown"}`,
			want:   login,
			dead:   true,
			shown:  "token [redacted] is unknown",
		},
		{name: "our token as the code", status: 400, body: `{"error":"` + sent + `"}`, want: login, shown: "[redacted]"},
		{
			name:   "their token quoted",
			status: 500,
			body:   `{"error":"x","error_description":"fake-access-9","access_token":"fake-access-9"}`,
			want:   later,
			shown:  "[redacted]",
		},
		{
			name:   "control characters",
			status: 500,
			body:   `{"error":"x","error_description":"a\u001b[2Jb\nc\u202ed"}`,
			want:   later,
			shown:  "a [2Jb c d",
		},
		{
			name:   "a novel",
			status: 500,
			body:   `{"error":"x","error_description":"` + strings.Repeat("y", 5000) + `"}`,
			want:   later,
			shown:  strings.Repeat("y", 200) + "…",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := answering(t, tt.status, tt.header, tt.body).Refresh(t.Context(), protocol.NewSecret(sent))
			var failure *Error
			if !errors.As(err, &failure) || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if failure.Ambiguous {
				t.Error("a whole answer is ambiguous")
			}
			if failure.Dead != tt.dead {
				t.Errorf("the token is dead: %v, want %v", failure.Dead, tt.dead)
			}
			if detail := protocol.DetailOf(err); detail != "" && strings.Contains(err.Error(), detail) {
				t.Errorf("%q, which a log or a status may have, has the provider's words %q", err, detail)
			}
			message := protocol.Says(err)
			if !strings.Contains(strings.ReplaceAll(message, ")", ""), tt.shown) {
				t.Errorf("message %q does not show %q", message, tt.shown)
			}
			for _, secret := range []string{sent, "fake-access-9", "steal", "blocked"} {
				if strings.Contains(message, secret) {
					t.Errorf("message %q holds %q", message, secret)
				}
			}
			if strings.ContainsAny(message, "\n\r\x1b") || len([]rune(message)) > 400 {
				t.Errorf("message %q is not one line for a person", message)
			}
			if diff := tt.retry - failure.RetryAfter; diff < 0 || diff > tt.slack {
				t.Errorf("retry after %v, want %v", failure.RetryAfter, tt.retry)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		fault     oauthtest.Fault
		ambiguous bool
		spent     bool
	}{
		{"dropped before rotating", oauthtest.Fault{Drop: true}, true, false},
		{"dropped after rotating", oauthtest.Fault{Drop: true, Rotate: true}, true, true},
		{"truncated", oauthtest.Fault{Truncate: true}, true, true},
		{"silence", oauthtest.Fault{Delay: time.Minute}, true, false},
		{"slow drip", oauthtest.Fault{Drip: 50 * time.Millisecond}, true, true},
		{"endless", oauthtest.Fault{Endless: true}, true, true},
		{"html", oauthtest.Fault{Body: "<html>", Header: map[string]string{"Content-Type": "text/html"}}, true, false},
		{"error after rotating", oauthtest.Fault{Status: 500, Body: "{}", Rotate: true}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := oauthtest.New(t, oauthtest.Options{})
			server.SetFault(tt.fault)
			signIn := server.Issue()
			client := &Client{TokenURL: server.TokenURL(), Timeout: 2 * time.Second}
			if tt.fault.Delay > 0 {
				client.Timeout = 100 * time.Millisecond
			}
			_, err := client.Refresh(t.Context(), protocol.NewSecret(signIn.RefreshToken))
			var failure *Error
			if !errors.As(err, &failure) || !errors.Is(err, protocol.ErrUnavailable) {
				t.Fatalf("got %v, want ErrUnavailable", err)
			}
			if failure.Ambiguous != tt.ambiguous {
				t.Errorf("ambiguous %v (%v)", failure.Ambiguous, err)
			}
			if server.Renewable(signIn.RefreshToken) == tt.spent {
				t.Errorf("the test server rotated: %v", !tt.spent)
			}
			if got := server.Counts().Requests; got != 1 {
				t.Errorf("%d requests, want one", got)
			}
		})
	}
}

// TestCancelled: the end of the caller's own context is told from a time-out, and takes effect at once.
func TestCancelled(t *testing.T) {
	t.Parallel()
	server := oauthtest.New(t, oauthtest.Options{})
	server.SetFault(oauthtest.Fault{Delay: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for server.Counts().Requests == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_, err := (&Client{TokenURL: server.TokenURL()}).Refresh(ctx, protocol.NewSecret(sent))
	if !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), "given up") {
		t.Errorf("got %v", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		answering(t, status, map[string]string{"Location": elsewhere.URL}, "").Refresh(t.Context(), protocol.NewSecret(sent))
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

// TestNothingIsResent closes each connection right after the request, as a server does that drops idle connections.
func TestNothingIsResent(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var accepted atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			conn.Close()
		}
	}()
	client := &Client{TokenURL: "http://" + listener.Addr().String()}
	if _, err := client.Refresh(t.Context(), protocol.NewSecret(sent)); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if got := accepted.Load(); got != 1 {
		t.Errorf("%d connections, want one", got)
	}
}

// TestNoise: an answer that is not HTTP is not quoted.
func TestNoise(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			conn.Read(buf)
			conn.Write([]byte("fake-access-noise fake-access-noise\r\n\r\n"))
			conn.Close()
		}
	}()
	_, err = (&Client{TokenURL: "http://" + listener.Addr().String()}).Refresh(t.Context(), protocol.NewSecret(sent))
	if !errors.Is(err, protocol.ErrUnavailable) || strings.Contains(err.Error(), "noise") {
		t.Errorf("got %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"access_token":"fake-access-1"}`)
	}))
	server.Config.ErrorLog = nil
	defer server.Close()
	client := &Client{TokenURL: server.URL}
	if _, err := client.Refresh(t.Context(), protocol.NewSecret(sent)); !errors.Is(err, protocol.ErrUnavailable) ||
		!strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	client.CA = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := client.Refresh(t.Context(), protocol.NewSecret(sent)); err != nil {
		t.Errorf("a known one: %v", err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	client.TokenURL = strings.Replace(plain.URL, "http:", "https:", 1)
	if _, err := client.Refresh(t.Context(), protocol.NewSecret(sent)); !errors.Is(err, protocol.ErrUnavailable) ||
		!strings.Contains(err.Error(), "TLS") {
		t.Errorf("no TLS: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, err = (&Client{TokenURL: "http://" + address}).Refresh(t.Context(), protocol.NewSecret(sent))
	var failure *Error
	if !errors.As(err, &failure) || failure.Ambiguous || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, ambiguous: it never left", err)
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	tests := []struct {
		url    string
		origin string // "": refused
	}{
		{"https://auth.example.com/v1/token", "https://auth.example.com"},
		{"https://Auth.Example.COM:443/v1/token?x=y", "https://auth.example.com"},
		{"HTTPS://auth.example.com:8443", "https://auth.example.com:8443"},
		{"http://127.0.0.1:8080/t", "http://127.0.0.1:8080"},
		{"http://127.9.9.9/t", "http://127.9.9.9"},
		{"http://localhost:80/t", "http://localhost"},
		{"http://[::1]:99/t", "http://[::1]:99"},
		{"", ""},
		{"auth.example.com/token", ""},
		{"/token", ""},
		{"https:///token", ""},
		{"https:auth.example.com", ""},
		{"http://auth.example.com/token", ""},
		{"http://10.0.0.1/token", ""},
		{"http://0.0.0.0/token", ""},
		{"http://127.1/token", ""},
		{"http://localhost.example.com/", ""},
		{"http://127.0.0.1.example.com/", ""},
		{"http://127.0.0.1:80@example.com/", ""},
		{"https://user:fake-password@example.com/", ""},
		{"https://example.com/#x", ""},
		{"ftp://127.0.0.1/", ""},
		{"unix:///run/x.sock", ""},
		{"https://exa mple.com/", ""},
		{"https://example.com/\x00", ""},
	}
	for _, tt := range tests {
		origin, err := Origin(tt.url)
		if origin != tt.origin || (err == nil) != (tt.origin != "") {
			t.Errorf("Origin(%q) = %q, %v, want %q", tt.url, origin, err, tt.origin)
		}
		if err != nil && !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("%q: %v, want ErrConfig", tt.url, err)
		}
		if err != nil && strings.Contains(err.Error(), "fake-password") {
			t.Errorf("%v holds the password", err)
		}
	}
}

// TestPlainHTTPStaysHome lets a loopback name lead elsewhere, as a hosts file can.
func TestPlainHTTPStaysHome(t *testing.T) {
	t.Parallel()
	transport := (&Client{}).transport(target{URL: "http://localhost", plain: true})
	conn, err := transport.DialContext(t.Context(), "tcp", "192.0.2.1:80")
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, errNotLoopback) {
		t.Errorf("got %v", err)
	}
	var op error = &url.Error{Op: "Post", URL: "http://localhost", Err: err}
	if failure := transportError(t.Context(), op); !errors.Is(failure, protocol.ErrConfig) {
		t.Errorf("got %v, want ErrConfig", failure)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]*Client{
		"header with a newline":     {TokenURL: "http://127.0.0.1:1/", Headers: map[string]string{"X-Fake": "a\r\nb: c"}},
		"header name with a colon":  {TokenURL: "http://127.0.0.1:1/", Headers: map[string]string{"X:Fake": "a"}},
		"user agent with a newline": {TokenURL: "http://127.0.0.1:1/", UserAgent: "a\nb"},
		"no URL":                    {},
	} {
		if _, err := client.Refresh(t.Context(), protocol.NewSecret(sent)); !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	if _, err := (&Client{}).Refresh(t.Context(), protocol.Secret{}); !errors.Is(err, protocol.ErrExpired) {
		t.Errorf("no refresh token: %v", err)
	}
}

//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// A provider that answers strangely: an error that says so while there is no other token, and nothing lost.
func TestBadReplies(t *testing.T) {
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	set := func(key string, value any) func(map[string]any) {
		return func(reply map[string]any) { reply[key] = value }
	}
	cases := []struct {
		name  string
		fault oauthtest.Fault
		exit  int // 0: the token is taken all the same
		found string
	}{
		{"no expires_in", oauthtest.Fault{Edit: func(reply map[string]any) { delete(reply, "expires_in") }}, 0, ""},
		{"expires_in an object", oauthtest.Fault{Edit: set("expires_in", map[string]any{})}, 0, ""},
		{"account a string", oauthtest.Fault{Edit: set("account", "alice")}, 0, ""},
		{"access token an object", oauthtest.Fault{Edit: set("access_token", map[string]any{"fake-secret": 1})}, 7, "access_token"},
		{"access token with a newline", oauthtest.Fault{Edit: set("access_token", "fake-secret\nX-Evil: 1")}, 7, "access_token"},
		{"access token with ESC", oauthtest.Fault{Edit: set("access_token", "fake-secret\x1b[2J")}, 7, "access_token"},
		{"no access token", oauthtest.Fault{Edit: func(reply map[string]any) { delete(reply, "access_token") }}, 7, "access_token"},
		{
			"HTML",
			oauthtest.Fault{Body: "<!doctype html><title>fake-secret</title>", Header: map[string]string{"Content-Type": "text/html"}},
			7,
			"JSON",
		},
		{"a JSON string", oauthtest.Fault{Body: `"fake-secret"`}, 7, "JSON"},
		{
			"redirect to another host",
			oauthtest.Fault{Status: 307, Header: map[string]string{"Location": other.URL + "/fake-secret"}},
			7,
			"redirect",
		},
		{
			"redirect as a GET",
			oauthtest.Fault{Status: 302, Header: map[string]string{"Location": other.URL + "/fake-secret"}},
			7,
			"redirect",
		},
		{"1 GB", oauthtest.Fault{Body: `{"fake-secret":1}`, Endless: true}, 7, "127.0.0.1"},
		{"connection dropped", oauthtest.Fault{Drop: true}, 7, "127.0.0.1"},
		{"503", oauthtest.Fault{Status: 503, Body: "fake-secret"}, 7, "503"},
		{"429", oauthtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "120"}}, 7, "429"},
		{"invalid_client", oauthtest.Fault{Status: 401, Body: `{"error":"invalid_client"}`}, 2, "invalid_client"},
		{"invalid_grant", oauthtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`}, 4, "invalid_grant"},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, provider := newSignedIn(t, time.Hour)
			h.signIn(expired(provider.Issue()))
			before := h.read(".claude/.credentials.json")
			provider.SetFault(test.fault)
			r := h.helper()
			if test.exit == 0 {
				if r.must(t); !provider.Live(strings.TrimSpace(r.stdout)) {
					t.Errorf("printed %q, which is not live", r.stdout)
				}
				checkSignIn(t, h.credentialsFile(), provider)
				return
			}
			r.fails(t, test.exit, test.found)
			if all := r.stderr + h.ccagent("status").stdout; strings.Contains(all, "fake-secret") || strings.Contains(all, "\x1b") {
				t.Errorf("the reply is shown:\n%s", all)
			}
			if test.fault.Edit == nil && h.read(".claude/.credentials.json") != before {
				t.Error("the file was changed")
			}
			if n := elsewhere.Load(); n != 0 {
				t.Errorf("%d requests at the host that the redirect pointed to", n)
			}
			if provider.Counts().Requests != 1 {
				t.Errorf("%d requests at the provider, want 1", provider.Counts().Requests)
			}
			// It was the provider's fault: once that is mended, `refresh` mends the rest.
			provider.SetFault(oauthtest.Fault{})
			if test.exit == 4 {
				h.signIn(provider.Issue())
			}
			wait(t, "the renewal after the fault", func() bool { return h.ccagent("refresh").exit == 0 })
			if token := h.token(); !provider.Live(token) {
				t.Errorf("token %q is not live", token)
			}
			checkSignIn(t, h.credentialsFile(), provider)
		})
	}
}

// A reply that comes a byte at a time ends at the renewal's own bound, not when it likes.
func TestSlowReply(t *testing.T) {
	t.Parallel()
	h, provider := newSignedIn(t, time.Hour)
	h.signIn(expired(provider.Issue()))
	provider.SetFault(oauthtest.Fault{Drip: time.Second})
	h.serve()
	h.helper("--timeout", "2s").fails(t, 7, "time")
	h.helper("--timeout", "100s").fails(t, 7, "127.0.0.1")
}

package oauth

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

func listening(t *testing.T) (*Loopback, *Authorization) {
	t.Helper()
	return listeningFor(t, nil, ownerOf)
}

func listeningFor(t *testing.T, refused func(int), ownerOf ownerFunc) (*Loopback, *Authorization) {
	t.Helper()
	l, err := listen("", 0, "", "work<b>", refused, ownerOf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	a, err := (&Client{AuthorizeURL: "https://sso.example.com/authorize", ClientID: "fake-client"}).Authorize(l.RedirectURI())
	if err != nil {
		t.Fatal(err)
	}
	return l, a
}

// visit makes the request that a browser would make.
func visit(t *testing.T, method, address, host string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// An error that comes without a state is shown, and does not end the sign-in, because anybody could have sent it.
func TestErrorWithoutState(t *testing.T) {
	t.Parallel()
	l, a := listening(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := make(chan Callback, 1)
	go func() {
		cb, _ := l.Wait(ctx, a)
		got <- cb
	}()
	_, body := visit(t, "GET", l.RedirectURI()+"?error=invalid_client&error_description=fake%3Cb%3E", "")
	if !strings.Contains(body, "The provider says invalid_client: fake&lt;b&gt;.") || !strings.Contains(body, "still waits") {
		t.Errorf("the page is\n%s", body)
	}
	l.Finish(nil) // so that the next page does not wait
	visit(t, "GET", l.RedirectURI()+"?code=fake-code-1&state="+a.State, "")
	if cb := <-got; cb.Code.Reveal() != "fake-code-1" {
		t.Errorf("%+v", cb)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	l, a := listening(t)
	type arrival struct {
		cb  Callback
		err error
	}
	got := make(chan arrival, 1)
	waiting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		cb, err := l.Wait(waiting, a)
		got <- arrival{cb, err}
	}()
	good := l.RedirectURI() + "?code=fake-code-1&state=" + a.State
	for _, tc := range []struct {
		name, method, address, host string
		status                      int
	}{
		{"another path", "GET", strings.Replace(good, "/callback", "/favicon.ico", 1), "", 404},
		{"wrong state", "GET", l.RedirectURI() + "?code=fake-code-2&state=other", "", 400},
		{"no state", "GET", l.RedirectURI() + "?code=fake-code-2", "", 400},
		{"nothing", "GET", l.RedirectURI(), "", 400},
		{"another host", "GET", good, "evil.example.com:" + l.port, 403},
		{"another port", "GET", good, "127.0.0.1:1", 403},
		{"no port", "GET", good, "127.0.0.1", 403},
		{"a preview", "HEAD", good, "", 405},
		{"a form", "POST", good, "", 405},
	} {
		resp, body := visit(t, tc.method, tc.address, tc.host)
		if resp.StatusCode != tc.status {
			t.Errorf("%s: status %d, want %d", tc.name, resp.StatusCode, tc.status)
		}
		if strings.Contains(body, "fake-code") || strings.Contains(body, "<b>") {
			t.Errorf("%s: the page echoes what it should not:\n%s", tc.name, body)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"X-Content-Type-Options": "nosniff"} {
			if resp.Header.Get(name) != want {
				t.Errorf("%s: %s %q, want %q", tc.name, name, resp.Header.Get(name), want)
			}
		}
		if !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") {
			t.Errorf("%s: policy %q", tc.name, resp.Header.Get("Content-Security-Policy"))
		}
	}

	pages := make(chan string, 2)
	for range 2 { // a second hit gets the same answer
		go func() {
			_, body := visit(t, "GET", good, "localhost:"+l.port)
			pages <- body
		}()
	}
	first := <-got
	if first.err != nil || first.cb.Code.Reveal() != "fake-code-1" || first.cb.State != a.State {
		t.Fatalf("callback %+v, %v", first.cb, first.err)
	}
	select {
	case body := <-pages:
		t.Fatalf("a page came before the sign-in had ended:\n%s", body)
	default:
	}
	l.Finish(nil)
	for range 2 {
		if body := <-pages; !strings.Contains(body, "You are signed in") || !strings.Contains(body, "profile work&lt;b&gt;") {
			t.Errorf("page:\n%s", body)
		}
	}
}

// A browser that comes back before Wait is called is answered all the same.
func TestLoopbackQuickBrowser(t *testing.T) {
	t.Parallel()
	l, a := listening(t)
	page := make(chan int, 1)
	go func() {
		resp, _ := visit(t, "GET", l.RedirectURI()+"?code=fake-code-1&state="+a.State, "")
		page <- resp.StatusCode
	}()
	select {
	case status := <-page:
		t.Fatalf("answered with %d before anybody waited", status)
	case <-time.After(50 * time.Millisecond): // it may not have arrived: then this test shows less, and passes
	}
	if cb, err := l.Wait(t.Context(), a); err != nil || cb.Code.Reveal() != "fake-code-1" {
		t.Errorf("callback %+v, %v", cb, err)
	}
	l.Finish(nil)
	if status := <-page; status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestLoopbackFailure(t *testing.T) {
	t.Parallel()
	l, a := listening(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	l.Wait(gone, a)
	l.Finish(&protocol.Error{Code: protocol.CodeLogin, Message: "the provider <says> no", Hint: "try <again>"})
	_, body := visit(t, "GET", l.RedirectURI()+"?error=x&state="+a.State, "")
	for _, want := range []string{"You are not signed in", "the provider &lt;says&gt; no", "try &lt;again&gt;", `class="bad"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestLoopbackEnds(t *testing.T) {
	t.Parallel()
	l, a := listening(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Wait(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	l.Close()
	if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", l.port)); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = Listen("", taken.Addr().(*net.TCPAddr).Port, "", "work", nil)
	if !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), "taken by another program") ||
		!strings.Contains(protocol.HintOf(err), "redirect_port") {
		t.Errorf("a port that is taken: %v", err)
	}
	if _, err := Listen("0.0.0.0", 0, "", "work", nil); !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("an open host: %v", err)
	}
}

// A program that has the port on ::1 would get the code of a browser that tries ::1 first.
func TestListenWantsBothLoopbacks(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no ::1 here: ", err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	if l, err := Listen("localhost", port, "", "work", nil); !errors.Is(err, protocol.ErrConfig) ||
		!strings.Contains(err.Error(), "taken by another program") {
		t.Errorf("Listen shares localhost:%d with another program: %v", port, err)
		if err == nil {
			l.Close()
		}
	}
	l, err := Listen("127.0.0.1", port, "", "work", nil) // to which ::1 is nothing
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// The hint depends on the error that the browser brings.
func TestCallbackHints(t *testing.T) {
	t.Parallel()
	for code, hint := range map[string]string{
		"access_denied": "denied access", "authorization_declined": "denied access", "invalid_scope": "check scopes",
		"invalid_target": "check scopes", "unauthorized_client": "check client_id", "invalid_request": "check client_id",
		"unsupported_response_type": "check client_id", "temporarily_unavailable": "try again later", "server_error": "try again later",
		"invalid_client": "check client_id", "redirect_uri_mismatch": "redirect address", "invalid_redirect_uri": "check client_id",
		"login_required": "take prompt out", "interaction_required": "take prompt out", "consent_required": "take prompt out",
		"fake_error_of_its_own": "to try again: ccagent login",
	} {
		if got := protocol.HintOf((&Client{}).denied(Callback{Error: code})); !strings.Contains(got, hint) {
			t.Errorf("%s: %q, want one that says %q", code, got, hint)
		}
	}
}

func TestParsePasted(t *testing.T) {
	t.Parallel()
	a, err := (&Client{AuthorizeURL: "https://sso.example.com/authorize"}).Authorize("http://127.0.0.1:1/callback")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ in, code, problem string }{
		{"fake-code#" + a.State, "fake-code", ""},
		{"  fake-code#" + a.State + "\n", "fake-code", ""},
		{"http://127.0.0.1:1/callback?code=fake-code&state=" + a.State, "fake-code", ""},
		{"http://127.0.0.1:1/callback?state=" + a.State + "&code=fake%2Bcode#top", "fake+code", ""},
		{"code=fake-code&state=" + a.State, "fake-code", ""},
		{"?code=fake-code&state=" + a.State, "fake-code", ""},
		{"", "", "holds no code"},
		{"fake-code", "", "holds no code"},
		{"fake-code#other", "", "another sign-in"},
		{"fake-code#", "", "holds no state"},
		{"http://127.0.0.1:1/callback?error=invalid_client", "", ""}, // some providers leave the state out
		{"code=fake-code", "", "holds no state"},
		{"code=%zz&state=" + a.State, "", "can't be read"},
	} {
		cb, err := a.ParsePasted(tc.in)
		switch {
		case tc.problem == "" && (err != nil || cb.Code.Reveal() != tc.code):
			t.Errorf("%q: code %q, %v", tc.in, cb.Code.Reveal(), err)
		case tc.problem != "" && (!errors.Is(err, protocol.ErrCallback) || !strings.Contains(err.Error(), tc.problem)):
			t.Errorf("%q: %v, want one that says %q", tc.in, err, tc.problem)
		}
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	c := &Client{
		AuthorizeURL: "https://sso.example.com/authorize?tenant=1", ClientID: "fake-client", Scopes: []string{"openid", "x"},
		Audience: "api", Resource: []string{"https://a.example.com", "https://b.example.com"},
		Params: map[string]string{"prompt": "consent"},
	}
	a, err := c.Authorize("http://127.0.0.1:1/callback")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{
		"tenant": "1", "response_type": "code", "client_id": "fake-client", "redirect_uri": "http://127.0.0.1:1/callback",
		"state": a.State,
		"scope": "openid x", "audience": "api", "prompt": "consent", "code_challenge_method": "S256", "nonce": a.nonce, "code": "",
	} {
		if q.Get(name) != want {
			t.Errorf("%s %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q["resource"]) != 2 || len(a.State) != 43 || len(a.verifier.Reveal()) != 43 || len(a.nonce) != 43 ||
		len(q.Get("code_challenge")) != 43 {
		t.Errorf("resource %q, state %q", q["resource"], a.State)
	}
	if strings.Contains(a.URL, a.verifier.Reveal()) {
		t.Error("the verifier is in the URL")
	}
	other, err := c.Authorize("http://127.0.0.1:1/callback")
	if err != nil || other.State == a.State || other.verifier.Reveal() == a.verifier.Reveal() || other.nonce == a.nonce {
		t.Error("two attempts share a secret")
	}
	c.JSON = true
	if a, err = c.Authorize("http://localhost:1/callback"); err != nil || !strings.Contains(a.URL, "code=true") {
		t.Errorf("provider claude: %v", err)
	}
	if _, err := (&Client{AuthorizeURL: "http://sso.example.com/"}).Authorize("x"); !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("plain http: %v", err)
	}
}

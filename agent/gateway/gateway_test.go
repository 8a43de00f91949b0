package gateway

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/protocol"
)

func TestMain(m *testing.M) {
	// A server waits for half a second before it closes a connection of which it has not read all.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// mint is an agent, and the service that knows its tokens: one token lives at a time.
type mint struct {
	protocol.Agent
	kind protocol.Kind
	form string // of the tokens, with a %d; "": some plain text

	mu       sync.Mutex
	n        int
	renewals int
	out      error // why there is no token any more
	dead     bool  // the token was revoked
}

func (m *mint) Token(_ context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out != nil {
		return protocol.Token{}, m.out
	}
	if req.Force {
		m.n, m.renewals, m.dead = m.n+1, m.renewals+1, false
	}
	return protocol.Token{Profile: req.Profile, Value: protocol.NewSecret(m.token()), Kind: m.kind,
		Expiry: time.Now().Add(time.Hour)}, nil
}

func (m *mint) token() string { return fmt.Sprintf(cmp.Or(m.form, "fake-live-token-%d"), m.n) }

// live returns the token that the service accepts, "" if it accepts none.
func (m *mint) live() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ""
	}
	return m.token()
}

func (m *mint) revoke() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

// session is a gateway that serves a tool.
type session struct {
	*Gateway
	base    string
	standIn map[string]string

	mu        sync.Mutex
	decisions []Decision
}

// decided returns the decisions, of which there must be n soon.
func (s *session) decided(n int) []Decision {
	for {
		s.mu.Lock()
		all := slices.Clone(s.decisions)
		s.mu.Unlock()
		if len(all) >= n {
			return all
		}
		time.Sleep(time.Millisecond)
	}
}

func start(t *testing.T, o Options) *session {
	t.Helper()
	s := &session{standIn: map[string]string{}}
	o.Decided = func(d Decision) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.decisions = append(s.decisions, d)
	}
	var err error
	if s.Gateway, err = New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	s.base = "http://" + l.Addr().String()
	for _, grant := range s.Grants() {
		s.standIn[grant.Route] = grant.StandIn.Reveal()
	}
	return s
}

// trust has a gateway trust a server's certificate.
func trust(s *session, server *httptest.Server) {
	for _, r := range s.roads {
		ours := r.ordinary.Base.(*http.Transport).TLSClientConfig
		ours.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
}

// to makes a route to a server.
func to(t *testing.T, server *httptest.Server, name string) route.Route {
	t.Helper()
	u, err := route.ParseUpstream(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return route.Route{Name: name, Profile: "main", Upstream: u, Errors: route.Plain, Foreign: route.Refuse, RenewOn: []int{401}}
}

// tool is a client that keeps to what it is told: it follows no redirect and adds no header.
func tool(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request,
		[]*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func request(t *testing.T, method, target string, body io.Reader, headers ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

func do(t *testing.T, client *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp, string(text)
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// TestSwap: wherever a tool puts the stand-in, the token goes where the route says, every other credential is gone, and nothing
// else has changed.
func TestSwap(t *testing.T) {
	t.Parallel()
	m := &mint{}
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer server.Close()
	routes := route.Table{to(t, server, "bearer"), to(t, server, "header"), to(t, server, "basic"), to(t, server, "query")}
	routes[1].Place = place.Header("x-custom-key")
	routes[2].Place = place.Basic("x-access-token")
	routes[3].Place, routes[3].Errors = place.Query("key"), route.Google
	s := start(t, Options{Agent: m, Routes: routes})
	const rest = "/a%2Fb/c;d"
	for name, want := range map[string]struct{ header, value, query string }{
		"bearer": {"Authorization", "Bearer fake-live-token-0", "q=%2f;r&&s"},
		"header": {"X-Custom-Key", "fake-live-token-0", "q=%2f;r&&s"},
		"basic":  {"Authorization", basic("x-access-token", "fake-live-token-0"), "q=%2f;r&&s"},
		"query":  {"", "", "q=%2f;r&&s&key=fake-live-token-0"},
	} {
		in := s.standIn[name]
		for how, carries := range map[string]struct {
			query   string
			headers []string
		}{
			"bearer":            {"", []string{"Authorization", "Bearer " + in}},
			"github's scheme":   {"", []string{"Authorization", "token " + in}},
			"password":          {"", []string{"Authorization", basic("x", in)}},
			"user":              {"", []string{"Authorization", basic(in, "x-oauth-basic")}},
			"key":               {"", []string{"X-Api-Key", in}},
			"both of a helper":  {"", []string{"X-Api-Key", in, "Authorization", "Bearer " + in}},
			"google's":          {"", []string{"X-Goog-Api-Key", in}},
			"gitlab's":          {"", []string{"Private-Token", in}},
			"a header unknown":  {"", []string{"X-Whatever", in}},
			"query":             {"&key=" + in, nil},
			"query unknown":     {"&whatever=" + in, nil},
			"beside another's":  {"&access_token=fake-other", []string{"X-Api-Key", in, "Authorization", "Bearer fake-other"}},
			"beside two":        {"", []string{"X-Api-Key", in, "X-Api-Key", "fake-other", "Private-Token", "fake-other"}},
			"another spelling":  {"&Access_Token=fake-other", []string{"X-Api-Key", in, "X_Goog_Api_Key", "fake-other"}},
			"of other services": {"&oauth_token=fake-other", []string{"X-Api-Key", in, "Ocp-Apim-Subscription-Key", "fake-other"}},
			"twice in a header": {"", []string{"Authorization", "Bearer " + in, "Authorization", "Bearer fake-other"}},
		} {
			headers := append([]string{"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1", "Cookie", "a=b", "X-Two", "1",
				"X-Two",
				"2", "User-Agent", ""}, carries.headers...)
			resp, _ := do(t, tool(t), request(t, "POST", s.base+"/"+name+rest+"?q=%2f;r&&s"+carries.query, strings.NewReader("text"),
				headers...))
			if resp.StatusCode != 200 {
				t.Errorf("%s from %s: %d", name, how, resp.StatusCode)
				continue
			}
			expected := http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}, "Cookie": {"a=b"},
				"X-Two":          {"1", "2"},
				"Content-Length": {"4"}}
			if want.header != "" {
				expected[want.header] = []string{want.value}
			}
			if !maps.EqualFunc(expected, got.Header, slices.Equal) || got.RequestURI != rest+"?"+want.query ||
				got.Host != strings.TrimPrefix(server.URL, "http://") {
				t.Errorf("%s from %s: %s %q to %s, want %q", name, how, got.RequestURI, got.Header, got.Host, expected)
			}
		}
	}
}

// TestRefusals: what the gateway does not send on, in the shape of each API.
func TestRefusals(t *testing.T) {
	t.Parallel()
	m := &mint{}
	sent := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent++ }))
	defer server.Close()
	var routes route.Table
	deny, err := route.ParseRule("* /secret/**")
	if err != nil {
		t.Fatal(err)
	}
	for _, shape := range route.Shapes {
		r := to(t, server, string(shape))
		r.Errors, r.Deny = shape, []route.Rule{deny}
		routes = append(routes, r)
	}
	routes[len(routes)-1].Place = place.Basic("x")
	s := start(t, Options{Agent: m, Routes: routes})
	other := start(t, Options{Agent: m, Routes: routes[:1]})
	n := 0
	for _, tt := range []struct {
		method, path, token string
		status              int
		want                string
	}{
		{"GET", "/a", "", 401, "this request has no stand-in"},
		{"GET", "/a", "fake-other", 403, "this request has a credential of its own in the header Authorization"},
		{"GET", "/a", other.standIn["anthropic"], 401, "the stand-in in this request is of another session"},
		{"GET", "/a", "another", 403, "the stand-in in this request is for another route"},
		{"GET", "/secret/a", "own", 403, `denies GET /secret/a (deny = "* /secret/**")`},
		{"GET", "/secret%2fa", "own", 403, `denies GET`},
		{"GET", "/a/../secret", "own", 400, "dot segment"},
		{"GET", "//a", "own", 400, "two slashes"},
		{"TRACE", "/a", "own", 405, "TRACE"},
	} {
		for i, r := range routes {
			token := tt.token
			switch token {
			case "own":
				token = s.standIn[r.Name]
			case "another":
				token = s.standIn[routes[(i+1)%len(routes)].Name]
			}
			req := request(t, tt.method, s.base, nil)
			if req.URL.Opaque = "/" + r.Name + tt.path; token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			resp, text := do(t, tool(t), req)
			n++
			if resp.StatusCode != tt.status {
				t.Errorf("%s %s at %s: %d %s", tt.method, tt.path, r.Name, resp.StatusCode, text)
			}
			shape := r.Errors
			if tt.status == 400 { // no route was found
				shape = route.Plain
			}
			if message := messageOf(t, shape, resp, text); !strings.HasPrefix(message, "ccagent: ") ||
				!strings.Contains(message, tt.want) {
				t.Errorf("%s %s at %s: %q, want %q in it", tt.method, tt.path, r.Name, message, tt.want)
			}
			challenge := resp.Header.Get("WWW-Authenticate")
			if want := map[bool]string{true: "Basic ", false: "Bearer "}[r.Place != place.Bearer]; tt.status == 401 != (challenge != "") ||
				challenge != "" && !strings.HasPrefix(challenge, want) {
				t.Errorf("%s %s at %s: challenge %q", tt.method, tt.path, r.Name, challenge)
			}
			if strings.Contains(text, standInBegin) {
				t.Errorf("the answer repeats a stand-in: %s", text)
			}
		}
	}
	for _, d := range s.decided(n) {
		if d.Refused == "" || d.Status < 400 || strings.Contains(fmt.Sprint(d), standInBegin) {
			t.Errorf("decided %+v", d)
		}
	}
	if sent > 0 {
		t.Errorf("%d requests were sent on", sent)
	}
	resp, text := do(t, tool(t), request(t, "GET", s.base+"/nosuch/a", nil, "Authorization", "Bearer "+s.standIn["plain"]))
	if resp.StatusCode != 404 || !strings.Contains(text, `no route has the name "nosuch"`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// messageOf returns the message in an error of a shape.
func messageOf(t *testing.T, shape route.Shape, resp *http.Response, text string) string {
	t.Helper()
	if shape == route.Plain {
		if kind := resp.Header.Get("Content-Type"); kind != "text/plain; charset=utf-8" {
			t.Errorf("content type %s", kind)
		}
		return text
	}
	var body struct {
		Type    string
		Message string
		Status  string
		Error   struct {
			Type, Message, Status string
			Code                  any
		}
	}
	if err := json.Unmarshal([]byte(text), &body); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %v: %s", shape, err, text)
	}
	switch shape {
	case route.GitHub:
		if body.Status != fmt.Sprint(resp.StatusCode) {
			t.Errorf("github's status is %q", body.Status)
		}
		return body.Message
	case route.Anthropic:
		if body.Type != "error" || !strings.HasSuffix(body.Error.Type, "_error") {
			t.Errorf("anthropic's error is %s", text)
		}
	case route.Google:
		if body.Error.Code != float64(resp.StatusCode) || body.Error.Status == "" {
			t.Errorf("google's error is %s", text)
		}
	}
	return body.Error.Message
}

// guarded is a service that wants the live token, and answers with what it was sent.
func guarded(m *mint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") != "Bearer "+m.live() {
			http.Error(w, "fake refusal of the service", http.StatusUnauthorized)
			return
		}
		w.Write(body)
	}
}

// TestRenewal: a token that is revoked while a hundred requests come is renewed once, and the tool sees nothing of it.
func TestRenewal(t *testing.T) {
	t.Parallel()
	m := &mint{}
	server := httptest.NewServer(guarded(m))
	defer server.Close()
	s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
	client := tool(t)
	ask := func(body string) {
		resp, text := do(t, client, request(t, "POST", s.base+"/llm/", strings.NewReader(body), "X-Api-Key", s.standIn["llm"]))
		if resp.StatusCode != 200 || text != body {
			t.Errorf("%d %.100s", resp.StatusCode, text)
		}
	}
	ask("first")
	m.revoke()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { ask(strings.Repeat(fmt.Sprintf("body %d ", i), 1000)) })
	}
	all.Wait()
	if m.renewals != 1 {
		t.Errorf("%d renewals, want 1", m.renewals)
	}
	renewed := 0
	for _, d := range s.decided(101) {
		if d.Renewed {
			renewed++
		}
		if d.Status != 200 || d.Refused != "" || d.Route != "llm" || d.Profile != "main" || d.Path != "/" || d.Sent != d.Received ||
			d.Sent == 0 {
			t.Errorf("decided %+v", d)
		}
	}
	if renewed == 0 {
		t.Error("nobody was told of the renewal")
	}
}

// TestSignInNeeded: a sign-in that ends is told in the API's shape, with what to do. A key that nobody can renew is the service's
// to refuse.
func TestSignInNeeded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		out     *protocol.Error
		status  int
		message string
		retry   bool
	}{
		{"signed out", &protocol.Error{Code: protocol.CodeLoginRequired, Message: "the sign-in has ended"}, 401,
			"ccagent: the sign-in has ended (run: ccagent login main)", false},
		{"as the agent says", &protocol.Error{Code: protocol.CodeLoginRequired, Message: "gone", Hint: "run: ccagent login x"}, 401,
			"ccagent: gone (run: ccagent login x)", false},
		{"locked", &protocol.Error{Code: protocol.CodeLocked, Message: "locked", Hint: "run: ccagent unlock"}, 403,
			"ccagent: locked (run: ccagent unlock)", false},
		{"the provider is down", &protocol.Error{Code: protocol.CodeUnavailable, Message: "down"}, 503, "ccagent: down", true},
		{"a static key", &protocol.Error{Code: protocol.CodeConfig, Message: "a static key"}, 401, "fake refusal of the service\n",
			false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := &mint{}
			server := httptest.NewServer(guarded(m))
			defer server.Close()
			r := to(t, server, "llm")
			r.Errors = route.Anthropic
			s := start(t, Options{Agent: m, Routes: route.Table{r}})
			if resp, _ := do(t, tool(t), request(t, "GET", s.base+"/llm", nil, "X-Api-Key", s.standIn["llm"])); resp.StatusCode != 200 {
				t.Fatal(resp.StatusCode)
			}
			m.revoke()
			m.mu.Lock()
			m.out = tt.out
			m.mu.Unlock()
			for range 2 {
				resp, text := do(t, tool(t), request(t, "GET", s.base+"/llm", nil, "X-Api-Key", s.standIn["llm"]))
				message := text
				if tt.out.Code != protocol.CodeConfig {
					message = messageOf(t, route.Anthropic, resp, text)
				}
				if resp.StatusCode != tt.status || message != tt.message || resp.Header.Get("Retry-After") != "" != tt.retry {
					t.Errorf("%d %q", resp.StatusCode, message)
				}
			}
		})
	}
}

// TestNew: a sign-in that is missing is noticed at once, and a provider that is down is not.
func TestNew(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	m := &mint{out: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out"}}
	if _, err := New(t.Context(), Options{Agent: m, Routes: route.Table{to(t, server, "llm")}}); !errors.Is(err,
		protocol.ErrLoginRequired) {
		t.Error(err)
	}
	m.out = &protocol.Error{Code: protocol.CodeUnavailable, Message: "down"}
	s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
	resp, text := do(t, tool(t), request(t, "GET", s.base+"/llm", nil, "X-Api-Key", s.standIn["llm"]))
	if resp.StatusCode != 503 || text != "ccagent: down\n" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	m.out, m.kind = nil, protocol.KindAPIKey
	r := to(t, server, "llm")
	key := place.Header("x-api-key")
	r.Kinds = map[string]route.Variant{"api-key": {Place: &key, Env: map[string]route.Value{"KEY": route.Token}}}
	g, err := New(t.Context(), Options{Agent: m, Routes: route.Table{r}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if grants := g.Grants(); len(grants) != 1 || grants[0].Env["KEY"] != route.Token || g.routes[0].Place != key {
		t.Errorf("granted %+v", grants)
	}
	if again := g.Grants(); again != nil {
		t.Error("the stand-ins are still known")
	}
}

// TestForeign: a credential of the tool's own is passed on where the route says so, and the request is as it was.
func TestForeign(t *testing.T) {
	t.Parallel()
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer server.Close()
	r := to(t, server, "llm")
	r.Foreign = route.Pass
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{r, to(t, server, "other")}})
	resp, _ := do(t, tool(t), request(t, "GET", s.base+"/llm/a?access_token=fake-b", nil, "X-Api-Key", "fake-a", "Authorization",
		"Bearer x"))
	if resp.StatusCode != 200 || got.Header.Get("X-Api-Key") != "fake-a" || got.Header.Get("Authorization") != "Bearer x" ||
		got.RequestURI != "/a?access_token=fake-b" {
		t.Errorf("%d, sent %q to %s", resp.StatusCode, got.Header, got.RequestURI)
	}
	for name, want := range map[string]int{"": 401, "Bearer " + s.standIn["other"]: 403, "Bearer " + s.standIn["llm"]: 200} {
		req := request(t, "GET", s.base+"/llm/a", nil)
		if name != "" {
			req.Header.Set("Authorization", name)
		}
		if resp, _ := do(t, tool(t), req); resp.StatusCode != want {
			t.Errorf("%q: %d, want %d", name, resp.StatusCode, want)
		}
	}
	if d := s.decided(4); !d[0].Foreign || d[3].Foreign {
		t.Errorf("decided %+v", d)
	}
}

// TestAnswers: redirects are the tool's to follow and lead through the gateway, and nothing else of an answer changes.
func TestAnswers(t *testing.T) {
	t.Parallel()
	location := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "fake")
		w.Header().Set("Content-Type", "fake/fake")
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.Header().Set("X-Fake", "1")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Location", location)
		w.Header().Set("Trailer", "X-End")
		w.WriteHeader(http.StatusTemporaryRedirect)
		io.WriteString(w, "text")
		w.Header().Set("X-End", "end")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}))
	defer server.Close()
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{to(t, server, "llm")}})
	for at, want := range map[string]string{
		server.URL + "/b?c":         s.base + "/llm/b?c",
		"/b":                        s.base + "/llm/b",
		"b":                         s.base + "/llm/deep/b",
		"//evil.example/b":          "http://evil.example/b",
		"https://other.example/b#c": "https://other.example/b#c",
	} {
		location = at
		resp, text := do(t, tool(t), request(t, "GET", s.base+"/llm/deep/a", nil, "X-Api-Key", s.standIn["llm"]))
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%s leads to %s, want %s", at, got, want)
		}
		resp.Header.Del("Location")
		if want := (http.Header{"X-Fake": {"1"}, "Set-Cookie": {"a=b"}, "Date": {"fake"},
			"Content-Type": {"fake/fake"}}); resp.StatusCode != 307 || text != "text" ||
			!maps.EqualFunc(resp.Header, want, slices.Equal) {
			t.Errorf("%d %q %q", resp.StatusCode, resp.Header, text)
		}
		if want := (http.Header{"X-End": {"end"}, "Grpc-Status": {"0"}}); !maps.EqualFunc(resp.Trailer, want, slices.Equal) {
			t.Errorf("trailers %q", resp.Trailer)
		}
	}
}

// TestStreams: an event reaches the tool before the next is made, and a renewal during a stream cuts nothing.
func TestStreams(t *testing.T) {
	t.Parallel()
	m := &mint{}
	next := make(chan string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+m.live() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path != "/stream" {
			return
		}
		w.Header().Set("Content-Length", "45") // a body of known length must not wait either
		for event := range next {
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
		}
	}))
	defer server.Close()
	s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
	type answer struct {
		resp *http.Response
		err  error
	}
	came := make(chan answer)
	go func() {
		resp, err := tool(t).Do(request(t, "POST", s.base+"/llm/stream", nil, "X-Api-Key", s.standIn["llm"]))
		came <- answer{resp, err}
	}()
	next <- "data: 1\n\n"
	a := <-came
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.resp.Body.Close()
	lines := bufio.NewReader(a.resp.Body)
	for i := 1; i <= 5; i++ {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		lines.ReadString('\n')
		if i == 2 {
			m.revoke()
			if resp, _ := do(t, tool(t), request(t, "GET", s.base+"/llm/", nil, "X-Api-Key", s.standIn["llm"])); resp.StatusCode != 200 {
				t.Error(resp.StatusCode)
			}
		}
		if i < 5 {
			next <- fmt.Sprintf("data: %d\n\n", i+1)
		}
	}
	close(next)
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if m.renewals != 1 {
		t.Errorf("%d renewals", m.renewals)
	}
}

// TestBothWays: a service may answer while it is still being sent to.
func TestBothWays(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.EnableFullDuplex()
		io.WriteString(w, "ready\n")
		control.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); control.Flush() {
			fmt.Fprintln(w, "heard", lines.Text())
		}
	}))
	defer server.Close()
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{to(t, server, "llm")}})
	body, send := io.Pipe()
	defer send.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := tool(t).Do(request(t, "POST", s.base+"/llm/", body, "X-Api-Key", s.standIn["llm"]).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i, want := range []string{"ready\n", "heard 1\n", "heard 2\n"} {
		if line, err := lines.ReadString('\n'); err != nil || line != want {
			t.Fatalf("%q, %v; want %q", line, err, want)
		}
		if i < 2 {
			fmt.Fprintln(send, i+1)
		}
	}
	send.Close()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestOverridden: a method that a header puts in place of the request's is judged as well, and another path is refused.
func TestOverridden(t *testing.T) {
	t.Parallel()
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("X-HTTP-Method-Override"))
	}))
	defer server.Close()
	r := to(t, server, "llm")
	for _, written := range []string{"POST /**", "GET /**"} {
		rule, err := route.ParseRule(written)
		if err != nil {
			t.Fatal(err)
		}
		r.Allow = append(r.Allow, rule)
	}
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{r}})
	for _, tt := range []struct {
		name, value string
		status      int
	}{
		{"X-HTTP-Method-Override", "GET", 200},
		{"X-HTTP-Method-Override", "DELETE", 403},
		{"X_HTTP_Method_Override", "delete", 403},
		{"X-HTTP-Method", "DELETE", 403},
		{"X-Method-Override", "DELETE", 403},
		{"X-HTTP-Method-Override", "TRACE", 405},
		{"X-Original-URL", "/b", 400},
		{"X_Rewrite_URL", "/b", 400},
	} {
		resp, text := do(t, tool(t), request(t, "POST", s.base+"/llm/a", nil, "X-Api-Key", s.standIn["llm"], tt.name, tt.value))
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %s: %d %s", tt.name, tt.value, resp.StatusCode, text)
		}
	}
	if !slices.Equal(got, []string{"GET"}) {
		t.Errorf("the upstream got %q", got)
	}
}

// TestAnotherHTTP: no request leads to a connection in which further ones would come that nobody judges.
func TestAnotherHTTP(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"h2c", "H2C", "HTTP/2.0", "fake, h2c", "TLS/1.0, HTTP/1.1"} {
		var got http.Header
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
		s := start(t, Options{Agent: &mint{}, Routes: route.Table{to(t, server, "llm")}})
		resp, _ := do(t, tool(t), request(t, "GET", s.base+"/llm/", nil, "X-Api-Key", s.standIn["llm"],
			"Connection", "Upgrade", "Upgrade", protocol, "HTTP2-Settings", "AAMAAABkAAQAAP__"))
		if resp.StatusCode != 200 || got.Get("Upgrade")+got.Get("Connection")+got.Get("HTTP2-Settings") != "" {
			t.Errorf("%s: %d, the upstream got %q", protocol, resp.StatusCode, got)
		}
		server.Close()
	}
}

// TestUpgrade: a connection that speaks another protocol goes through in both directions.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	m := &mint{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+m.live() || r.Header.Get("Upgrade") != "fake" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: fake\r\n\r\n")
		line, _ := buffered.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	}))
	server.EnableHTTP2 = true
	server.Start()
	defer server.Close()
	s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
	m.revoke() // the refusal comes before the upgrade, and is mended
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /llm/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: fake\r\nX-Api-Key: %s\r\n\r\n",
		s.standIn["llm"])
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	io.WriteString(conn, "hello\n")
	if rest, err := io.ReadAll(r); string(rest) != "echo hello\n" {
		t.Errorf("%q, %v", rest, err)
	}
	conn.Close()
	if d := s.decided(1)[0]; d.Status != 101 || d.Sent != 6 || d.Received != 11 || !d.Renewed {
		t.Errorf("decided %+v", d)
	}
}

// TestLimits: a header that is too large, and more requests than may be under way.
func TestLimits(t *testing.T) {
	t.Parallel()
	began, end := make(chan bool), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("X-Large", strings.Repeat("x", maxHeaders))
			return
		}
		began <- true
		<-end
	}))
	defer server.Close()
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{to(t, server, "llm")}, Streams: 2})
	get := func(path string, headers ...string) *http.Request {
		return request(t, "GET", s.base+"/llm"+path, nil, append(headers, "X-Api-Key", s.standIn["llm"])...)
	}
	if resp, _ := do(t, tool(t), get("/", "X-Large", strings.Repeat("x", maxHeaders+8<<10))); resp.StatusCode != 431 {
		t.Errorf("a large header: %d", resp.StatusCode)
	}
	if resp, text := do(t, tool(t), get("/large")); resp.StatusCode != 502 ||
		!strings.Contains(text, "the service can't be reached") {
		t.Errorf("an answer with a large header: %d %s", resp.StatusCode, text)
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if resp, _ := do(t, tool(t), get("/")); resp.StatusCode != 200 {
				t.Error(resp.StatusCode)
			}
		})
		<-began
	}
	if resp, text := do(t, tool(t), get("/")); resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("the third: %d %s", resp.StatusCode, text)
	}
	close(end)
	all.Wait()
	server.Close()
	if resp, text := do(t, tool(t), get("/")); resp.StatusCode != 502 || !strings.Contains(text, "refused") {
		t.Errorf("a service that is gone: %d %s", resp.StatusCode, text)
	}
}

// pipes is a listener whose connections are made in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// TestIdle: a stream may be silent for long, and is cut after a quarter of an hour. There is no other limit of time.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		front, back := newPipes(), newPipes()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, pause := range []time.Duration{0, 14 * time.Minute, 14 * time.Minute, 16 * time.Minute} {
				select {
				case <-time.After(pause):
				case <-r.Context().Done():
					return
				}
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
		})}
		go server.Serve(back)
		defer server.Close()
		u, err := route.ParseUpstream("http://127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		g, err := New(t.Context(), Options{Agent: &mint{}, Dial: back.dial,
			Routes: route.Table{{Name: "llm", Profile: "main", Upstream: u, RenewOn: []int{401}}}})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		go g.Serve(front)
		client := &http.Client{Transport: &http.Transport{DialContext: front.dial, DisableKeepAlives: true}}
		began := time.Now()
		resp, err := client.Do(request(t, "GET", "http://gateway/llm/", nil, "X-Api-Key", g.Grants()[0].StandIn.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if string(got) != "xxx" || err == nil || time.Since(began) != 43*time.Minute {
			t.Errorf("%q after %v: %v", got, time.Since(began), err)
		}
	})
}

// TestBodies: a large body goes through unchanged in both directions, also one that can't be recorded.
func TestBodies(t *testing.T) {
	t.Parallel()
	m := &mint{}
	server := httptest.NewTLSServer(guarded(m))
	defer server.Close()
	s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
	trust(s, server)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	resp, text := do(t, tool(t), request(t, "PUT", s.base+"/llm/", bytes.NewReader(large), "X-Api-Key", s.standIn["llm"]))
	if resp.StatusCode != 200 || text != string(large) {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(text))
	}
	m.revoke()
	resp, _ = do(t, tool(t), request(t, "PUT", s.base+"/llm/", bytes.NewReader(large), "X-Api-Key", s.standIn["llm"]))
	if resp.StatusCode != 401 {
		t.Errorf("%d for a body that is too large to be recorded", resp.StatusCode)
	}
	for { // the renewal that it has started serves the next one
		if m.live() != "" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if resp, _ = do(t, tool(t), request(t, "PUT", s.base+"/llm/", bytes.NewReader(large), "X-Api-Key",
		s.standIn["llm"])); resp.StatusCode != 200 {
		t.Errorf("%d after the renewal", resp.StatusCode)
	}
}

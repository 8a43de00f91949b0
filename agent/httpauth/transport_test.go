package httpauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// forced is an agent that goes on to its next token at each forced renewal.
type forced struct {
	protocol.Agent
	mu     sync.Mutex
	tokens []string
	forced int
	err    error // of a forced renewal
	hosts  []string
}

func (f *forced) Token(_ context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts = append(f.hosts, req.Host)
	if req.Force {
		f.forced++
		if f.err != nil {
			return protocol.Token{}, f.err
		}
		if len(f.tokens) > 1 {
			f.tokens = f.tokens[1:]
		}
	}
	return fake(f.tokens[0], time.Hour), nil
}

// seen is a server that records its requests, and accepts one token.
type seen struct {
	mu       sync.Mutex
	good     string
	requests []string // token and body
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	s.requests = append(s.requests, strings.TrimSpace(token+" "+string(body)))
	good := s.good
	s.mu.Unlock()
	if token != good {
		http.Error(w, "fake refusal", http.StatusUnauthorized)
	}
}

// body hides its type from http.NewRequest, so that the request can't be sent again.
type body struct{ io.Reader }

func TestTransportRetries(t *testing.T) {
	t.Parallel()
	type step struct {
		body   func() io.Reader
		status int
		sent   []string
	}
	text := func() io.Reader { return strings.NewReader("text") }
	stream := func() io.Reader { return body{strings.NewReader("stream")} }
	nothing := func() io.Reader { return nil }
	for _, tt := range []struct {
		name   string
		tokens []string
		err    error
		steps  []step
		forced int
	}{
		{"accepted", []string{"fake-good"}, nil, []step{{nothing, 200, []string{"fake-good"}}, {text, 200, []string{"fake-good text"}}},
			0},
		{"no body", []string{"fake-old", "fake-good"}, nil, []step{{nothing, 200, []string{"fake-old", "fake-good"}}}, 1},
		{"a body that can be sent again", []string{"fake-old", "fake-good"}, nil,
			[]step{{text, 200, []string{"fake-old text", "fake-good text"}}}, 1},
		{"a body that can't: the next request has the benefit", []string{"fake-old", "fake-good"}, nil,
			[]step{{stream, 401, []string{"fake-old stream"}}, {stream, 200, []string{"fake-good stream"}}}, 1},
		{"the fresh one is refused as well, and no other is made", []string{"fake-old", "fake-older", "fake-oldest"}, nil,
			[]step{{nothing, 401, []string{"fake-old", "fake-older"}}, {nothing, 401, []string{"fake-older"}},
				{nothing, 401, []string{"fake-older"}}}, 1},
		{"there is no fresh one", []string{"fake-old"}, nil,
			[]step{{nothing, 401, []string{"fake-old"}}, {nothing, 401, []string{"fake-old"}}}, 1},
		{"a key that can't be renewed", []string{"fake-old"}, &protocol.Error{Code: protocol.CodeConfig, Message: "static"},
			[]step{{nothing, 401, []string{"fake-old"}}, {text, 401, []string{"fake-old text"}}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &seen{good: "fake-good"}
			server := httptest.NewServer(s)
			defer server.Close()
			f := &forced{tokens: tt.tokens, err: tt.err}
			a := NewAgent(f, "")
			defer a.Close()
			client := &http.Client{Transport: &Transport{Agent: a, Base: server.Client().Transport}}
			for i, step := range tt.steps {
				s.requests = nil
				req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL, step.body())
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer fake-of-the-caller")
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != step.status || !slices.Equal(s.requests, step.sent) {
					t.Errorf("request %d: %d after %q; want %d after %q", i, resp.StatusCode, s.requests, step.status, step.sent)
				}
				if resp.StatusCode == 401 && string(text) != "fake refusal\n" {
					t.Errorf("request %d: the refusal's body is %q", i, text)
				}
				if req.Header.Get("Authorization") != "Bearer fake-of-the-caller" ||
					resp.Request.Header.Get("Authorization") != "Bearer fake-of-the-caller" {
					t.Errorf("request %d: the caller's request was changed", i)
				}
				a.mu.Lock()
				f := a.calls[request{strings.TrimPrefix(server.URL, "http://"), true}]
				a.mu.Unlock()
				if f != nil {
					<-f.done // of a request that did not wait for it
				}
			}
			if f.forced != tt.forced {
				t.Errorf("%d renewals were forced, want %d", f.forced, tt.forced)
			}
		})
	}
}

// TestTransportRefuses: a request that must not carry a token is not sent. Its body is closed all the same.
func TestTransportRefuses(t *testing.T) {
	t.Parallel()
	f := protocoltest.NewFake(
		protocoltest.Profile{Name: "main", Token: "fake-access-1", Hosts: []string{"llm.example.com", "127.0.0.1"}},
	)
	a := NewAgent(f, "")
	defer a.Close()
	sent := 0
	transport := &Transport{Agent: a, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
		sent++
		if req.Header.Get("Authorization") != "Bearer fake-access-1" {
			t.Errorf("%s: sent with %q", req.URL, req.Header)
		}
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})}
	for target, want := range map[string]error{
		"https://llm.example.com/":              nil,
		"https://LLM.Example.com:443/":          nil,
		"https://llm.example.com:8443/":         protocol.ErrDenied,
		"http://127.0.0.1:8080/":                nil,
		"http://llm.example.com/":               protocol.ErrDenied,
		"https://llm.example.com.evil.example/": protocol.ErrDenied,
		"https://evil.example/llm.example.com":  protocol.ErrDenied,
		"http://evil.example/":                  protocol.ErrDenied,
		"https://[::1]/":                        protocol.ErrDenied,
		"http://127.0.0.1.evil.example/":        protocol.ErrDenied,
	} {
		before := sent
		closed := &closing{Reader: strings.NewReader("fake")}
		req, err := http.NewRequest("POST", target, closed)
		if err != nil {
			t.Fatal(err)
		}
		_, err = transport.RoundTrip(req)
		if !errors.Is(err, want) || (sent > before) != (want == nil) {
			t.Errorf("%s: %v, sent: %v; want %v", target, err, sent > before, want)
		}
		if want != nil && !closed.closed {
			t.Errorf("%s: the body is left open", target)
		}
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestTransportRedirects: the token follows redirects within its origin. After a redirect to another origin it is not sent
// again, not even back at the first one.
func TestTransportRedirects(t *testing.T) {
	t.Parallel()
	const home, away = "https://llm.example.com", "https://evil.example"
	for _, tt := range []struct {
		name  string
		steps []string
		with  []bool
	}{
		{"within the origin", []string{home + "/a", home + "/b", home + ":443/c", "https://LLM.example.com/d"},
			[]bool{true, true, true, true}},
		{"to another host", []string{home + "/a", away + "/b"}, []bool{true, false}},
		{"to a host below", []string{home + "/a", "https://files.llm.example.com/b"}, []bool{true, false}},
		{"to another port", []string{home + "/a", home + ":8443/b"}, []bool{true, false}},
		{"to plain http", []string{home + "/a", "http://llm.example.com/b"}, []bool{true, false}},
		{"there and back", []string{home + "/a", away + "/b", home + "/c", home + "/d"}, []bool{true, false, false, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1"}) // any host will do for the agent
			a := NewAgent(f, "")
			defer a.Close()
			step := 0
			client := &http.Client{Transport: &Transport{Agent: a, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
				token := req.Header.Get("Authorization")
				if got := token == "Bearer fake-access-1"; got != tt.with[step] || !got && token != "" {
					t.Errorf("%s was sent with %q", req.URL, token)
				}
				step++
				resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}
				if step < len(tt.steps) {
					resp.StatusCode = http.StatusTemporaryRedirect
					resp.Header.Set("Location", tt.steps[step])
				}
				return resp, nil
			})}}
			resp, err := client.Get(tt.steps[0])
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if step != len(tt.steps) {
				t.Errorf("%d requests, want %d", step, len(tt.steps))
			}
		})
	}
}

// TestTransportErrors: errors come from the agent or the network, and none holds the token.
func TestTransportErrors(t *testing.T) {
	t.Parallel()
	a := NewAgent(protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1"}), "")
	defer a.Close()
	broken := errors.New("connection refused")
	client := &http.Client{
		Transport: &Transport{Agent: a, Base: roundTrip(func(*http.Request) (*http.Response, error) { return nil, broken })},
	}
	_, err := client.Get("https://llm.example.com/")
	if !errors.Is(err, broken) || strings.Contains(err.Error(), "fake-access") {
		t.Error(err)
	}

	out := NewAgent(
		protocoltest.NewFake(
			protocoltest.Profile{Name: "main", Err: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out"}},
		),
		"",
	)
	defer out.Close()
	client.Transport = &Transport{Agent: out}
	if _, err := client.Get("https://llm.example.com/"); !errors.Is(err, protocol.ErrLoginRequired) {
		t.Errorf("through http.Client: %v", err)
	}
}

// TestTransportContext: the request's context bounds the wait for a token exactly. It does not end the renewal.
func TestTransportContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &plain{answer: func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
			time.Sleep(10 * time.Second)
			return fake("fake-access-1", time.Hour), nil
		}}
		a := NewAgent(p, "")
		defer a.Close()
		transport := &Transport{Agent: a, Base: answer{&http.Response{StatusCode: 200, Body: http.NoBody}}}
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", "https://llm.example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := transport.RoundTrip(req); !errors.Is(err, protocol.ErrUnavailable) || time.Since(began) != 250*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := transport.RoundTrip(req.WithContext(t.Context())); err != nil || time.Since(began) != 10*time.Second {
			t.Errorf("who waits longer shares the question: %v after %v", err, time.Since(began))
		}
		if p.asked.Load() != 1 {
			t.Errorf("asked %d times", p.asked.Load())
		}
	})
}

// TestTransportDump: a program that logs a response does not log the token.
func TestTransportDump(t *testing.T) {
	t.Parallel()
	s := &seen{good: "fake-access-1"}
	server := httptest.NewServer(s)
	defer server.Close()
	a := NewAgent(protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1"}), "")
	defer a.Close()
	resp, err := (&http.Client{Transport: &Transport{Agent: a}}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	var dump bytes.Buffer
	resp.Request.Write(&dump)
	if resp.StatusCode != 200 || strings.Contains(dump.String(), "fake-access") {
		t.Errorf("%d, %s", resp.StatusCode, dump.String())
	}
}

func TestSameOrigin(t *testing.T) {
	t.Parallel()
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for pair, want := range map[[2]string]bool{
		{"https://a.example", "https://A.example:443/x"}: true,
		{"http://a.example:80", "http://a.example"}:      true,
		{"https://a.example", "http://a.example:443"}:    false,
		{"https://a.example", "https://a.example.:443"}:  false,
		{"https://[::1]", "https://[::1]:443"}:           true,
		{"https://[::1]", "https://[::2]"}:               false,
	} {
		if got := sameOrigin(parse(pair[0]), parse(pair[1])); got != want {
			t.Errorf("%v: %v", pair, got)
		}
	}
}

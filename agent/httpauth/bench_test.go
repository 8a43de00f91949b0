package httpauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// BenchmarkRequire measures an accepted request in the middleware, without the cost of the request itself. `make bench` runs
// it.
func BenchmarkRequire(b *testing.B) {
	live := NewAgent(
		protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1", Expiry: time.Now().Add(time.Hour)}),
		"",
	)
	defer live.Close()
	tokens := []protocol.Secret{
		protocol.NewSecret("fake-old-token-of-some-length-0123456789abcdef"),
		protocol.NewSecret("fake-new-token-of-some-length-0123456789abcdef"),
	}
	for _, bench := range []struct {
		name   string
		policy Policy
	}{
		{"bearer", Policy{Mode: Bearer, Tokens: tokens, NoContext: true}},
		{"stored", Policy{Mode: Stored, Stored: live, NoContext: true}},
		{"bearer with context", Policy{Mode: Bearer, Tokens: tokens}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			guard, err := Require(bench.policy)
			if err != nil {
				b.Fatal(err)
			}
			served := 0
			h := guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", "Bearer "+tokens[1].Reveal())
			w := httptest.NewRecorder()
			b.ReportAllocs()
			asked := 0
			for b.Loop() {
				h.ServeHTTP(w, r)
				asked++
			}
			if served != asked {
				b.Fatalf("%d of %d requests were accepted", served, asked)
			}
		})
	}
}

// answer is a RoundTripper that sends nothing.
type answer struct{ response *http.Response }

func (a answer) RoundTrip(*http.Request) (*http.Response, error) { return a.response, nil }

// BenchmarkTransport measures what the token adds to a request: it sends the same request without and with it. `make bench`
// runs it.
func BenchmarkTransport(b *testing.B) {
	base := answer{&http.Response{StatusCode: http.StatusOK, Body: http.NoBody}}
	live := NewAgent(
		protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1", Expiry: time.Now().Add(time.Hour)}),
		"",
	)
	defer live.Close()
	if _, err := live.get(context.Background(), "llm.example.com"); err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name string
		sent http.RoundTripper
	}{{"plain", base}, {"with a token", &Transport{Agent: live, Base: base}}} {
		b.Run(bench.name, func(b *testing.B) {
			req, err := http.NewRequest("GET", "https://llm.example.com/v1/models", nil)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Accept", "application/json")
			req.Header.Set("User-Agent", "fake/1")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bench.sent.RoundTrip(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

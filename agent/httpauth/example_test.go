package httpauth_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/ccagent/ccagent/agent/httpauth"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// A client whose requests carry a valid token. Programs get their agent from protocol.PoolFromEnv; this one has a fake.
func ExampleTransport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "got ", r.Header.Get("Authorization"))
	}))
	defer server.Close()
	agent := protocoltest.NewFake(protocoltest.Profile{Name: "gateway", Token: "fake-access-1"})

	auth := httpauth.NewAgent(agent, "gateway")
	defer auth.Close()
	client := &http.Client{Transport: &httpauth.Transport{Agent: auth, Base: server.Client().Transport}}
	resp, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Println(string(text))
	// Output: got Bearer fake-access-1
}

// A token source for one host, as libraries want it.
func ExampleAgent_For() {
	agent := protocoltest.NewFake(protocoltest.Profile{Name: "gateway", Token: "fake-access-1", Hosts: []string{"llm.example.com"}})
	auth := httpauth.NewAgent(agent, "gateway")
	defer auth.Close()

	for _, host := range []string{"llm.example.com", "evil.example"} {
		token, err := auth.For(host).Token()
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(token.Type(), token.AccessToken)
	}
	// Output:
	// Bearer fake-access-1
	// profile gateway does not list this host
}

// A service that accepts two tokens while they are rotated.
func ExampleRequire() {
	guard, err := httpauth.Require(httpauth.Policy{
		Mode:   httpauth.Bearer,
		Tokens: []protocol.Secret{protocol.NewSecret("fake-old-1"), protocol.NewSecret("fake-new-2")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := httpauth.FromContext(r.Context())
		token, _ := who.AccessToken(r.Context())
		fmt.Fprint(w, "hello, bearer of ", token.Reveal())
	}))

	for _, token := range []string{"fake-new-2", "fake-older-0"} {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+token)
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
	}
	// Output:
	// 200  hello, bearer of fake-new-2
	// 401 Bearer error="invalid_token", error_description="the bearer token is not accepted" the bearer token is not accepted
}

// A service that answers everybody as long as it is signed in itself.
func ExamplePolicy_stored() {
	agent := protocoltest.NewFake(
		protocoltest.Profile{Name: "claude", Err: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out"}},
	)
	auth := httpauth.NewAgent(agent, "claude")
	defer auth.Close()
	guard, err := httpauth.Require(httpauth.Policy{Mode: httpauth.Stored, Stored: auth})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	guard(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 401 authentication is required: the service is not signed in
}

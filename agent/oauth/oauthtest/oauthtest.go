// Package oauthtest is an authorization server in memory, on a loopback port: it rotates refresh tokens, punishes the reuse
// of one by ending the whole sign-in, and misbehaves on request. Beside the token endpoint it has a small API that answers to
// living access tokens only, and every other endpoint that a sign-in may need: authorize (with a page that a person can click
// through), OpenID Connect, device authorization, revocation, introspection. Tests use it, and `ccagent demo` does.
//
//	server, err := oauthtest.Start(oauthtest.Options{Lifetime: 8 * time.Second})
//	signIn := server.Issue()                                          // as though a person had signed in
//	server.SetFault(oauthtest.Fault{Times: 1, Status: 503})           // the next renewal fails
//	if server.Counts().Reuses > 0 { ... }                             // somebody used a refresh token twice
//
// Its tokens are plainly fake: fake-access-7, fake-refresh-7. All methods may be called concurrently.
package oauthtest

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options are a server's settings; the zero Options is a server on an ephemeral port whose tokens live 8 hours.
type Options struct {
	Addr     string        // "" is 127.0.0.1:0
	Lifetime time.Duration // of access tokens; 0: 8 h; see SetLifetime
	ClientID string        // the one client known, others are refused with invalid_client; "" knows every client

	ClientSecret string           // what the client proves itself with, by header or parameter; "" is a public client
	ClientKey    crypto.PublicKey // or this, by an assertion that it verifies (private_key_jwt)
	AssertionKey crypto.PublicKey // whose assertions grant jwt-bearer takes
	Ask          bool             // the authorize endpoint shows a page and waits for a click; otherwise it consents by itself
	ID           IDFault          // how ID tokens are wrong; a test may change it between requests
	ProfileScope string           // what the profile and userinfo endpoints want a token to have; "" is nothing
}

// Server is a running authorization server.
type Server struct {
	Options
	listener net.Listener
	server   http.Server
	key      func() (*rsa.PrivateKey, error) // signs ID tokens; made when first asked for

	mu       sync.Mutex
	codes    map[string]*attempt // authorization codes
	devices  map[string]*device  // by device code
	lifetime time.Duration
	serial   int
	refresh  map[string]*refreshToken
	access   map[string]*accessToken
	fault    Fault            // of the token endpoint
	faults   map[string]Fault // of the others, by path
	hits     map[string]int   // by path
	counts   Counts
}

// Counts are what a server has seen.
type Counts struct {
	Requests  int // to the token endpoint, whatever became of them
	Refreshes int // renewals granted
	Reuses    int // refresh tokens presented a second time; each ended its sign-in
	API       int // requests that the API answered
	Refused   int // requests that the API refused for their token
	Exchanges int // authorization codes redeemed
	Replays   int // authorization codes presented a second time; each ended its sign-in
	Polls     int // of device codes
	Machines  int // tokens for client credentials and assertions
	Revoked   int // tokens revoked by their holder
}

// TB is the part of testing.TB that New needs; the package is linked into a program, so it does not import testing.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(args ...any)
}

// New starts a server that ends with the test.
func New(t TB, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server. Close it.
func Start(o Options) (*Server, error) {
	listener, err := net.Listen("tcp", cmp.Or(o.Addr, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	s := &Server{
		Options:  o,
		listener: listener,
		key:      sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
		codes:    make(map[string]*attempt),
		devices:  make(map[string]*device),
		lifetime: cmp.Or(o.Lifetime, 8*time.Hour),
		refresh:  make(map[string]*refreshToken),
		access:   make(map[string]*accessToken),
		faults:   make(map[string]Fault),
		hits:     make(map[string]int),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", s.serveAuthorize)
	mux.HandleFunc("POST /authorize", s.serveConsent)
	mux.HandleFunc("GET /paste", servePaste)
	mux.HandleFunc("POST /device", s.serveDevice)
	mux.HandleFunc("GET /activate", s.serveActivate)
	mux.HandleFunc("POST /activate", s.serveActivation)
	mux.HandleFunc("POST /revoke", s.serveRevoke)
	mux.HandleFunc("POST /introspect", s.serveIntrospect)
	mux.HandleFunc("GET /userinfo", s.authorized(o.ProfileScope, userinfo))
	mux.HandleFunc("GET /keys", s.serveKeys)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.serveDescription)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.serveDescription)
	mux.HandleFunc("POST /v1/oauth/token", s.serveToken)
	mux.HandleFunc("GET /api/oauth/profile", s.authorized(o.ProfileScope, profile))
	mux.HandleFunc("GET /api/whoami", s.authorized("", whoami))
	mux.HandleFunc("POST /v1/messages", s.authorized("", message))
	s.server = http.Server{Handler: s.faulty(mux), ReadHeaderTimeout: 10 * time.Second}
	go s.server.Serve(listener) // ends with Close
	return s, nil
}

// Close ends the server at once, requests under way included.
func (s *Server) Close() { s.server.Close() }

// URL is the server's base, http://127.0.0.1:PORT.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// TokenURL is the token endpoint: POST, JSON or form, grant_type refresh_token.
func (s *Server) TokenURL() string { return s.URL() + "/v1/oauth/token" }

// ProfileURL is the user profile endpoint; it wants a living access token.
func (s *Server) ProfileURL() string { return s.URL() + "/api/oauth/profile" }

// APIURL answers {"id":"alice"} to a living access token, in either header, and 401 to everything else. POST /v1/messages
// under URL does the same with a message.
func (s *Server) APIURL() string { return s.URL() + "/api/whoami" }

// Counts returns what the server has seen so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

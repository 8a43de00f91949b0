// Package oauthtest is an authorization server in memory, on a loopback port. It rotates refresh tokens, ends the whole sign-in
// when one of them is used twice, and misbehaves on request. It has a token endpoint, every other endpoint that a sign-in may
// need (authorize, with a page that a person can click through, OpenID Connect, device authorization, revocation, introspection,
// registration), a small API that answers to valid access tokens only, and an MCP server's address that describes itself. Tests
// use it, and so does `ccagent demo`.
//
//	server, err := oauthtest.Start(oauthtest.Options{Lifetime: 8 * time.Second})
//	signIn := server.Issue()                                          // as if a person had signed in
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
	Addr     string        // "": 127.0.0.1:0
	Lifetime time.Duration // of access tokens; 0: 8 hours; see SetLifetime
	ClientID string        // the only client that is known, others are refused with invalid_client; "": every client is known

	ClientSecret string           // the client must send it, in a header or as a parameter; "": a public client
	ClientKey    crypto.PublicKey // the client must send an assertion that this key verifies instead (private_key_jwt)
	AssertionKey crypto.PublicKey // verifies the assertions of grant jwt-bearer; nil: that grant is refused
	Ask          bool             // the authorize endpoint shows a page and waits for a click; otherwise it consents by itself
	ID           IDFault          // what is wrong with ID tokens; a test may change it between requests
	ProfileScope string           // the scope that a token needs at the profile and userinfo endpoints; "": none

	AuthMethods     []string // how clients may send their secret, which the description lists; nil: in every way, and it lists none
	HideAuthMethods bool     // the description does not list AuthMethods
	RedirectPath    string   // of redirects to this machine; "": /callback
	Exchange        bool     // the server does token exchange (RFC 8693), and its description says so
	HideExchange    bool     // its description does not
	Audiences       []string // that tokens can be exchanged for; nil: every one
	Registers       bool     // clients register themselves (RFC 7591), and no others are known
	MCPScope        string   // the scope that a token needs at MCPURL; "": none
	// Edit changes a description before it is sent, by the path of the request: that of the issuer, that of MCPURL, or that of
	// a client which has registered itself. A test may change it between requests.
	Edit     func(path string, reply map[string]any)
	RawBasic bool // the server does not decode the name and secret in a Basic header, as some providers don't
}

// Server is a running authorization server.
type Server struct {
	Options
	listener net.Listener
	server   http.Server
	key      func() (*rsa.PrivateKey, error) // signs ID tokens; made when it is first used

	mu       sync.Mutex
	codes    map[string]*attempt // authorization codes
	clients  map[string]*client  // that have registered themselves
	devices  map[string]*device  // by device code
	lifetime time.Duration
	serial   int
	refresh  map[string]*refreshToken
	access   map[string]*accessToken
	fault    Fault                        // of the token endpoint
	faults   map[string]Fault             // of the others, by path
	hits     map[string]int               // by path
	sent     map[string]map[string]string // what the last request had, by path
	counts   Counts
}

// Counts are the requests that a server has seen.
type Counts struct {
	Requests  int // to the token endpoint, answered or not
	Refreshes int // renewals granted
	Reuses    int // refresh tokens that were used a second time; each ended its sign-in
	API       int // requests that the API answered
	Refused   int // requests that the API refused because of their token
	Exchanges int // authorization codes that were redeemed
	Replays   int // authorization codes that were used a second time; each ended its sign-in
	Polls     int // requests with a device code
	Machines  int // tokens issued for client credentials and assertions
	Revoked   int // tokens revoked by the client
	Derived   int // tokens issued for others (RFC 8693)
}

// TB is the part of testing.TB that New needs. The package does not import testing, because it is linked into ccagent.
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

// Start starts a server. The caller must close it.
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
		clients:  make(map[string]*client),
		devices:  make(map[string]*device),
		lifetime: cmp.Or(o.Lifetime, 8*time.Hour),
		refresh:  make(map[string]*refreshToken),
		access:   make(map[string]*accessToken),
		faults:   make(map[string]Fault),
		hits:     make(map[string]int),
		sent:     make(map[string]map[string]string),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", s.serveAuthorize)
	mux.HandleFunc("POST /authorize", s.serveConsent)
	mux.HandleFunc("GET /paste", servePaste)
	mux.HandleFunc("POST /mcp", s.serveMCP)
	mux.HandleFunc("GET "+resourcePath, s.serveResource)
	if o.Registers {
		mux.HandleFunc("POST /register", s.serveRegister)
		mux.HandleFunc("DELETE /register/{id}", s.serveUnregister)
	}
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

// Close ends the server at once, and the requests that are running with it.
func (s *Server) Close() { s.server.Close() }

// URL is the server's base, http://127.0.0.1:PORT.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// TokenURL is the token endpoint. It takes POST with JSON or a form.
func (s *Server) TokenURL() string { return s.URL() + "/v1/oauth/token" }

// ProfileURL is provider claude's user profile endpoint. It wants a valid access token.
func (s *Server) ProfileURL() string { return s.URL() + "/api/oauth/profile" }

// APIURL answers {"id":"alice"} to a valid access token, in the Authorization or the x-api-key header, and 401 to everything
// else. POST /v1/messages does the same with a message.
func (s *Server) APIURL() string { return s.URL() + "/api/whoami" }

// Counts returns the requests so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

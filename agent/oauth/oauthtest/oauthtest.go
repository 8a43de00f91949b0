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
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
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

// grant is one sign-in with all that descends from it.
type grant struct {
	revoked   bool
	refreshes int
	scopes    []string
	audience  []string // what the request named as audience (a common extension) and resource (RFC 8707)
}

type refreshToken struct {
	grant *grant
	spent bool
}

type accessToken struct {
	grant   *grant
	expiry  time.Time
	revoked bool
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

// SignIn is what a sign-in brings.
type SignIn struct {
	AccessToken  string
	RefreshToken string
	Expiry       time.Time // millisecond precision
	Scopes       []string
	Subscription string
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

// Issue makes a new sign-in.
func (s *Server) Issue() SignIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue(&grant{scopes: defaultScopes})
}

var defaultScopes = []string{"user:inference", "user:profile"}

func (s *Server) issue(g *grant) SignIn {
	s.serial++
	signIn := SignIn{
		AccessToken:  fmt.Sprintf("fake-access-%d", s.serial),
		RefreshToken: fmt.Sprintf("fake-refresh-%d", s.serial),
		Expiry:       time.Now().Add(s.lifetime).Truncate(time.Millisecond),
		Scopes:       g.scopes,
		Subscription: "max",
	}
	s.access[signIn.AccessToken] = &accessToken{grant: g, expiry: signIn.Expiry}
	s.refresh[signIn.RefreshToken] = &refreshToken{grant: g}
	return signIn
}

// SetLifetime sets how long the access tokens live that are issued from now on.
func (s *Server) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// RevokeToken ends one access token before its time; its sign-in stays good.
func (s *Server) RevokeToken(access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.access[access]; t != nil {
		t.revoked = true
	}
}

// RevokeGrant ends the sign-in that a token of either kind descends from, and all its tokens.
func (s *Server) RevokeGrant(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		g.revoked = true
	}
}

func (s *Server) grantOf(token string) *grant {
	if t := s.access[token]; t != nil {
		return t.grant
	}
	if t := s.refresh[token]; t != nil {
		return t.grant
	}
	return nil
}

// Live reports whether the API would answer to an access token.
func (s *Server) Live(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.access[access]
	return t != nil && !t.revoked && !t.grant.revoked && time.Now().Before(t.expiry)
}

// Audience returns what the sign-in that a token of either kind descends from was asked for: audience, then each resource.
func (s *Server) Audience(token string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		return slices.Clone(g.audience)
	}
	return nil
}

// Renewable reports whether a refresh token would be accepted.
func (s *Server) Renewable(refresh string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.refresh[refresh]
	return t != nil && !t.spent && !t.grant.revoked
}

// Refreshes returns how often the sign-in that a token of either kind descends from was renewed.
func (s *Server) Refreshes(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		return g.refreshes
	}
	return 0
}

// Counts returns what the server has seen so far.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// rotate spends a refresh token and returns its successor and "", or an error code of RFC 6749 section 5.2. Presenting a
// spent one ends its sign-in (RFC 9700 section 4.14.2).
func (s *Server) rotate(presented string) (SignIn, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.refresh[presented]
	switch {
	case t == nil || t.grant.revoked && !t.spent:
		return SignIn{}, "invalid_grant"
	case t.spent:
		s.counts.Reuses++
		t.grant.revoked = true
		return SignIn{}, "invalid_grant"
	}
	t.spent = true
	t.grant.refreshes++
	s.counts.Refreshes++
	return s.issue(t.grant), ""
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	fault := s.takeFault()
	if !fault.wait(r.Context(), fault.Delay) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	params := make(map[string]string)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		if json.NewDecoder(r.Body).Decode(&params) != nil {
			fault.answer(w, r, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
			return
		}
	} else {
		params = formOf(r)
	}
	status, reply := http.StatusOK, map[string]any(nil)
	switch {
	case fault.instead() && !fault.Rotate: // the answer is decided, and nothing is spent
	case !s.proven(r, params):
		status, reply = http.StatusUnauthorized, map[string]any{"error": "invalid_client"}
	default:
		if reply = s.grantToken(params); reply["error"] != nil {
			status = http.StatusBadRequest
		}
	}
	if !fault.wait(r.Context(), fault.Lag) {
		return
	}
	fault.answer(w, r, status, reply)
}

// formOf reads a form; of what can't be parsed nothing is there, and a value given twice is one that fits nothing, but for
// resource, which may be (RFC 8707).
func formOf(r *http.Request) map[string]string {
	r.ParseForm()
	params := make(map[string]string)
	for name, values := range r.PostForm {
		params[name] = strings.Join(values, " ")
	}
	return params
}

func audienceOf(audience, resource string) []string {
	return append(strings.Fields(audience), strings.Fields(resource)...)
}

// grantToken answers a token request of a known client, with an error of RFC 6749 section 5.2 where it is refused.
func (s *Server) grantToken(params map[string]string) map[string]any {
	var signIn SignIn
	code, nonce := "", ""
	switch params["grant_type"] {
	case "refresh_token":
		if params["refresh_token"] == "" {
			return map[string]any{"error": "invalid_request"}
		}
		signIn, code = s.rotate(params["refresh_token"])
	case "authorization_code":
		signIn, nonce, code = s.redeem(params)
	case "urn:ietf:params:oauth:grant-type:device_code":
		signIn, code = s.poll(params["device_code"])
	case "client_credentials":
		if s.ClientSecret == "" && s.ClientKey == nil {
			return map[string]any{"error": "unauthorized_client"}
		}
		return s.machine(params)
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if !s.asserted(s.AssertionKey, params["assertion"]) {
			return map[string]any{"error": "invalid_grant", "error_description": "assertion not valid"}
		}
		return s.machine(params)
	default:
		return map[string]any{"error": "unsupported_grant_type"}
	}
	if code != "" {
		return map[string]any{"error": code, "error_description": "the grant was not found, not valid, or not granted yet"}
	}
	reply := s.reply(signIn)
	reply["refresh_token"] = signIn.RefreshToken
	if slices.Contains(signIn.Scopes, "openid") {
		reply["id_token"] = s.idToken(params["client_id"], nonce)
	} else {
		reply["account"] = map[string]any{"uuid": "00000000-0000-4000-8000-000000000001", "email_address": "alice@example.com"}
		reply["organization"] = map[string]any{"uuid": "00000000-0000-4000-8000-000000000002", "name": "Example"}
	}
	return reply
}

// reply is what every grant is answered with.
func (s *Server) reply(signIn SignIn) map[string]any {
	return map[string]any{
		"token_type": "Bearer", "access_token": signIn.AccessToken, "expires_in": s.secondsOf(signIn), "scope": strings.Join(signIn.Scopes, " "),
	}
}

// machine grants an access token without a refresh token.
func (s *Server) machine(params map[string]string) map[string]any {
	s.mu.Lock()
	s.counts.Machines++
	signIn := s.issue(&grant{scopes: strings.Fields(params["scope"]), audience: audienceOf(params["audience"], params["resource"])})
	delete(s.refresh, signIn.RefreshToken)
	s.mu.Unlock()
	return s.reply(signIn)
}

// secondsOf is the lifetime as a reply says it: whole seconds, as servers send them, unless it is very short.
func (s *Server) secondsOf(signIn SignIn) any {
	left := time.Until(signIn.Expiry)
	if left < 2*time.Second {
		return max(left, 0).Seconds()
	}
	return int64(left.Round(time.Second) / time.Second)
}

// authorized lets requests with a living access token through, as a bearer token or as x-api-key, if it has the scope.
func (s *Server) authorized(scope string, reply func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !isBearer {
			token = r.Header.Get("X-Api-Key")
		}
		live := s.Live(token)
		s.mu.Lock()
		missing := live && scope != "" && !slices.Contains(s.access[token].grant.scopes, scope)
		if live && !missing {
			s.counts.API++
		} else {
			s.counts.Refused++
		}
		s.mu.Unlock()
		if missing { // RFC 6750 section 3.1
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, scope))
			writeJSON(w, http.StatusForbidden, map[string]any{"error": "insufficient_scope"})
			return
		}
		if !live {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeJSON(w, http.StatusUnauthorized, map[string]any{"type": "error",
				"error": map[string]any{"type": "authentication_error", "message": "invalid bearer token"}})
			return
		}
		writeJSON(w, http.StatusOK, reply())
	}
}

func whoami() any { return map[string]any{"id": "alice"} }

func profile() any {
	return map[string]any{
		"account": map[string]any{"uuid": "00000000-0000-4000-8000-000000000001", "email": "alice@example.com",
			"full_name": "Alice Example", "display_name": "Alice", "has_claude_max": true, "has_claude_pro": false},
		"organization": map[string]any{"uuid": "00000000-0000-4000-8000-000000000002", "name": "Example",
			"organization_type": "claude_max", "billing_type": "none", "rate_limit_tier": "default"},
	}
}

func message() any {
	return map[string]any{"id": "msg_fake", "type": "message", "role": "assistant", "model": "fake", "stop_reason": "end_turn",
		"content": []any{map[string]any{"type": "text", "text": "hello"}},
		"usage":   map[string]any{"input_tokens": 1, "output_tokens": 1}}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // a client that went away is not our failure
}

// CredentialsFile returns the sign-in as Claude Code stores it, with keys of other programs beside it.
func (s SignIn) CredentialsFile() []byte {
	data, err := json.MarshalIndent(map[string]any{
		"claudeAiOauth": map[string]any{
			"accessToken": s.AccessToken, "refreshToken": s.RefreshToken, "expiresAt": s.Expiry.UnixMilli(),
			"scopes": s.Scopes, "subscriptionType": s.Subscription, "rateLimitTier": "default",
		},
		"mcpOAuth": map[string]any{"fake-server": map[string]any{"accessToken": "fake-mcp"}},
	}, "", "  ")
	if err != nil {
		return nil // strings and numbers always encode
	}
	return data
}

// edited returns a copy of reply with what edit does to it.
func edited(reply map[string]any, edit func(map[string]any)) map[string]any {
	if edit == nil || reply == nil {
		return reply
	}
	reply = maps.Clone(reply)
	edit(reply)
	return reply
}

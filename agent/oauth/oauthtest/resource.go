package oauthtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// MCPURL is a protected resource as an MCP server is one: it answers to access tokens that were asked for it alone (RFC 8707),
// and describes itself (RFC 9728).
func (s *Server) MCPURL() string { return s.URL() + "/mcp" }

// resourcePath is where the description of MCPURL is.
const resourcePath = "/.well-known/oauth-protected-resource/mcp"

func (s *Server) serveMCP(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	live := s.Live(token) && slices.Contains(s.Audience(token), s.MCPURL())
	challenge := fmt.Sprintf("Bearer resource_metadata=%q", s.URL()+resourcePath)
	if s.MCPScope != "" {
		challenge += fmt.Sprintf(", scope=%q", s.MCPScope)
	}
	s.mu.Lock()
	lacks := live && s.MCPScope != "" && !slices.Contains(s.access[token].grant.scopes, s.MCPScope)
	s.mu.Unlock()
	switch {
	case !live:
		w.Header().Set("WWW-Authenticate", challenge)
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
	case lacks:
		w.Header().Set("WWW-Authenticate", challenge+`, error="insufficient_scope"`)
		writeJSON(w, http.StatusForbidden, map[string]any{"error": "insufficient_scope"})
	default:
		writeJSON(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{}})
	}
}

func (s *Server) serveResource(w http.ResponseWriter, r *http.Request) {
	s.describe(w, r, http.StatusOK, map[string]any{
		"resource": s.MCPURL(), "authorization_servers": []string{s.Issuer()}, "bearer_methods_supported": []string{"header"},
	})
}

// SetEdit changes what Edit is from now on.
func (s *Server) SetEdit(edit func(path string, reply map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Edit = edit
}

// describe answers with a description, or what Edit makes of it.
func (s *Server) describe(w http.ResponseWriter, r *http.Request, status int, reply map[string]any) {
	s.mu.Lock()
	edit := s.Edit
	s.mu.Unlock()
	if edit != nil {
		edit(r.URL.Path, reply)
	}
	writeJSON(w, status, reply)
}

// client is one that has registered itself.
type client struct {
	secret, token string
	redirects     []string
}

// serveRegister makes a client (RFC 7591). It is known until it is forgotten.
func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Redirects []string `json:"redirect_uris"`
		Method    string   `json:"token_endpoint_auth_method"`
		Kind      string   `json:"application_type"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wanted)
	if err != nil || len(wanted.Redirects) == 0 || wanted.Kind != "native" { // OpenID lets only native clients redirect to loopback
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_client_metadata"})
		return
	}
	s.mu.Lock()
	s.serial++
	id := fmt.Sprintf("fake-client-%d", s.serial)
	c := &client{redirects: wanted.Redirects, token: fmt.Sprintf("fake-registration-%d", s.serial)}
	reply := map[string]any{
		"client_id": id, "redirect_uris": wanted.Redirects, "token_endpoint_auth_method": wanted.Method,
		"registration_client_uri": s.URL() + "/register/" + id, "registration_access_token": c.token,
	}
	if wanted.Method != "none" {
		c.secret = fmt.Sprintf("fake-secret-%d", s.serial)
		reply["client_secret"], reply["client_secret_expires_at"] = c.secret, 0
	}
	s.clients[id] = c
	s.mu.Unlock()
	s.describe(w, r, http.StatusCreated, reply)
}

// serveUnregister forgets a client (RFC 7592 section 2.3).
func (s *Server) serveUnregister(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	c := s.clients[r.PathValue("id")]
	known := c != nil && r.Header.Get("Authorization") == "Bearer "+c.token
	s.mu.Unlock()
	if !known {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	s.Forget(r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

// Forget forgets a client that has registered itself, as a server does that keeps them in memory.
func (s *Server) Forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, id)
}

// Clients returns the ids of the clients that have registered themselves, sorted.
func (s *Server) Clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := []string{}
	for id := range s.clients {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// registered returns a client that has registered itself, nil where there is none of that id.
func (s *Server) registered(id string) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[id]
}

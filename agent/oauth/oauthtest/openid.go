package oauthtest

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// IDFault is what is wrong with ID tokens, with the keys that verify them, and with the server's description of itself. The zero
// IDFault is a server without a fault.
type IDFault struct {
	Issuer   string        // what the description and ID tokens call the issuer
	Audience string        // in place of the client
	Nonce    string        // in place of the request's
	Clock    time.Duration // how far the server's clock is ahead
	OtherKey bool          // ID tokens are signed by a key that is not published
	Unsigned bool          // ID tokens are not signed (alg none)
	Missing  bool          // there is no ID token at all
	Once     bool          // renewals bring none
	Lifetime time.Duration // of ID tokens; 0: 5 minutes
	Subject  string        // in place of alice's

	Claims map[string]any    // in ID tokens, beside the usual claims or in place of them; nil takes one away
	Keys   []json.RawMessage // published before the server's own key
}

const keyID = "fake-key-1"

// idToken returns an ID token for alice, nil where there is to be none.
func (s *Server) idToken(client, nonce string) any {
	f := s.ID
	if f.Missing {
		return nil
	}
	at := time.Now().Add(f.Clock)
	all := map[string]any{
		"iss": cmp.Or(f.Issuer, s.URL()), "aud": cmp.Or(f.Audience, client), "nonce": cmp.Or(f.Nonce, nonce),
		"iat": at.Unix(), "exp": at.Add(cmp.Or(f.Lifetime, 5*time.Minute)).Unix(), "sub": cmp.Or(f.Subject, "alice-1"),
		"email": "alice@example.com", "name": "Alice Example", "jti": rand.Text(),
	}
	maps.Copy(all, f.Claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	claims, err := json.Marshal(all)
	if err != nil {
		return nil // can't happen: strings and numbers always encode
	}
	if f.Unsigned {
		header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
		return header + "." + base64.RawURLEncoding.EncodeToString(claims) + "."
	}
	key, err := s.key()
	if f.OtherKey {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return nil
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}}, nil)
	if err != nil {
		return nil
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return nil
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		return nil
	}
	return token
}

func (s *Server) serveKeys(w http.ResponseWriter, _ *http.Request) {
	key, err := s.key()
	if err != nil {
		http.Error(w, "no key", http.StatusInternalServerError)
		return
	}
	keys := []any{}
	for _, k := range s.ID.Keys {
		keys = append(keys, k)
	}
	own := jose.JSONWebKey{Key: key.Public(), KeyID: keyID, Algorithm: "RS256", Use: "sig"}
	writeJSON(w, http.StatusOK, map[string]any{"keys": append(keys, own)})
}

// Issuer is the name of the server as an issuer. It describes itself as OpenID Connect Discovery and RFC 8414 say.
func (s *Server) Issuer() string { return s.URL() }

func (s *Server) serveDescription(w http.ResponseWriter, r *http.Request) {
	description := map[string]any{
		"issuer":                                         cmp.Or(s.ID.Issuer, s.Issuer()),
		"authorization_endpoint":                         s.AuthorizeURL(),
		"token_endpoint":                                 s.TokenURL(),
		"device_authorization_endpoint":                  s.DeviceURL(),
		"revocation_endpoint":                            s.URL() + "/revoke",
		"introspection_endpoint":                         s.URL() + "/introspect",
		"userinfo_endpoint":                              s.URL() + "/userinfo",
		"jwks_uri":                                       s.URL() + "/keys",
		"response_types_supported":                       []string{"code"},
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
	}
	if s.AuthMethods != nil && !s.HideAuthMethods {
		description["token_endpoint_auth_methods_supported"] = s.AuthMethods
	}
	if s.Exchange && !s.HideExchange {
		description["grant_types_supported"] = []string{"authorization_code", "refresh_token", exchangeGrant}
	}
	if s.Registers {
		description["registration_endpoint"] = s.URL() + "/register"
	}
	s.describe(w, r, http.StatusOK, description)
}

func userinfo() any {
	return map[string]any{"sub": "alice-1", "email": "alice@example.com", "name": "Alice Example", "org_name": "Example"}
}

// serveRevoke ends a token (RFC 7009). With a refresh token it ends the whole sign-in.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	params, ok := s.clientForm(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	if t := s.refresh[params["token"]]; t != nil && !t.spent {
		t.grant.revoked = true
		s.counts.Revoked++
	} else if t := s.access[params["token"]]; t != nil {
		t.revoked = true
		s.counts.Revoked++
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK) // also for a token that is not known, or spent already (section 2.2)
}

// serveIntrospect says whether an access token is valid (RFC 7662).
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	if params, ok := s.clientForm(w, r); ok {
		writeJSON(w, http.StatusOK, map[string]any{"active": s.Live(params["token"])})
	}
}

// clientForm reads the parameters of a request, and refuses it unless it comes from the client that is known.
func (s *Server) clientForm(w http.ResponseWriter, r *http.Request) (map[string]string, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	params := map[string]string{}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		json.NewDecoder(r.Body).Decode(&params) // a parameter that can't be decoded is missing
	} else {
		params = formOf(r)
	}
	if !s.authenticated(r, params) {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return nil, false
	}
	return params, true
}

package oauthtest

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// IDFault is how ID tokens and the description are wrong; the zero IDFault is right.
type IDFault struct {
	Issuer   string        // what the description and ID tokens call the issuer
	Audience string        // in place of the client
	Nonce    string        // in place of the request's
	Clock    time.Duration // how far the provider's clock is ahead
	OtherKey bool          // signed by a key that is not published
	Unsigned bool          // alg none
	Missing  bool          // no ID token at all
}

const keyID = "fake-key-1"

// idToken signs one for alice, whom a client has signed in.
func (s *Server) idToken(client, nonce string) any {
	f := s.ID
	if f.Missing {
		return nil
	}
	at := time.Now().Add(f.Clock)
	claims, err := json.Marshal(map[string]any{
		"iss": cmp.Or(f.Issuer, s.URL()), "aud": cmp.Or(f.Audience, client), "nonce": cmp.Or(f.Nonce, nonce),
		"iat": at.Unix(), "exp": at.Add(5 * time.Minute).Unix(), "sub": "alice-1", "email": "alice@example.com",
		"name": "Alice Example",
	})
	if err != nil {
		return nil // strings and numbers always encode
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
	writeJSON(
		w,
		http.StatusOK,
		jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: keyID, Algorithm: "RS256", Use: "sig"}}},
	)
}

// Issuer describes itself by OpenID Connect Discovery and RFC 8414 alike.
func (s *Server) Issuer() string { return s.URL() }

func (s *Server) serveDescription(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                        cmp.Or(s.ID.Issuer, s.Issuer()),
		"authorization_endpoint":        s.AuthorizeURL(),
		"token_endpoint":                s.TokenURL(),
		"device_authorization_endpoint": s.DeviceURL(),
		"revocation_endpoint":           s.URL() + "/revoke",
		"introspection_endpoint":        s.URL() + "/introspect",
		"userinfo_endpoint":             s.URL() + "/userinfo",
		"jwks_uri":                      s.URL() + "/keys",
		"response_types_supported":      []string{"code"},
		"authorization_response_iss_parameter_supported": true,
	})
}

func userinfo() any {
	return map[string]any{"sub": "alice-1", "email": "alice@example.com", "name": "Alice Example", "org_name": "Example"}
}

// serveRevoke ends a token (RFC 7009): with a refresh token its whole sign-in.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	params, ok := s.known(w, r)
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
	w.WriteHeader(http.StatusOK) // a token that is not known, or spent, is as good as revoked (section 2.2)
}

// serveIntrospect says whether an access token lives (RFC 7662).
func (s *Server) serveIntrospect(w http.ResponseWriter, r *http.Request) {
	if params, ok := s.known(w, r); ok {
		writeJSON(w, http.StatusOK, map[string]any{"active": s.Live(params["token"])})
	}
}

// known reads the form of a client that is known.
func (s *Server) known(w http.ResponseWriter, r *http.Request) (map[string]string, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	params := map[string]string{}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		json.NewDecoder(r.Body).Decode(&params) // what can't be decoded is missing
	} else {
		params = formOf(r)
	}
	if !s.proven(r, params) {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return nil, false
	}
	return params, true
}

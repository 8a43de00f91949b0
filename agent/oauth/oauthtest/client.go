package oauthtest

import (
	"crypto"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// SetClientSecret replaces the secret that the client must send, as when the old one has expired.
func (s *Server) SetClientSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ClientSecret = secret
}

func (s *Server) secret() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ClientSecret
}

// authenticated reports whether a request comes from the client that is known (RFC 6749 section 2.3): by its name alone, by its
// secret in a header or a parameter, or by an assertion. It adds the name and secret of a header to params.
func (s *Server) authenticated(r *http.Request, params map[string]string) bool {
	method := "none"
	if params["client_secret"] != "" {
		method = "client_secret_post"
	}
	if id, secret, ok := r.BasicAuth(); ok {
		if params["client_secret"] != "" {
			return false
		}
		if !s.RawBasic {
			var badID, badSecret error
			id, badID = url.QueryUnescape(id)
			secret, badSecret = url.QueryUnescape(secret)
			if badID != nil || badSecret != nil {
				return false
			}
		}
		method, params["client_id"], params["client_secret"] = "client_secret_basic", id, secret
	}
	client := s.registered(params["client_id"])
	switch {
	case s.Registers:
		return client != nil && subtle.ConstantTimeCompare([]byte(params["client_secret"]), []byte(client.secret)) == 1 &&
			(s.AuthMethods == nil || slices.Contains(s.AuthMethods, method))
	case s.ClientID != "" && params["client_id"] != s.ClientID:
		return false
	case s.ClientKey != nil:
		return params["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" &&
			s.asserted(s.ClientKey, params["client_assertion"])
	case s.secret() != "":
		return (s.AuthMethods == nil || slices.Contains(s.AuthMethods, method)) &&
			subtle.ConstantTimeCompare([]byte(params["client_secret"]), []byte(s.secret())) == 1
	}
	return true
}

// asserted reports whether an assertion is signed with the key, meant for this server and not expired (RFC 7523 section 3).
func (s *Server) asserted(key crypto.PublicKey, assertion string) bool {
	if key == nil {
		return false
	}
	signed, err := jose.ParseSignedCompact(assertion, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return false
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return false
	}
	var claims struct {
		Audience string `json:"aud"`
		Expiry   int64  `json:"exp"`
	}
	return json.Unmarshal(payload, &claims) == nil && (claims.Audience == s.TokenURL() || claims.Audience == s.URL()) &&
		time.Now().Before(time.Unix(claims.Expiry, 0))
}

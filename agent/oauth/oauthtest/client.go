package oauthtest

import (
	"crypto"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// proven reports whether a request comes from the client that is known (RFC 6749 section 2.3): by name alone, by its
// secret in a header or parameter, or by an assertion. It adds the client_id of a header to params.
func (s *Server) proven(r *http.Request, params map[string]string) bool {
	if id, secret, ok := r.BasicAuth(); ok {
		id, err1 := url.QueryUnescape(id)
		secret, err2 := url.QueryUnescape(secret)
		if err1 != nil || err2 != nil || params["client_secret"] != "" {
			return false
		}
		params["client_id"], params["client_secret"] = id, secret
	}
	switch {
	case s.ClientID != "" && params["client_id"] != s.ClientID:
		return false
	case s.ClientKey != nil:
		return params["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" &&
			s.asserted(s.ClientKey, params["client_assertion"])
	case s.ClientSecret != "":
		return subtle.ConstantTimeCompare([]byte(params["client_secret"]), []byte(s.ClientSecret)) == 1
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

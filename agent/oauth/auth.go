package oauth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/protocol"
)

// Auth is how a client proves itself at the token endpoint (RFC 6749 section 2.3, OpenID Connect Core section 9).
type Auth string

const (
	None              Auth = ""                    // a public client: it names itself, and PKCE does the rest
	ClientSecretBasic Auth = "client_secret_basic" // in an Authorization header
	ClientSecretPost  Auth = "client_secret_post"  // among the parameters
	PrivateKeyJWT     Auth = "private_key_jwt"     // an assertion signed with its own key (RFC 7523 section 2.2)
)

// assertionLife is how long an assertion of ours is good for: the clocks of both sides may differ by some of it.
const assertionLife = 2 * time.Minute

// prove adds the client's proof of itself to a request, and returns the secrets among it. audience is the endpoint.
func (c *Client) prove(form url.Values, header http.Header, audience string) (secrets []string, failure *Error) {
	switch c.Auth {
	case None:
		if c.ClientID != "" {
			form.Set("client_id", c.ClientID)
		}
		return nil, nil
	case ClientSecretBasic, ClientSecretPost:
		if c.Secret.Empty() {
			e := fail(protocol.CodeLoginRequired, "the client secret is not known")
			e.Condition.Hint = "give it to: " + c.login("--client-secret-stdin")
			return nil, e
		}
		secret := c.Secret.Reveal()
		if c.Auth == ClientSecretPost {
			form.Set("client_id", c.ClientID)
			form.Set("client_secret", secret)
			return []string{secret}, nil
		}
		// RFC 6749 section 2.3.1: both are form-encoded before they are joined.
		pair := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.ClientID) + ":" + url.QueryEscape(secret)))
		header.Set("Authorization", "Basic "+pair)
		return []string{secret, pair}, nil
	case PrivateKeyJWT:
		assertion, err := c.assertion(audience)
		if err != nil {
			return nil, fail(protocol.CodeConfig, "the client's key can't sign: "+clean(err.Error(), nil))
		}
		form.Set("client_id", c.ClientID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
		return []string{assertion}, nil
	}
	return nil, fail(protocol.CodeConfig, "client_auth "+clean(string(c.Auth), nil)+" is unknown")
}

// assertion signs one for a single request (RFC 7523 section 3).
func (c *Client) assertion(audience string) (string, error) {
	signer, err := c.Key.signer()
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": c.ClientID, "sub": c.ClientID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Key is a private key that signs assertions.
type Key struct {
	key jose.SigningKey
	id  string
}

func (k *Key) signer() (jose.Signer, error) {
	if k == nil {
		return nil, errNoKey
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if k.id != "" {
		options = options.WithHeader("kid", k.id)
	}
	return jose.NewSigner(k.key, options)
}

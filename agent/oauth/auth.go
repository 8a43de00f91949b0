package oauth

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Auth is how a client authenticates at the token endpoint (RFC 6749 section 2.3, OpenID Connect Core section 9).
type Auth string

const (
	// None is a public client, which sends its name alone and relies on PKCE. [Client.ClientCredentials], which needs a client
	// that authenticates, takes it for "not configured".
	None              Auth = ""
	ClientSecretBasic Auth = "client_secret_basic" // in an Authorization header
	ClientSecretPost  Auth = "client_secret_post"  // among the parameters
	PrivateKeyJWT     Auth = "private_key_jwt"     // with an assertion that its own key signs (RFC 7523 section 2.2)
)

// assertionLife is how long an assertion of ours is valid. The clocks of the two sides may differ by part of it.
const assertionLife = 2 * time.Minute

// authenticate adds to a request what authenticates the client, and returns the secrets in it. audience is the endpoint.
func (c *Client) authenticate(form url.Values, header http.Header, audience string) (secrets []string, failure *Error) {
	switch c.Auth {
	case None:
		if c.ClientID != "" {
			form.Set("client_id", c.ClientID)
		}
		return nil, nil
	case ClientSecretBasic, ClientSecretPost:
		if c.Secret.Empty() {
			e := fail(protocol.CodeLoginRequired, "the client secret is not known")
			e.Condition.Hint = "give it to: " + c.Login("--client-secret-stdin")
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
			return nil, fail(protocol.CodeConfig, "the client's key can't sign: "+printable(err.Error()))
		}
		form.Set("client_id", c.ClientID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
		return []string{assertion}, nil
	}
	return nil, fail(protocol.CodeConfig, "client_auth "+printable(string(c.Auth))+" is unknown")
}

// DefaultAuth is how a client with a secret authenticates where that is not configured: by what the issuer says it supports, else
// by client_secret_basic, which every provider must support (RFC 6749 section 2.3.1).
func (c *Client) DefaultAuth() Auth {
	if slices.Contains(c.authMethods, string(ClientSecretPost)) && !slices.Contains(c.authMethods, string(ClientSecretBasic)) {
		return ClientSecretPost
	}
	return ClientSecretBasic
}

// encodes reports whether the encoding of RFC 6749 section 2.3.1 changes one of these. A provider that does not decode them then
// sees another name or secret.
func encodes(words ...string) bool {
	return slices.ContainsFunc(words, func(s string) bool { return url.QueryEscape(s) != s })
}

// authHint says what to do about a client that the provider does not accept, "" where there is nothing to say.
func (a *answer) authHint() string {
	c := a.client
	if c.Registered {
		return "the provider has forgotten this client, or its secret; sign in again, which registers it anew: " + c.Login()
	}
	secret := "check client_id in config.toml, and give the client secret again: " + c.Login("--client-secret-stdin")
	switch {
	case a.basic:
		return "the client id or secret has special characters, which some providers expect in another form: try " +
			"client_auth = \"client_secret_post\" in config.toml\nif that does not help, " + secret
	case c.Auth == ClientSecretBasic && slices.Contains(c.authMethods, string(ClientSecretPost)) &&
		!slices.Contains(c.authMethods, string(ClientSecretBasic)):
		return "the provider says that it supports client_auth = \"client_secret_post\": set that in config.toml"
	case c.Auth == ClientSecretPost && slices.Contains(c.authMethods, string(ClientSecretBasic)) &&
		!slices.Contains(c.authMethods, string(ClientSecretPost)):
		return "the provider says that it supports client_auth = \"client_secret_basic\": set that in config.toml"
	case c.Auth == ClientSecretBasic, c.Auth == ClientSecretPost:
		return secret
	case c.Auth == None && c.ClientID != "" && len(c.authMethods) > 0 && !slices.Contains(c.authMethods, "none"):
		return "the provider wants this client to authenticate: set client_auth in config.toml; it supports " +
			printable(strings.Join(c.authMethods, ", "))
	}
	return ""
}

// assertion signs an assertion for a single request (RFC 7523 section 3).
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

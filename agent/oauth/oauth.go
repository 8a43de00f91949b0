// Package oauth speaks to OAuth 2.0 and OpenID Connect providers in the dialects that they really use: authorization code with
// PKCE (RFC 6749 section 4.1, RFC 7636, RFC 8252), device authorization (RFC 8628), client credentials (RFC 6749 section
// 4.4), JWT bearer (RFC 7523), renewal (RFC 6749 section 6), revocation (RFC 7009), introspection (RFC 7662), discovery, and
// who is signed in. Every URL, id, header and parameter is a field of [Client].
//
// What it promises: a secret goes once to the one URL it was meant for. There is no retry, no redirect is followed, no
// connection is reused (net/http would resend a request of its own accord on one that turns out dead), and plain http stays
// on the loopback interface. No error contains a secret or quotes a response beyond a cleaned error code and its
// description.
//
// What it asks of its caller: a renewal may have spent the refresh token although an error came back. Save what
// [Client.Refresh] returned before doing anything else, and serialise the renewals of one sign-in.
package oauth

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// DefaultTimeout bounds one request, the reading of its answer included.
const DefaultTimeout = 30 * time.Second

// DefaultLifetime is assumed of an access token whose reply names no usable lifetime (expires_in absent, no number, not
// positive). It is a guess on the safe side: the token's true expiry is unknown, and neither its predecessor's nor "never"
// would be closer to it.
const DefaultLifetime = time.Hour

// Limits on what a provider may send.
const (
	maxReply       = 1 << 20 // bytes of a body
	maxReplyHeader = 64 << 10
	maxLifetime    = 10 * 365 * 24 * time.Hour // a longer expires_in is cut to it, before it overflows
	maxRetryAfter  = time.Hour
	maxText        = 200 // characters of an error_description that are shown
)

// Client is a provider and who we are to it. Its zero fields have defaults or are not needed by every method; endpoints that
// are missing can be looked up with [Client.Discover]. Methods may be called concurrently once the fields are set.
type Client struct {
	Issuer        string // https, or http to a loopback address, as every URL here; "" for a provider without discovery
	AuthorizeURL  string
	TokenURL      string
	DeviceURL     string // device authorization endpoint
	RevokeURL     string
	IntrospectURL string
	ProfileURL    string // the user profile: provider claude's own, or OpenID Connect's userinfo
	KeysURL       string // the issuer's signing keys (jwks_uri)

	// Bound are the origins that the secrets of a sign-in may go to, which Discover holds an issuer's description against; nil:
	// the sign-in is still to be made.
	Bound []string

	Profile string // whose sign-in it is, for the commands in hints; "" names none

	ClientID  string            // "" sends none
	Auth      Auth              // how the client proves itself
	Secret    protocol.Secret   // of ClientSecretBasic and ClientSecretPost
	Key       *Key              // of PrivateKeyJWT
	Scopes    []string          // asked for; [Client.Refresh] asks for none, which keeps what was granted
	Audience  string            // "" sends none
	Resource  []string          // RFC 8707
	Params    map[string]string // further parameters of authorize, device and token requests but Refresh
	JSON      bool              // provider claude's dialect: requests in JSON, and the rest of its dialect: docs/facts.md
	UserAgent string            // "" sends "ccagent"
	Headers   map[string]string // set last, over those of the dialect
	Timeout   time.Duration     // of one request, its answer's body included; 0: DefaultTimeout

	CA          *x509.CertPool   // what servers are judged by; nil: the system's, or what SSL_CERT_FILE names
	Certificate *tls.Certificate // shown to servers that ask (mutual TLS); nil: none
	Proxy       *url.URL         // nil: as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say

	astray       map[string]*protocol.Error // endpoints of a description that were not taken, by name
	issConfirmed bool                       // the provider promises iss in its callbacks (RFC 9207 section 3)
	// For tests: what stands for the network.
	roundTrip func(*http.Request) (*http.Response, error)
}

// login is the command that signs in again, for a hint.
func (c *Client) login(flags ...string) string {
	words := append([]string{"ccagent", "login"}, flags...)
	if c.Profile != "" {
		words = append(words, c.Profile)
	}
	return protocol.ShellLine(words...)
}

// renewal is the command that renews a token, for a hint.
func (c *Client) renewal() string {
	if c.Profile == "" {
		return "ccagent refresh"
	}
	return protocol.ShellLine("ccagent", "refresh", "-p", c.Profile)
}

// Reply is what a token endpoint answered (RFC 6749 section 5.1), with times in place of lifetimes.
type Reply struct {
	AccessToken  protocol.Secret
	RefreshToken protocol.Secret // empty: the old one stays in force (RFC 6749 section 6)
	Issued       time.Time       // when the request was sent
	Expiry       time.Time       // of the access token, counted from Issued; see DefaultLifetime
	GrantExpiry  time.Time       // of the refresh token; zero: not said
	Scopes       []string        // nil: not said, so unchanged
	// what the reply itself says of who signed in: a verified ID token's claims, or provider claude's account; often empty
	Identity protocol.Identity

	idToken string // as it came
}

// Error is a request that did not bring what it was made for. errors.Is finds ErrLoginRequired (the provider refused the
// sign-in for good), ErrExpired (it refused an access token), ErrConfig (it does not know our client, or not our kind of
// request), ErrDenied (a scope is missing) or ErrUnavailable (try again) behind it, and ErrLogin or ErrCallback where a sign-in
// did not complete. An OAuth error is final unless its code is known to pass.
type Error struct {
	Condition  *protocol.Error
	RetryAfter time.Duration // what the provider asked for, at most an hour; 0: nothing
	Ambiguous  bool          // the request went out and no whole answer came back: the refresh token may be spent
	Dead       bool          // the provider refused the very token that was sent, not who uses it or from where

	code string // the provider's own error code, cleaned
}

func (e *Error) Error() string { return e.Condition.Message }
func (e *Error) Unwrap() error { return e.Condition }

// AskAgainAfter is RetryAfter. With RefusesToken it makes an Error an Answer of package renewal.
func (e *Error) AskAgainAfter() time.Duration { return e.RetryAfter }

// RefusesToken is Dead.
func (e *Error) RefusesToken() bool { return e.Dead }

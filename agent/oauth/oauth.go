// Package oauth talks to OAuth 2.0 and OpenID Connect providers, in the dialects that they really use: authorization code with
// PKCE (RFC 6749 section 4.1, RFC 7636, RFC 8252), device authorization (RFC 8628), client credentials (RFC 6749 section 4.4),
// JWT bearer (RFC 7523), renewal (RFC 6749 section 6), revocation (RFC 7009), introspection (RFC 7662), discovery (OpenID Connect
// Discovery, RFC 8414), and the question who has signed in. Every URL, id, header and parameter is a field of [Client].
//
// The package promises that a secret is sent once, to the one URL that it was meant for. It never repeats a request, follows no
// redirect and reuses no connection (net/http repeats a request by itself when a reused connection turns out to be dead). It uses
// plain http on the loopback interface alone. No error contains a secret. Of what a provider answered, an error shows no more
// than the error code and its description, both cleaned.
//
// The package asks two things of its caller. A renewal may have spent the refresh token even if it returns an error, so save what
// [Client.Refresh] returned before you do anything else. And never run two renewals of one sign-in at the same time.
package oauth

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// DefaultTimeout bounds one request, including the time to read its answer.
const DefaultTimeout = 30 * time.Second

// DefaultLifetime is the assumed lifetime of an access token when the provider states none that can be used (see [Reply]). It is
// a cautious guess: the true expiry is unknown, and neither the expiry of the token before nor "never" would be a better one.
const DefaultLifetime = time.Hour

// Limits on what a provider may send.
const (
	maxReply       = 1 << 20 // bytes of a body
	maxReplyHeader = 64 << 10
	maxLifetime    = 10 * 365 * 24 * time.Hour // a longer lifetime is cut to this one, before it overflows
	maxRetryAfter  = time.Hour
)

// Client is a provider, and who we are to it. Fields that are zero have a default, or are not needed by every method. Endpoints
// that are missing can be looked up with [Client.Discover]. The methods may be called concurrently once the fields are set.
type Client struct {
	Issuer        string // https, or http to a loopback address, like every URL here; "": a provider without discovery
	AuthorizeURL  string
	TokenURL      string
	DeviceURL     string // device authorization endpoint
	RevokeURL     string
	IntrospectURL string
	ProfileURL    string // the user profile: provider claude's own, or OpenID Connect's userinfo
	KeysURL       string // the issuer's signing keys (jwks_uri)
	RegisterURL   string // client registration endpoint (RFC 7591)

	// Bound are the origins to which the secrets of a sign-in may be sent. Discover refuses endpoints at other origins. nil:
	// there is no sign-in yet.
	Bound []string

	// For the commands in hints: the profile whose sign-in this is, and the command that signs in to it.
	Profile string // "" names none
	Command string // "" is ccagent login with the profile

	ClientID  string            // "" sends none
	Auth      Auth              // how the client authenticates
	Secret    protocol.Secret   // for ClientSecretBasic and ClientSecretPost
	Key       *Key              // for PrivateKeyJWT
	Scopes    []string          // what a sign-in asks for; [Client.Refresh] asks for none, which keeps what was granted
	Audience  string            // goes with each request; "" sends none
	Resource  []string          // goes with each request (RFC 8707 section 2)
	Params    map[string]string // further parameters of the request that a sign-in begins with
	Extra     Extra             // further parameters by the kind of request
	JSON      bool              // provider claude's dialect: requests in JSON, and what else docs/facts.md says of it
	UserAgent string            // "" sends "ccagent"
	Headers   map[string]string // set last, so they replace those of the dialect
	Timeout   time.Duration     // for one request, including the body of its answer; 0: DefaultTimeout

	CA          *x509.CertPool   // the authorities that servers are checked against; nil: the system's, or those in SSL_CERT_FILE
	Certificate *tls.Certificate // shown to servers that ask for one (mutual TLS); nil: none
	Proxy       *url.URL         // nil: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say

	// MCP says that the token is for an MCP server. Then [Client.Discover] asks for the issuer's description in the order of MCP's
	// authorization specification, and [Client.Authorize] wants the issuer to support PKCE.
	MCP        bool
	Registered bool // the client has registered itself, and can do so again

	described        bool                       // Discover has succeeded
	refused          map[string]*protocol.Error // by discovery name: endpoints that the issuer describes and that were not taken
	grants           []string                   // what the token endpoint grants, as the issuer says; nil: not said
	authMethods      []string                   // of clients at the token endpoint, as the issuer says; nil: not said
	sendsIssuer      bool                       // the issuer promises to send iss with its callbacks (RFC 9207 section 3)
	challengeMethods []string                   // of PKCE, as the issuer says; nil: not said
	documents        bool                       // the issuer takes the address of a client ID metadata document as a client id
	supportedScopes  []string                   // as the issuer says; nil: not said
	// roundTrip stands in for the network in tests.
	roundTrip func(*http.Request) (*http.Response, error)
}

// Extra are parameters for one kind of request. They take the place of a scope, audience or resource that would be sent there,
// and an empty value leaves that out.
type Extra struct {
	Authorize map[string]string // at the authorize or the device authorization endpoint
	Token     map[string]string // for the first token: for a code, a device code, an assertion or the client's own credentials
	Refresh   map[string]string // for the next token, with a refresh token
}

// Login is the command that signs in again, with these flags, for a hint.
func (c *Client) Login(flags ...string) string {
	if c.Command != "" {
		more := protocol.ShellLine(flags...)
		if more == "" || strings.Contains(c.Command+" ", " "+more+" ") {
			return c.Command
		}
		return c.Command + " " + more
	}
	words := append([]string{"ccagent", "login"}, flags...)
	if c.Profile != "" {
		words = append(words, c.Profile)
	}
	return protocol.ShellLine(words...)
}

// refresh is the command that renews the token, for a hint.
func (c *Client) refresh() string {
	if c.Profile == "" {
		return "ccagent refresh"
	}
	return protocol.ShellLine("ccagent", "refresh", "-p", c.Profile)
}

// Reply is what a token endpoint answered (RFC 6749 section 5.1), with points in time instead of lifetimes. They are in the
// clock of this machine, to the millisecond.
type Reply struct {
	AccessToken  protocol.Secret
	RefreshToken protocol.Secret // empty: the old one stays in force (RFC 6749 section 6)
	Issued       time.Time       // when the request was sent
	Expiry       time.Time       // of the access token: the earliest that the answer states, else Issued + DefaultLifetime
	GrantExpiry  time.Time       // of the refresh token, and with it of the sign-in; zero: not said
	Endless      bool            // the answer says that the refresh token does not expire
	Scopes       []string        // nil: not said, so unchanged
	// Identity is what the answer itself says about who signed in: the claims of a verified ID token, or provider claude's
	// account. It is often empty.
	Identity protocol.Identity
	// IDToken is the ID token of the answer, if there is one that has not expired and can be handed on. Its signature is not checked
	// here, which OpenID Connect Core section 3.1.3.7 allows for one that comes from the token endpoint itself.
	IDToken       protocol.Secret
	IDTokenExpiry time.Time

	idToken    string // as it came
	issuedType string // what an exchange has issued (RFC 8693 section 2.2.1)
}

// Error is a request that failed. errors.Is finds one of these behind it: ErrLoginRequired (the provider refused the sign-in for
// good), ErrExpired (it refused an access token), ErrConfig (it does not accept our client, or our kind of request), ErrDenied (a
// scope is missing) or ErrUnavailable (try again), and ErrLogin or ErrCallback where a sign-in did not complete. An OAuth error
// is final, unless its code is known to be temporary.
type Error struct {
	Condition  *protocol.Error
	RetryAfter time.Duration // how long the provider asked us to wait, at most an hour; 0: it did not ask
	Ambiguous  bool          // the request was sent and no complete answer came back: the refresh token may be spent
	Dead       bool          // the provider refused the very token that was sent, and not the client or the place it came from

	code string // the provider's own error code, folded (see fold)
}

func (e *Error) Error() string { return e.Condition.Message }
func (e *Error) Unwrap() error { return e.Condition }

// AskAgainAfter is RetryAfter. With RefusesToken it makes an Error an Answer of package renewal.
func (e *Error) AskAgainAfter() time.Duration { return e.RetryAfter }

// RefusesToken is Dead.
func (e *Error) RefusesToken() bool { return e.Dead }

// Package oauth speaks to OAuth 2.0 token endpoints (RFC 6749) in the dialects that providers really use. For now that is
// one grant, the renewal of section 6, in the JSON dialect of provider claude; every URL, id and header is a field of
// [Client].
//
// What it promises: a refresh token goes once to the one URL it was meant for. There is no retry, no redirect is followed,
// no connection is reused (net/http would resend a request of its own accord on one that turns out dead), and plain http
// stays on the loopback interface. No error contains a token or quotes a response beyond a cleaned error code and its
// description.
//
// What it asks of its caller: a renewal may have spent the refresh token although an error came back. Save what [Client.Refresh]
// returned before doing anything else, and serialise the renewals of one sign-in.
package oauth

import (
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
	maxToken       = 16384                     // characters; Claude Code takes no longer one
	maxLifetime    = 10 * 365 * 24 * time.Hour // a longer expires_in is cut to it, before it overflows
	maxRetryAfter  = time.Hour
	maxText        = 200 // characters of an error_description that are shown
)

// Client is one token endpoint and who we are to it. Its zero fields have defaults, except TokenURL. A Client may be used
// concurrently; it keeps nothing between calls.
type Client struct {
	TokenURL  string            // https, or http to a loopback address
	ClientID  string            // "" sends none
	UserAgent string            // "" sends "ccagent"
	Headers   map[string]string // set last, over those of the dialect
	Timeout   time.Duration     // of one request, its answer's body included; 0: DefaultTimeout

	trust trust // for tests: what a TLS server is judged by
}

// Reply is what a token endpoint answered (RFC 6749 section 5.1), with times in place of lifetimes.
type Reply struct {
	AccessToken  protocol.Secret
	RefreshToken protocol.Secret // empty: the old one stays in force (RFC 6749 section 6)
	Issued       time.Time       // when the request was sent
	Expiry       time.Time       // of the access token, counted from Issued; see DefaultLifetime
	GrantExpiry  time.Time       // of the refresh token; zero: not said
	Scopes       []string        // nil: not said, so unchanged
}

// Error is a renewal that brought no access token. errors.Is finds ErrLoginRequired (the provider refused the sign-in for
// good), ErrConfig (it does not know our client, or not our kind of request) or ErrUnavailable (try again) behind it.
type Error struct {
	Condition  *protocol.Error
	RetryAfter time.Duration // what the provider asked for, at most an hour; 0: nothing
	Ambiguous  bool          // the request went out and no whole answer came back: the refresh token may be spent
}

func (e *Error) Error() string { return e.Condition.Message }
func (e *Error) Unwrap() error { return e.Condition }

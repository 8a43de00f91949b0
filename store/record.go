package store

import (
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Record is what we know of one profile's credential. It holds our own keys only: what else a shared file holds stays there.
type Record struct {
	Kind         protocol.Kind
	AccessToken  protocol.Secret
	RefreshToken protocol.Secret // empty: nothing to renew with
	Expiry       time.Time       // of the access token, millisecond precision; zero: never
	Issued       time.Time       // of the access token; zero: unknown
	Scopes       []string
	Subscription string
	RateLimit    string    // rateLimitTier
	GrantExpiry  time.Time // of the refresh token; zero: unknown
	TokenOrigin  string    // scheme://host[:port] of the token endpoint the record is bound to; "": not bound yet
	SignIn       string    // id of the sign-in that the record descends from, 16 hex digits; "": not known yet
}

// Marshal returns r's versioned form, the one of the file store, as a secret: it holds the refresh token.
//   func (r Record) Marshal() (protocol.Secret, error)
// Unmarshal reads it back; ErrInvalid names a newer format's version.
//   func Unmarshal(protocol.Secret) (Record, error)

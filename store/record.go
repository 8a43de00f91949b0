package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// Record is what we know of one profile's credential. It holds none of what else a shared file may hold.
type Record struct {
	Kind         protocol.Kind
	AccessToken  protocol.Secret // empty with a refresh token: it is to be renewed
	RefreshToken protocol.Secret // empty: there is nothing to renew it with
	Expiry       time.Time       // of the access token, millisecond precision; zero: never
	Issued       time.Time       // of the access token; zero: unknown
	Scopes       []string
	Subscription string
	RateLimit    string    // rateLimitTier
	GrantExpiry  time.Time // of the refresh token; zero: unknown
	GrantSince   time.Time // when the provider first named GrantExpiry: a renewal that moves it begins anew; zero: unknown
	LostScopes   []string  // that the sign-in had, and that a renewal left out
	TokenOrigin  string    // scheme://host[:port] of the token endpoint that the record is bound to; "": not bound yet
	Origins      []string  // where else the sign-in's secrets may go, as the person was shown at the sign-in; nil: not known
	SignIn       string    // id of the sign-in that the record belongs to, 16 hexadecimal digits; "": it has none yet

	// ClientSecret is that of a confidential client (RFC 6749, section 2.1). Assertion is what a grant by assertion is renewed
	// with (RFC 7523), if it was given once. Claude Code's file has no room for either.
	ClientSecret protocol.Secret
	Assertion    protocol.Secret
	// IDToken is the ID token that the provider gave last (OpenID Connect Core section 2), if it gave one. It came at IDTokenIssued.
	// One that has expired is dropped at the next renewal that brings no other, and IDTokenIssued stays. Claude Code's file has no
	// room for it.
	IDToken       protocol.Secret
	IDTokenExpiry time.Time
	IDTokenIssued time.Time
	// RegistrationURL is where a client that registered itself can be read and deleted, with RegistrationToken (RFC 7592). Both
	// are empty where there is no such client, or where the provider lets nobody do that.
	RegistrationURL   string
	RegistrationToken protocol.Secret
	// Identity is who is signed in, as the provider said, without its Profile. Claude Code's file has no room for it.
	Identity protocol.Identity
}

// due is the expiry of a token that must be renewed before it is used. It is long past, and not the zero time, which means never.
var due = time.UnixMilli(0)

// IsStub reports whether r has no token at all. A session of Claude Code leaves such a record when it has lost a race.
func (r Record) IsStub() bool { return r.AccessToken.Empty() && r.RefreshToken.Empty() }

// Serves reports whether a token may still come of r: it has one that has not expired, or one to renew it with. If not, nothing
// is lost when r is replaced.
func (r Record) Serves(now time.Time) bool {
	return !r.RefreshToken.Empty() || !r.AccessToken.Empty() && (r.Expiry.IsZero() || r.Expiry.After(now.Round(0)))
}

// ExpiresBefore reports whether a's access token expires before b's. A token that never expires expires after all others.
func ExpiresBefore(a, b Record) bool {
	if a.Expiry.IsZero() {
		return false
	}
	return b.Expiry.IsZero() || a.Expiry.Before(b.Expiry)
}

// Version is what a Store returns as the version of r. It is for those who implement one.
func (r Record) Version() Version { return r.version() }

// version is a digest of what r says of the credential itself. Issued, GrantSince, LostScopes, TokenOrigin, Origins, SignIn,
// RegistrationURL, RegistrationToken, Identity and the times of the ID token are not in it: they are our own remarks, and Claude
// Code's file has no room for them. A record does not become another one by a remark.
func (r Record) version() Version {
	h := sha256.New()
	field := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	moment := func(t time.Time) {
		if t.IsZero() {
			field("")
			return
		}
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(t.UnixMilli()))
		field(string(n[:]))
	}
	field(string(r.Kind))
	field(r.AccessToken.Reveal())
	field(r.RefreshToken.Reveal())
	moment(r.Expiry)
	field(strings.Join(r.Scopes, "\x00"))
	field(r.Subscription)
	field(r.RateLimit)
	moment(r.GrantExpiry)
	for _, s := range []protocol.Secret{r.ClientSecret, r.Assertion, r.IDToken} {
		if !s.Empty() {
			field(s.Reveal())
		}
	}
	return Version(h.Sum(nil))
}

// sameTokens reports whether a and b have the same tokens.
func sameTokens(a, b Record) bool {
	return a.AccessToken.Reveal() == b.AccessToken.Reveal() && a.RefreshToken.Reveal() == b.RefreshToken.Reveal()
}

// validate fails if r may not be stored (ErrInvalid). The error names a field and never a value.
func (r Record) validate() error {
	if r.IsStub() {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: "a record without any token is not stored"}
	}
	if !r.AccessToken.Empty() && !protocol.IsToken(r.AccessToken.Reveal()) {
		return &protocol.Error{
			Code:    protocol.CodeInvalid,
			Message: "the access token is not " + tokenForm(r.AccessToken.Reveal()),
		}
	}
	if !r.IDToken.Empty() && !protocol.IsToken(r.IDToken.Reveal()) {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: "the ID token is not " + tokenForm(r.IDToken.Reveal())}
	}
	if !printable(r.RefreshToken.Reveal()) {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: "the refresh token holds control characters"}
	}
	return nil
}

// tokenForm says what a token is, for the error about s, which is none.
func tokenForm(s string) string {
	if long := protocol.TooLong(s); long != "" {
		return protocol.TokenForm + ": it has " + long
	}
	return protocol.TokenForm
}

// printable reports whether s can be sent in a header and printed on one line. U+FFFD is excluded, because it is what
// encoding/json makes of invalid text.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool {
		return c < 0x20 || c >= 0x7f && c < 0xa0 || c == utf8.RuneError
	})
}

// formVersion is the version of our form of a record, which stores of ours and spill files hold.
const formVersion = 1

// Marshal returns our versioned form of r, in JSON. It is a secret, because it holds the refresh token.
func (r Record) Marshal() (protocol.Secret, error) {
	form, err := r.mergeInto([]byte("{}"))
	if err != nil {
		return protocol.Secret{}, err
	}
	return protocol.NewSecret(string(form)), nil
}

// mergeInto writes r over the form in src and leaves every key that is not ours as it is.
func (r Record) mergeInto(src []byte) ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	members := []member{
		{"version", splice.Encode(formVersion)},
		{"kind", splice.Encode(string(r.Kind))},
		{"access_token", splice.Encode(r.AccessToken.Reveal())},
		{"refresh_token", splice.Encode(r.RefreshToken.Reveal())},
		{"expires_at", encodeMillis(r.Expiry)},
		{"issued_at", encodeMillis(r.Issued)},
		{"scopes", splice.Encode(slices.Concat([]string{}, r.Scopes))},
		{"subscription", splice.Encode(r.Subscription)},
		{"rate_limit", splice.Encode(r.RateLimit)},
		{"grant_expires_at", encodeMillis(r.GrantExpiry)},
		{"token_origin", splice.Encode(r.TokenOrigin)},
		{"sign_in", splice.Encode(r.SignIn)},
	}
	var err error
	for _, m := range []struct {
		member
		there bool
	}{
		{member{"client_secret", splice.Encode(r.ClientSecret.Reveal())}, !r.ClientSecret.Empty()},
		{member{"assertion", splice.Encode(r.Assertion.Reveal())}, !r.Assertion.Empty()},
		{member{"id_token", splice.Encode(r.IDToken.Reveal())}, !r.IDToken.Empty()},
		{member{"id_token_expires_at", encodeMillis(r.IDTokenExpiry)}, !r.IDToken.Empty()},
		{member{"id_token_issued_at", encodeMillis(r.IDTokenIssued)}, !r.IDTokenIssued.IsZero()},
		{member{"registration_url", splice.Encode(r.RegistrationURL)}, r.RegistrationURL != ""},
		{member{"registration_token", splice.Encode(r.RegistrationToken.Reveal())}, !r.RegistrationToken.Empty()},
		{member{"origins", splice.Encode(r.Origins)}, len(r.Origins) > 0},
		{member{"grant_since", encodeMillis(r.GrantSince)}, !r.GrantSince.IsZero()},
		{member{"lost_scopes", splice.Encode(r.LostScopes)}, len(r.LostScopes) > 0},
		{member{"identity", encodeIdentity(r.Identity)}, !r.Identity.Fetched.IsZero()},
	} {
		if m.there {
			members = append(members, m.member)
		} else if src, _, err = splice.Remove(src, m.key); err != nil {
			return nil, err
		}
	}
	return setMembers(src, members)
}

// identityMembers are i's texts by their keys.
func identityMembers(i *protocol.Identity) map[string]*string {
	return map[string]*string{"account": &i.Account, "email": &i.Email, "name": &i.Name, "organization": &i.Organization,
		"organization_id": &i.OrganizationID, "subscription": &i.Subscription}
}

func encodeIdentity(i protocol.Identity) []byte {
	form := map[string]any{"fetched_at": i.Fetched.UnixMilli(), "scopes": slices.Concat([]string{}, i.Scopes)}
	for key, text := range identityMembers(&i) {
		form[key] = *text
	}
	return splice.Encode(form) // its keys sorted
}

func (o *object) identity(key string, to *protocol.Identity) {
	if !o.has(key) {
		return
	}
	inner, err := readObject(o.name, o.values[key])
	if err != nil {
		o.fail(key, "a JSON object")
		return
	}
	for name, text := range identityMembers(to) {
		inner.text(name, text)
	}
	inner.texts("scopes", &to.Scopes)
	inner.moment("fetched_at", &to.Fetched)
	if o.err == nil {
		o.err = inner.err
	}
}

// Unmarshal reads what [Record.Marshal] wrote. Its error (ErrInvalid) names the key that is wrong, or the version if that is
// newer than ours.
func Unmarshal(s protocol.Secret) (Record, error) { return readForm("the record", []byte(s.Reveal())) }

func readForm(name string, form []byte) (Record, error) {
	if len(bytes.TrimSpace(form)) == 0 {
		return Record{}, invalid(name, "is empty")
	}
	o, err := readObject(name, form)
	if err != nil {
		return Record{}, err
	}
	switch v, ok, err := o.millis("version"); {
	case err != nil:
		return Record{}, err
	case !ok:
		return Record{}, invalid(name, `has no "version"`)
	case v != formVersion:
		return Record{}, newer(name, string(splice.Encode(v)))
	}
	var r Record
	o.text("kind", (*string)(&r.Kind))
	o.token("access_token", &r.AccessToken)
	o.secret("refresh_token", &r.RefreshToken)
	o.moment("expires_at", &r.Expiry)
	o.moment("issued_at", &r.Issued)
	o.texts("scopes", &r.Scopes)
	o.text("subscription", &r.Subscription)
	o.text("rate_limit", &r.RateLimit)
	o.moment("grant_expires_at", &r.GrantExpiry)
	o.text("token_origin", &r.TokenOrigin)
	o.text("sign_in", &r.SignIn)
	if o.has("registration_url") {
		o.text("registration_url", &r.RegistrationURL)
	}
	for key, to := range map[string]*protocol.Secret{
		"client_secret": &r.ClientSecret, "assertion": &r.Assertion, "registration_token": &r.RegistrationToken,
	} {
		if o.has(key) {
			o.secret(key, to)
		}
	}
	for key, to := range map[string]*[]string{"origins": &r.Origins, "lost_scopes": &r.LostScopes} {
		if o.has(key) {
			o.texts(key, to)
		}
	}
	if o.has("id_token") {
		o.token("id_token", &r.IDToken)
	}
	for key, to := range map[string]*time.Time{"grant_since": &r.GrantSince, "id_token_expires_at": &r.IDTokenExpiry,
		"id_token_issued_at": &r.IDTokenIssued} {
		if o.has(key) {
			o.moment(key, to)
		}
	}
	o.identity("identity", &r.Identity)
	if o.err != nil {
		return Record{}, o.err
	}
	if r.IsStub() {
		return Record{}, invalid(name, "holds no token")
	}
	if r.AccessToken.Empty() {
		r.Expiry = due
	}
	return r, nil
}

package store

import (
	"bytes"
	"io"
	"slices"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// claudeKey is the key of the sign-in in Claude Code's credentials file.
const claudeKey = "claudeAiOauth"

// ReadClaude reads a record in Claude Code's format, which the Python predecessor's files share. It fails with ErrInvalid,
// with ErrNotFound if there is no sign-in in it, and with ErrLoginRequired if it is a stub.
func ReadClaude(r io.Reader) (Record, error) {
	src, err := readInput(r)
	if err != nil {
		return Record{}, err
	}
	return readClaude("the input", src)
}

// readClaude is ReadClaude for the content of the file that name says. With ErrLoginRequired it returns the stub.
func readClaude(name string, src []byte) (Record, error) {
	if len(bytes.TrimSpace(src)) == 0 {
		return Record{}, invalid(name, "is empty")
	}
	file, err := readStrict(name, src)
	if err != nil {
		return Record{}, err
	}
	if !file.has(claudeKey) {
		if err := file.known(); err != nil {
			return Record{}, err
		}
		return Record{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: name + ` holds no "` + claudeKey + `": nobody is signed in there`,
			Hint:    "sign in with Claude Code: run claude, then type /login",
		}
	}
	if file.values[claudeKey][0] != '{' {
		return Record{}, invalid(name, `has a "`+claudeKey+`" that is not a JSON object`)
	}
	o, err := readObject(name, file.values[claudeKey])
	if err != nil {
		return Record{}, err
	}
	r := Record{Kind: protocol.KindOAuth}
	o.token("accessToken", &r.AccessToken)
	o.secret("refreshToken", &r.RefreshToken)
	o.moment("expiresAt", &r.Expiry)
	o.texts("scopes", &r.Scopes)
	o.text("subscriptionType", &r.Subscription)
	o.text("rateLimitTier", &r.RateLimit)
	o.moment("refreshTokenExpiresAt", &r.GrantExpiry)
	if o.err != nil {
		return Record{}, o.err
	}
	if r.IsStub() {
		return r, &protocol.Error{
			Code:    protocol.CodeLoginRequired,
			Message: name + " is signed out: it holds no token",
			Hint:    "sign in with Claude Code: run claude, then type /login",
		}
	}
	// null means that the token never expires. If the key is missing, nobody knows: with a refresh token it is renewed.
	_, said := o.values["expiresAt"]
	if r.AccessToken.Empty() || !said && !r.RefreshToken.Empty() {
		r.Expiry = due
	}
	return r, r.checkClaude(name)
}

// spliceClaude writes r into the content of the file. A value that r does not change keeps its bytes.
func spliceClaude(name string, src []byte, r Record) ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	if len(src) == 0 {
		src = []byte("{}")
	}
	file, err := readObject(name, src)
	if err != nil {
		return nil, err
	}
	inner := []byte("{}")
	if file.has(claudeKey) {
		inner = file.values[claudeKey]
	}
	o, err := readObject(name, inner)
	if err != nil {
		return nil, err
	}
	var edits []member
	set := func(key string, differs bool, value []byte) {
		if differs {
			edits = append(edits, member{key, value})
		}
	}
	var access, refresh protocol.Secret
	var expiry, grant time.Time
	var scopes []string
	var subscription, rateLimit string
	o.secret("accessToken", &access)
	o.secret("refreshToken", &refresh)
	o.moment("expiresAt", &expiry)
	o.texts("scopes", &scopes)
	o.text("subscriptionType", &subscription)
	o.text("rateLimitTier", &rateLimit)
	o.moment("refreshTokenExpiresAt", &grant)
	if o.err != nil {
		return nil, o.err
	}
	_, hasExpiry := o.values["expiresAt"]
	fresh := len(o.values) == 0 // a new one gets the four keys that Claude Code always writes
	set("accessToken", fresh || access.Reveal() != r.AccessToken.Reveal(), splice.Encode(r.AccessToken.Reveal()))
	set("refreshToken", fresh || refresh.Reveal() != r.RefreshToken.Reveal(), splice.Encode(r.RefreshToken.Reveal()))
	set("expiresAt", !hasExpiry || !sameMillis(expiry, r.Expiry), encodeMillis(r.Expiry))
	set("scopes", fresh || len(r.Scopes) > 0 && !slices.Equal(scopes, r.Scopes), splice.Encode(slices.Concat([]string{}, r.Scopes)))
	set("subscriptionType", r.Subscription != "" && subscription != r.Subscription, splice.Encode(r.Subscription))
	set("rateLimitTier", r.RateLimit != "" && rateLimit != r.RateLimit, splice.Encode(r.RateLimit))
	set("refreshTokenExpiresAt", !r.GrantExpiry.IsZero() && !sameMillis(grant, r.GrantExpiry), encodeMillis(r.GrantExpiry))
	if inner, err = setMembers(inner, edits); err != nil {
		return nil, err
	}
	// If the key is repeated, everybody reads the last one. The others are not ours to change.
	spans, err := splice.Scan(src)
	if err != nil {
		return nil, err
	}
	if s, ok := splice.Find(spans, claudeKey); ok {
		return splice.Replace(src, s.Value, s.After, inner), nil
	}
	return setMembers(src, []member{{claudeKey, inner}})
}

func sameMillis(a, b time.Time) bool {
	return a.IsZero() == b.IsZero() && (a.IsZero() || a.UnixMilli() == b.UnixMilli())
}

package oauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// reply reads a token endpoint's answer. Beside an error the reply may hold a rotated refresh token, as [Client.Refresh]
// promises.
func (a *answer) reply(p purpose, issued time.Time) (Reply, *Error) {
	if !a.ok() {
		return Reply{}, a.refusal(p, issued)
	}
	fields, err := a.object()
	if err != nil {
		e := a.unreadable()
		e.Ambiguous = true
		return Reply{}, e
	}
	if isNothing(fields["access_token"]) && isNothing(fields["refresh_token"]) && a.failed() {
		return Reply{}, a.refusal(p, issued)
	}
	refresh, ok := token(fields["refresh_token"])
	switch {
	case p == forExchange || p == forClient || p == forAssertion:
		refresh = protocol.Secret{} // the next token is asked for in the same way
	case !ok:
		return Reply{}, noToken(fields, "refresh_token")
	}
	reply := Reply{Issued: issued, RefreshToken: refresh, Scopes: scopes(fields)}
	if left := a.lifetime(refreshStatements, fields, refresh, issued); left > 0 {
		reply.GrantExpiry = issued.Add(left).Truncate(time.Millisecond)
	} else {
		reply.Endless = slices.ContainsFunc(refreshStatements.lifetimes, func(name string) bool { return isZero(fields[name]) })
	}
	access, ok := token(fields["access_token"])
	switch {
	case !ok:
		return reply, noToken(fields, "access_token")
	case access.Empty():
		return reply, &Error{Condition: unavailable("its answer has no access_token"), Ambiguous: true}
	}
	if kind := first(fields, "token_type"); IsBound(kind) {
		e := fail(protocol.CodeConfig, "the provider issued a token of type "+printable(kind)+", and ccagent uses bearer tokens only")
		e.Condition.Hint = "have this client registered for bearer tokens at the provider"
		return reply, e
	}
	left := a.lifetime(accessStatements, fields, access, issued)
	if left == 0 {
		left = DefaultLifetime
	}
	reply.AccessToken, reply.Expiry = access, issued.Add(left).Truncate(time.Millisecond)
	reply.idToken, _ = text(fields["id_token"])
	reply.issuedType = first(fields, "issued_token_type")
	if id, _ := token(fields["id_token"]); !id.Empty() {
		if left := a.lifetime(statements{}, nil, id, issued); left > 0 {
			reply.IDToken, reply.IDTokenExpiry = id, issued.Add(left).Truncate(time.Millisecond)
		}
	}
	reply.Identity = claudeAccount(fields)
	return reply, nil
}

// noToken is the error that a field of an answer can't be a token.
func noToken(fields map[string]json.RawMessage, name string) *Error {
	e := &Error{Condition: unavailable("its answer has a field " + name + " that can't be a token"), Ambiguous: true}
	if s, _ := text(fields[name]); protocol.TooLong(s) != "" {
		e.Condition.Message = "its answer has a field " + name + " of " + protocol.TooLong(s)
		e.Condition.Hint = protocol.Shorten
	}
	return e
}

// IsBound reports whether a token of that type (token_type) is worth nothing without a key of its own (RFC 9449, and drafts
// before it). Other odd types, such as Slack's "user", are bearer tokens.
func IsBound(kind string) bool {
	switch strings.ToLower(kind) {
	case "dpop", "pop", "mac":
		return true
	}
	return false
}

// isNothing reports whether a value says nothing: absent, null, "" and false do not.
func isNothing(raw json.RawMessage) bool {
	s, ok := text(raw)
	return ok && s == "" || string(raw) == "false"
}

// isZero reports whether a value is the number 0, by which Keycloak says of an offline session that it has no end.
func isZero(raw json.RawMessage) bool {
	s, ok := text(raw)
	return string(raw) == "0" || ok && s == "0"
}

// token reads a token. It returns the empty Secret and true for what is absent, null or "", and false for what no consumer could
// use (see protocol.IsToken).
func token(raw json.RawMessage) (protocol.Secret, bool) {
	switch s, ok := text(raw); {
	case ok && s == "":
		return protocol.Secret{}, true
	case ok && protocol.IsToken(s):
		return protocol.NewSecret(s), true
	}
	return protocol.Secret{}, false
}

// statements are the fields in which providers state when a token expires. docs/facts.md tells who uses which.
type statements struct {
	lifetimes []string // in seconds
	moments   []string // as a point in time
}

var (
	accessStatements = statements{
		lifetimes: []string{"expires_in", "expires"},
		moments:   []string{"expires_at", "expires_on", "expiry", "expiresAt", "expiresOn"},
	}
	refreshStatements = statements{
		lifetimes: []string{"refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"},
		moments:   []string{"refresh_token_expires_at", "refresh_expires_at"},
	}
)

// lifetime returns how long a token lives from issued on: the shortest lifetime that the answer states, or that the token states
// itself where it is a JWT. It returns 0 where none is stated. A statement that can't be used is passed over, because an answer
// must not be dropped for it: the refresh token in it may be the only one that still works. A point in time that has passed
// already is one of these: it says nothing about a token that was just issued.
func (a *answer) lifetime(
	from statements, fields map[string]json.RawMessage, token protocol.Secret, issued time.Time,
) time.Duration {
	here := issued // what time it is, by the clock that the provider's points in time are in
	if date, ok := a.date(); ok {
		here = date
	}
	var shortest time.Duration
	stated := func(left time.Duration) {
		if left > 0 && (shortest == 0 || left < shortest) {
			shortest = min(left, maxLifetime)
		}
	}
	for _, name := range from.lifetimes {
		left := seconds(number(fields[name]), 0)
		if at := moment(fields[name]); at.After(here) { // a point in time in the place of a lifetime
			left = at.Sub(here)
		}
		stated(left)
	}
	for _, name := range from.moments {
		if at := moment(fields[name]); !at.IsZero() {
			stated(at.Sub(here))
		}
	}
	if at := JWTExpiry(token); !at.IsZero() {
		stated(at.Sub(here))
	}
	return shortest
}

// number reads a number, also one in a string, as some providers write it. It returns 0 for what is none, and +Inf for one that
// is out of range.
func number(raw json.RawMessage) float64 {
	digits := string(raw)
	if s, ok := text(raw); ok {
		digits = s
	}
	n, _ := strconv.ParseFloat(strings.TrimSpace(digits), 64) // returns ±Inf beside its error for what is out of range
	if !(n > 0) {                                             // NaN too
		return 0
	}
	return n
}

// seconds is a number of seconds as a duration, cut to maxLifetime, and otherwise where it is not positive.
func seconds(n float64, otherwise time.Duration) time.Duration {
	if n <= 0 {
		return otherwise
	}
	return time.Duration(min(n, maxLifetime.Seconds()) * float64(time.Second))
}

// Numbers from earliestMoment on can be points in time in seconds since 1970 (from 2001 on), and those from earliestMillis on in
// milliseconds (from 1973 on). In seconds the latter would be the year 5138.
const (
	earliestMoment = 1e9
	earliestMillis = 1e11
)

// moment reads a point in time: seconds or milliseconds since 1970, or a date. It returns the zero time for everything else.
func moment(raw json.RawMessage) time.Time {
	switch n := number(raw); {
	case n >= 1e15:
		return time.Time{}
	case n >= earliestMillis:
		return time.UnixMilli(int64(n))
	case n >= earliestMoment:
		return time.Unix(0, 0).Add(time.Duration(n * float64(time.Second)))
	}
	s, _ := text(raw)
	at, _, _ := WrittenTime(s, time.UTC)
	return at
}

// WrittenTime reads a time in RFC 3339, or as HTTP, Go, Python and PowerShell write it. A time that names no time zone is in
// zone; zoned is false if that is the machine's own (time.Local). Where the time can't be read, ok is false.
func WrittenTime(s string, zone *time.Location) (t time.Time, zoned, ok bool) {
	s, _, _ = strings.Cut(s, " m=") // Go's monotonic clock
	s, utc := strings.CutSuffix(s, "UTC")
	s = strings.TrimSuffix(s, " ")
	for _, layout := range []string{
		time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700",
		"1/2/2006 15:04:05 Z07:00", "1/2/2006 3:04:05 PM Z07:00", "Mon, 02 Jan 2006 15:04:05 GMT", time.RFC1123Z,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true, true
		}
	}
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, zone != time.Local, true
		}
	}
	return time.Time{}, false, false
}

// JWTExpiry returns when a token expires by its own words: the claim exp of a JWT (RFC 7519 section 4.1.4), which is not
// verified. It is the zero time for a token that is no JWT, or says nothing that can be used.
func JWTExpiry(token protocol.Secret) time.Time { return moment(jwtClaims(token.Reveal())["exp"]) }

// jwtClaims returns the claims of a JWT, without a look at its signature, and nil for what is not one. The provider has just sent
// it to us, and it is read for the sake of what a server will make of it.
func jwtClaims(token string) map[string]json.RawMessage {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil
	}
	claims, err := object(payload)
	if err != nil {
		return nil
	}
	return claims
}

// scopes reads the list of scopes in an answer, fit to be shown. The field may be called scope or scopes. The scopes are
// separated by spaces (RFC 6749 section 3.3) or, where there is no space, by commas, or they are a JSON list. It returns nil
// where nothing that can be used is said.
func scopes(fields map[string]json.RawMessage) []string {
	said := list(fields["scope"])
	if said == nil {
		said = list(fields["scopes"])
	}
	var all []string
	for _, s := range said {
		if strings.ContainsAny(s, " \t\n") {
			all = append(all, strings.Fields(s)...)
		} else {
			all = append(all, strings.FieldsFunc(s, func(r rune) bool { return r == ',' })...)
		}
	}
	for i := range all {
		all[i] = printable(all[i])
	}
	return all
}

// list reads a JSON list of strings, without what is no string in it. A string alone is a list of one.
func list(raw json.RawMessage) []string {
	if s, ok := text(raw); ok {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	var items []json.RawMessage
	if !bytes.HasPrefix(raw, []byte("[")) || json.Unmarshal(raw, &items) != nil {
		return nil
	}
	var all []string
	for _, item := range items {
		if s, _ := text(item); s != "" {
			all = append(all, s)
		}
	}
	return all
}

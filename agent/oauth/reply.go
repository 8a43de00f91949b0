package oauth

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// judge turns a token endpoint's answer into a reply or the condition it stands for.
func (a *answer) judge(about subject, issued time.Time) (Reply, *Error) {
	if !a.ok() {
		return Reply{}, a.refused(about, issued)
	}
	fields, err := a.object()
	if err != nil {
		e := a.unreadable()
		e.Ambiguous = true
		return Reply{}, e
	}
	if bare(fields["access_token"]) && bare(fields["refresh_token"]) && a.failed() {
		return Reply{}, a.refused(about, issued)
	}
	reply := Reply{
		Issued: issued,
		Expiry: issued.Add(lifetime(fields["expires_in"], DefaultLifetime)).Truncate(time.Millisecond),
		Scopes: scopes(fields["scope"]),
	}
	if left := lifetime(fields["refresh_token_expires_in"], 0); left > 0 {
		reply.GrantExpiry = issued.Add(left).Truncate(time.Millisecond)
	}
	refresh, ok := token(fields["refresh_token"])
	if !ok {
		return Reply{}, &Error{Condition: unavailable("its answer has a refresh_token that is not one"), Ambiguous: true}
	}
	reply.RefreshToken = refresh
	access, ok := token(fields["access_token"])
	switch {
	case !ok:
		return reply, &Error{Condition: unavailable("its answer has an access_token that is not one"), Ambiguous: true}
	case access.Empty():
		return reply, &Error{Condition: unavailable("its answer has no access_token"), Ambiguous: true}
	}
	reply.AccessToken = access
	reply.idToken, _ = text(fields["id_token"])
	reply.Identity = accountOf(fields)
	return reply, nil
}

// bare reports whether nothing is said: absent, null, "" and false are nothing.
func bare(raw json.RawMessage) bool {
	s, ok := text(raw)
	return ok && s == "" || string(raw) == "false"
}

// token reads a token: see protocol.IsToken. Absent, null and "" are the empty Secret and true.
func token(raw json.RawMessage) (protocol.Secret, bool) {
	switch s, ok := text(raw); {
	case ok && s == "":
		return protocol.Secret{}, true
	case ok && protocol.IsToken(s):
		return protocol.NewSecret(s), true
	}
	return protocol.Secret{}, false
}

// lifetime reads a number of seconds, also one in a string as some providers write it. What is unusable is otherwise:
// a reply is never dropped for it, because the refresh token it carries may be the only one that still works.
func lifetime(raw json.RawMessage, otherwise time.Duration) time.Duration {
	digits := string(raw)
	if s, ok := text(raw); ok {
		digits = s
	}
	seconds, _ := strconv.ParseFloat(digits, 64) // 0 for what is no number, ±Inf for what is out of range
	if !(seconds > 0) {                          // NaN too
		return otherwise
	}
	return time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
}

// scopes reads a space-separated list (RFC 6749 section 3.3); nil when nothing usable is said.
func scopes(raw json.RawMessage) []string {
	s, _ := text(raw)
	var list []string
	for scope := range strings.FieldsSeq(s) {
		list = append(list, clean(scope, nil))
	}
	return list
}

// retryAfter reads the header (RFC 9110 section 10.2.3): seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// lacking is a token that may not do what was asked (RFC 6750 section 3.1), with the scope that it takes where that is said.
func (a *answer) lacking() *Error {
	scope := a.bearer()["scope"]
	if fields, err := a.object(); err == nil && scope == "" {
		scope, _ = text(fields["scope"])
	}
	if scope = clean(scope, a.asked); scope == "" {
		e := fail(protocol.CodeDenied, "the sign-in lacks a scope that this needs")
		e.Condition.Hint = "ask for it with: " + a.client.login("--scope", "SCOPE")
		return e
	}
	e := fail(protocol.CodeDenied, "the sign-in lacks the scope "+scope)
	var flags []string
	for _, one := range strings.Fields(scope) {
		flags = append(flags, "--scope", one)
	}
	e.Condition.Hint = "ask for it with: " + a.client.login(flags...)
	return e
}

// bearer is what the answer's Bearer challenge says, wherever it stands among others.
func (a *answer) bearer() map[string]string {
	for _, header := range a.header.Values("WWW-Authenticate") {
		if params := challenge(header); params != nil {
			return params
		}
	}
	return nil
}

// challenge reads the parameters of a Bearer challenge (RFC 6750 section 3), which may come after others. It returns nil where
// there is none.
func challenge(header string) map[string]string {
	if i := strings.LastIndex(strings.ToLower(header), ", bearer "); i >= 0 {
		header = header[i+2:]
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	params := map[string]string{}
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		value := ""
		if quoted, isQuoted := strings.CutPrefix(strings.TrimSpace(after), `"`); isQuoted {
			value, rest, _ = strings.Cut(quoted, `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		params[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return params
}

package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// judge turns a token endpoint's answer into a reply or the condition it stands for.
func (a *answer) judge(issued time.Time) (Reply, *Error) {
	if !a.ok() {
		return Reply{}, a.refused(issued)
	}
	fields, err := object(a.body)
	if err != nil {
		return Reply{}, &Error{Condition: unavailable("its answer is not a JSON object"), Ambiguous: true}
	}
	if code, _ := a.reason(); code != "" && fields["access_token"] == nil && fields["refresh_token"] == nil {
		// GitHub reports its errors as successes.
		said := *a
		said.status = http.StatusBadRequest
		return Reply{}, said.refused(issued)
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

// token reads a token: printable ASCII without spaces, as RFC 6750 section 2.1 and every consumer wants it. Absent, null
// and "" are the empty Secret and true.
func token(raw json.RawMessage) (protocol.Secret, bool) {
	s, ok := text(raw)
	if !ok || len(s) > maxToken {
		return protocol.Secret{}, false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return protocol.Secret{}, false
		}
	}
	if s == "" {
		return protocol.Secret{}, true
	}
	return protocol.NewSecret(s), true
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

// redirected says where an endpoint pointed to, by host alone: a Location may hold anything.
func (a *answer) redirected() *protocol.Error {
	message := fmt.Sprintf("it answered with a redirect (%d), which is never followed with a secret", a.status)
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Hostname() != "" {
		message = fmt.Sprintf("it answered with a redirect (%d) to %s, which is never followed with a secret",
			a.status, clean(u.Hostname(), nil))
	}
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: message,
		Hint: "a login page of the network may be in the way; otherwise check the provider's URLs in config.toml"}
}

// refused sorts an error answer (RFC 6749 section 5.2) into permanent, configuration and transient. The code alone is
// not enough for the first: a gateway's 5xx or 429 may quote what the provider said to somebody else.
func (a *answer) refused(now time.Time) *Error {
	if a.status >= 300 && a.status < 400 {
		return &Error{Condition: a.redirected()}
	}
	code, description := a.reason()
	shown := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if code != "" {
		shown = fmt.Sprintf("%d %s", a.status, code)
	}
	if description != "" {
		shown += ": " + description
	}
	clientError := a.status == 400 || a.status == 401 || a.status == 403
	switch {
	case clientError && code == "invalid_grant":
		return (&Error{Condition: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "the provider no longer accepts this sign-in (" + shown + ")"}}).saying(code)
	case clientError && code == "insufficient_scope":
		return a.lacking().saying(code)
	case clientError && configurationErrors[code]:
		return fail(protocol.CodeConfig, "the provider refuses our request ("+shown+")").saying(code)
	}
	return &Error{
		code:       code,
		Condition:  unavailable("the provider can't answer now (" + strings.TrimSpace(shown) + ")"),
		RetryAfter: retryAfter(a.header.Get("Retry-After"), now),
	}
}

// configurationErrors are the codes that trying again does not mend and signing in again neither.
var configurationErrors = map[string]bool{
	"invalid_client":         true,
	"unauthorized_client":    true,
	"invalid_request":        true,
	"invalid_request_error":  true, // the same in the second shape below
	"unsupported_grant_type": true,
	"invalid_scope":          true,
	"unknown_issuer":         true,
}

// reason finds the error code and description in either of two shapes, cleaned for showing: RFC 6749's strings `error` and
// `error_description`, or an object {"error":{"type","message"}}.
func (a *answer) reason() (code, description string) {
	fields, err := object(a.body)
	if err != nil {
		return "", ""
	}
	code, _ = text(fields["error"])
	description, _ = text(fields["error_description"])
	if inner, err := object(fields["error"]); err == nil {
		code, _ = text(inner["type"])
		description, _ = text(inner["message"])
	}
	secrets := slices.Clone(a.asked)
	for _, key := range []string{"access_token", "refresh_token", "id_token"} {
		if s, _ := text(fields[key]); s != "" {
			secrets = append(secrets, s)
		}
	}
	return clean(code, secrets), clean(description, secrets)
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

func (e *Error) saying(code string) *Error {
	e.code = code
	return e
}

// lacking is a token that may not do what was asked (RFC 6750 section 3.1), with the scope that it takes where that is said.
func (a *answer) lacking() *Error {
	scope := challenge(a.header.Get("WWW-Authenticate"))["scope"]
	if fields, err := object(a.body); err == nil && scope == "" {
		scope, _ = text(fields["scope"])
	}
	if scope = clean(scope, a.asked); scope == "" {
		e := fail(protocol.CodeDenied, "the sign-in lacks a scope that this needs")
		e.Condition.Hint = "ask for it with: ccagent login --scope SCOPE"
		return e
	}
	e := fail(protocol.CodeDenied, "the sign-in lacks the scope "+scope)
	e.Condition.Hint = "ask for it with: ccagent login --scope '" + scope + "'"
	return e
}

// challenge reads the parameters of a Bearer challenge (RFC 6750 section 3); nil for any other.
func challenge(header string) map[string]string {
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

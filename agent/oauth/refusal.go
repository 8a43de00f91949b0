package oauth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/protocol"
)

// subject is what a provider refuses when it refuses a request for good.
type subject struct {
	refused string // says that it did
	code    protocol.Code
	asks    bool // the request carries what config.toml asks for: scopes, an audience, resources
}

var (
	aSignIn     = subject{"the provider no longer accepts this sign-in", protocol.CodeLoginRequired, false}
	aCode       = subject{"the provider refuses the code", protocol.CodeLoginRequired, true}
	anAssertion = subject{"the provider refuses the assertion", protocol.CodeLoginRequired, true}
	aToken      = subject{"the provider refuses the token", protocol.CodeExpired, false}
	ourClient   = subject{"the provider refuses our request", protocol.CodeConfig, true}
)

// What an error code means. Only the codes that pass, and those that a sign-in can't mend, are listed: every other one is
// final, because providers make up codes of their own (bad_refresh_token, refresh_token_reused), and asking again brings the
// same answer.
var (
	// passing are the codes of a provider that is busy, broken or waiting for something.
	passing = codes("authorization_pending", "slow_down", "temporarily_unavailable", "server_error", "rate_limit", "rate_limited",
		"rate_limit_exceeded", "request_limit_exceeded", "too_many_requests", "throttled", "throttling", "quota_exceeded",
		"resource_exhausted", "overloaded", "server_busy", "service_unavailable", "unavailable", "api_error", "internal",
		"internal_failure", "internal_server_error", "backend_error", "fatal_error", "timeout", "request_timeout",
		"deadline_exceeded", "try_again_later", "team_added_to_org")
	// misconfigured are the codes that speak of how we ask. Those that speak of our client have that word in them.
	misconfigured = codes("application_suspended", "invalid_request", "unsupported_grant_type", "invalid_grant_type",
		"unsupported_response_type", "unsupported_token_type", "device_flow_disabled", "redirect_uri_mismatch",
		"invalid_redirect_uri", "bad_redirect_uri", "use_dpop_nonce", "invalid_dpop_proof", "unknown_issuer")
	// wished are the codes that speak of what config.toml asks for. A renewal does not ask for it, so there the sign-in itself is
	// no longer good for it.
	wished = codes("invalid_scope", "invalid_target", "invalid_resource", "invalid_audience")
	// dead are the codes that speak of the token that was sent. Others that have the word in them may speak of another one, such
	// as a gateway's csrf_token.
	dead = codes("invalid_grant", "invalid_token", "bad_token", "token_invalid", "expired_token", "token_expired",
		"revoked_token", "token_revoked", "inactive_token", "token_inactive", "token_reused", "token_not_found")
	// declined are the codes of a person or a rule that said no, and lapsed those of a device code that came too late.
	declined = codes("access_denied", "authorization_declined")
	lapsed   = codes("expired_token", "code_expired")
)

func codes(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[fold(name)] = true
	}
	return set
}

// fold makes one of the ways in which providers spell a code: invalid_request, INVALID_REQUEST, InvalidRequestException,
// invalid_request_error.
func fold(code string) string {
	code = strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, code)
	return cmp.Or(strings.TrimSuffix(strings.TrimSuffix(code, "error"), "exception"), code)
}

// blamesUs reports whether a folded code says that our client is at fault, or how it asks.
func blamesUs(code string) bool { return misconfigured[code] || strings.Contains(code, "client") }

// blamesToken reports whether a folded code or text says that the token is at fault, and not our client or the kind of grant.
func blamesToken(said string) bool {
	names := strings.Contains(said, fold("refresh_token")) && !strings.Contains(said, "client") && !strings.Contains(said, "grant")
	return dead[said] || names
}

// failed reports whether the answer is an error. GitHub and Slack report theirs as successes, and a network's login page comes as
// one.
func (a *answer) failed() bool {
	if !a.ok() || a.page() {
		return true
	}
	code, _ := a.reason()
	return code != ""
}

// refused sorts an error answer into the conditions. An OAuth error (RFC 6749 section 5.2) with a status of 4xx or 200 is final
// unless its code is known to pass. So is a 401 that says nothing. Other statuses are not: a gateway's 5xx or 429 may quote what
// the provider said to somebody else, and what is no OAuth error need not be the provider's at all.
func (a *answer) refused(about subject, now time.Time) *Error {
	if a.status >= 300 && a.status < 400 {
		return &Error{Condition: a.redirected()}
	}
	said, description := a.reason()
	if !isCode(said) { // a text in the place of a code
		said, description = "", strings.Trim(said+": "+description, ": ")
	}
	code, words := fold(said), fold(description)
	switch {
	case said == "" && (a.ownWords() || blamesToken(words)):
		code = words
	case said == "":
		description = ""
	case blamesUs(code) && !strings.Contains(code, "grant") && blamesToken(words):
		code = fold("invalid_grant") // Atlassian says unauthorized_client of such a token, and Zoom invalid_request
	}
	shown := strings.TrimSpace(strconv.Itoa(a.status) + " " + cmp.Or(said, http.StatusText(a.status)))
	e := a.sorted(about, code, shown, now)
	e.Condition.Detail = description
	return e
}

// ownWords reports whether words without a code are the provider's own: the status is one with which an OAuth endpoint refuses
// (RFC 6749 section 5.2). With others it may be a router or a guard that says something.
func (a *answer) ownWords() bool {
	switch a.status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusUnprocessableEntity:
		return true
	}
	return a.ok()
}

// isCode reports whether s is an error code as providers write them: no text, in which anything might stand.
func isCode(s string) bool {
	return len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("_-.:", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
}

// sorted is refused for an answer with this code, of which shown is shown.
func (a *answer) sorted(about subject, code, shown string, now time.Time) *Error {
	switch speaks := code != "" || a.status == http.StatusUnauthorized && !a.page(); {
	case !a.final() || passing[code]:
	case code == fold("insufficient_scope"):
		return a.lacking().saying(code)
	case blamesUs(code), wished[code] && about.asks:
		return fail(protocol.CodeConfig, ourClient.refused+" ("+shown+")").saying(code)
	case speaks:
		e := fail(about.code, about.refused+" ("+shown+")").saying(code)
		e.Dead = blamesToken(cmp.Or(a.narrower(), code))
		return e
	}
	e := &Error{code: code, RetryAfter: retryAfter(a.header.Get("Retry-After"), now)}
	switch {
	case a.page(), a.status == http.StatusProxyAuthRequired, a.status == http.StatusNetworkAuthenticationRequired:
		e.Condition = unavailable("something between here and the provider answers, or a guard before it (" + shown + ")")
		e.Condition.Hint = wayHint
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, a.status == http.StatusGone:
		e.Condition = unavailable("there is nothing at that address now (" + shown + ")")
		e.Condition.Hint = "if that goes on, check the provider's URLs in config.toml"
	default:
		e.Condition = unavailable("the provider can't answer now (" + shown + ")")
	}
	return e
}

const wayHint = "a login page of the network may be in the way; otherwise check the provider's URLs in config.toml"

// final reports whether the status allows an answer to be the provider's last word.
func (a *answer) final() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusProxyAuthRequired:
		return false
	}
	return a.ok() || a.status/100 == 4
}

// page reports whether the answer is a web page: a captive portal's, a proxy's or a guard's. No endpoint of a provider's
// answers with one. Some give JSON the type of one.
func (a *answer) page() bool {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	body := bytes.TrimSpace(a.body)
	labelled := kind == "text/html" && !a.ok() // a success of a few words often is
	return len(body) > 0 && (body[0] == '<' || labelled && body[0] != '{' && body[0] != '[')
}

// unreadable is the error of a success whose body can't be read.
func (a *answer) unreadable() *Error {
	e := &Error{Condition: unavailable("its answer is not a JSON object")}
	if a.page() {
		e.Condition.Hint = wayHint
	}
	return e
}

// reason finds the error code and its description, cleaned for showing, in the shapes that providers use: RFC 6749's strings, an
// object {"error":{"code","type","message"}}, a list of either, words alone, or a challenge (RFC 6750 section 3). What only
// repeats the status in words says nothing: a router does that too.
func (a *answer) reason() (code, description string) {
	secrets := slices.Clone(a.asked)
	if fields, err := a.object(); err == nil {
		for _, key := range []string{"error", "errors", "error_code", "errorCode"} {
			if code, description = complaint(fields[key]); code != "" || description != "" {
				break
			}
		}
		description = cmp.Or(description, first(fields, "error_description", "message", "errorSummary", "reason", "detail"))
		if code == "" && description == "" {
			description = first(fields, "status", "code") // HubSpot's place for a code
		}
		for _, key := range []string{"access_token", "refresh_token", "id_token"} {
			secrets = append(secrets, first(fields, key))
		}
	}
	if code == "" && !a.ok() {
		params := a.bearer()
		code, description = params["error"], cmp.Or(params["error_description"], description)
	}
	if a.inWords(code) {
		code = ""
	}
	if a.inWords(description) {
		description = ""
	}
	return clean(code, secrets), clean(description, secrets)
}

// inWords reports whether s is no more than the status in words, with its number or without.
func (a *answer) inWords(s string) bool {
	return strings.TrimPrefix(fold(s), strconv.Itoa(a.status)) == fold(http.StatusText(a.status))
}

// narrower is the folded code that tells more exactly than the error code what was refused, "" where there is none. Entra and
// Google say invalid_grant also where a rule or a missing consent stands in the way, and tell so here.
func (a *answer) narrower() string {
	fields, err := a.object()
	if err != nil {
		return ""
	}
	return fold(first(fields, "suberror", "error_subtype"))
}

// first returns the first of these fields that is a string and not empty, "" where none is.
func first(fields map[string]json.RawMessage, names ...string) string {
	for _, name := range names {
		if s, _ := text(fields[name]); s != "" {
			return s
		}
	}
	return ""
}

// complaint reads one error in whatever shape it has. The code is "" where there is none in it.
func complaint(raw json.RawMessage) (code, description string) {
	if code, ok := text(raw); ok {
		return code, ""
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		raw = list[0]
		if code, ok := text(raw); ok {
			return code, ""
		}
	}
	inner, err := object(raw)
	if err != nil {
		return "", ""
	}
	for _, key := range []string{"code", "type", "errorType", "status", "error"} {
		if s, _ := text(inner[key]); strings.ContainsFunc(s, unicode.IsLetter) { // a number is a status
			code = s
			break
		}
	}
	return code, first(inner, "message", "description", "error_description", "detail")
}

func (e *Error) saying(code string) *Error {
	e.code = code
	return e
}

// redirected says where an endpoint pointed to, by host alone: a Location may hold anything.
func (a *answer) redirected() *protocol.Error {
	message := fmt.Sprintf("it answered with a redirect (%d), which is never followed with a secret", a.status)
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Hostname() != "" {
		message = fmt.Sprintf("it answered with a redirect (%d) to %s, which is never followed with a secret",
			a.status, clean(u.Hostname(), nil))
	}
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: message, Hint: wayHint}
}

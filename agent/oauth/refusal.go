package oauth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/protocol"
)

// subject is what a request stands or falls with: what the provider refuses when it refuses the request for good.
type subject struct {
	refused string // what has happened then
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
	passing = codes("authorization_pending", "slow_down", "temporarily_unavailable", "server_error",
		"rate_limited", "rate_limit_error", "rate_limit_exceeded", "too_many_requests", "quota_exceeded", "resource_exhausted",
		"overloaded", "overloaded_error", "service_unavailable", "unavailable", "api_error", "internal", "internal_error",
		"internal_failure", "internal_server_error", "backend_error", "fatal_error", "timeout", "timeout_error",
		"request_timeout", "deadline_exceeded", "try_again_later")
	// misconfigured are the codes that speak of our client or of how it asks.
	misconfigured = codes("invalid_client", "unauthorized_client", "incorrect_client_credentials", "invalid_client_id",
		"invalid_client_secret", "bad_client_id", "bad_client_secret", "client_not_found", "unknown_client", "deleted_client",
		"disabled_client", "application_suspended", "invalid_request", "invalid_request_error", "unsupported_grant_type",
		"invalid_grant_type", "unsupported_response_type", "unsupported_token_type", "device_flow_disabled",
		"redirect_uri_mismatch", "invalid_redirect_uri", "bad_redirect_uri", "invalid_client_metadata", "use_dpop_nonce", "invalid_dpop_proof",
		"unknown_issuer")
	// wished are the codes that speak of what config.toml asks for. A renewal asks for nothing of that: there it is the sign-in
	// that is not good for it any more.
	wished = codes("invalid_scope", "invalid_target", "invalid_resource", "invalid_audience")
	// dead are the codes that speak of the token that was sent. Others with the word in them may not: a gateway's csrf_token.
	dead = codes("invalid_grant", "invalid_token", "bad_token", "token_invalid", "expired_token", "token_expired", "revoked_token",
		"token_revoked", "inactive_token", "token_inactive", "token_reused", "token_not_found")
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

// fold makes one of the ways in which providers spell a code: invalid_grant, INVALID_GRANT, invalid-grant, InvalidGrant.
func fold(code string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, code)
}

// failed reports whether the answer is an error. GitHub and Slack report theirs as successes.
func (a *answer) failed() bool {
	if !a.ok() {
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
	code := fold(said)
	if !isCode(said) { // a text in the place of a code
		said, description = "", strings.Trim(said+": "+description, ": ")
	}
	shown := strings.TrimSpace(strconv.Itoa(a.status) + " " + cmp.Or(said, http.StatusText(a.status)))
	e := a.sorted(about, code, shown, now)
	e.Condition.Detail = description
	return e
}

// isCode reports whether s is an error code as providers write them: no text, in which anything might stand.
func isCode(s string) bool {
	return len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && r != '.' && r != ':' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
}

// sorted is refused for an answer with this code, of which shown is shown.
func (a *answer) sorted(about subject, code, shown string, now time.Time) *Error {
	switch speaks := code != "" || a.status == http.StatusUnauthorized && !a.page(); {
	case !a.final() || passing[code]:
	case code == fold("insufficient_scope"):
		return a.lacking().saying(code)
	case misconfigured[code], wished[code] && about.asks:
		return fail(protocol.CodeConfig, ourClient.refused+" ("+shown+")").saying(code)
	case speaks:
		e := fail(about.code, about.refused+" ("+shown+")").saying(code)
		e.Dead = dead[code] || strings.Contains(code, fold("refresh_token"))
		return e
	}
	e := &Error{code: code, RetryAfter: retryAfter(a.header.Get("Retry-After"), now)}
	switch {
	case a.page():
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
// answers with one.
func (a *answer) page() bool {
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	body := bytes.TrimSpace(a.body)
	return len(body) > 0 && (body[0] == '<' || strings.EqualFold(strings.TrimSpace(kind), "text/html"))
}

// reason finds the error code and its description, cleaned for showing, in the shapes that providers use: RFC 6749's strings, an
// object {"error":{"code","type","message"}}, a list of either, or a challenge (RFC 6750 section 3). A code that is no more
// than the status in words is none: a router says it too.
func (a *answer) reason() (code, description string) {
	secrets := slices.Clone(a.asked)
	if fields, err := object(a.body); err == nil {
		for _, key := range []string{"error", "errors", "error_code", "errorCode"} {
			if code, description = complaint(fields[key]); code != "" {
				break
			}
		}
		for _, key := range []string{"error_description", "message"} {
			if s, _ := text(fields[key]); s != "" && code != "" && description == "" {
				description = s
			}
		}
		for _, key := range []string{"access_token", "refresh_token", "id_token"} {
			if s, _ := text(fields[key]); s != "" {
				secrets = append(secrets, s)
			}
		}
	}
	if code == "" && !a.ok() {
		params := challenge(a.header.Get("WWW-Authenticate"))
		code, description = params["error"], params["error_description"]
	}
	if fold(code) == fold(http.StatusText(a.status)) {
		code = ""
	}
	return clean(code, secrets), clean(description, secrets)
}

// complaint reads one error in whatever shape it has; "" where there is no code in it.
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
	for _, key := range []string{"code", "type", "status", "error"} {
		if s, _ := text(inner[key]); strings.ContainsFunc(s, unicode.IsLetter) { // a number is a status
			code = s
			break
		}
	}
	for _, key := range []string{"message", "description", "error_description"} {
		if description, _ = text(inner[key]); description != "" {
			break
		}
	}
	return code, description
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

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

// purpose is what a request was made for. It decides what it means if the provider refuses for good.
type purpose struct {
	refused string        // the start of the message
	code    protocol.Code // of the error
	scopes  bool          // the request carries the scopes that config.toml asks for
	targets bool          // the request carries an audience or resources of config.toml
}

// asksFor reports whether a folded code is about something that the request carries because config.toml says so.
func (p purpose) asksFor(code string) bool {
	if code == fold("invalid_scope") {
		return p.scopes
	}
	return scopeCodes.has(code) && p.targets
}

// renewalOf is the purpose of a renewal with these parameters.
func renewalOf(form url.Values) purpose {
	p := forRefresh
	p.scopes, p.targets = form.Has("scope"), form.Has("audience") || form.Has("resource")
	return p
}

var (
	forRefresh   = purpose{"the provider no longer accepts this sign-in", protocol.CodeLoginRequired, false, false}
	forCode      = purpose{"the provider refuses the code", protocol.CodeLoginRequired, true, true}
	forAssertion = purpose{"the provider refuses the assertion", protocol.CodeLoginRequired, true, true}
	forAccess    = purpose{"the provider refuses the token", protocol.CodeExpired, false, false}
	forExchange  = purpose{"the provider does not exchange the token", protocol.CodeDenied, true, true}
	forClient    = purpose{"the provider refuses our request", protocol.CodeConfig, true, true}
)

// What an error code means. We list only the codes that are temporary, and those that a new sign-in does not help against. Every
// other code is final, because providers invent codes of their own (bad_refresh_token, refresh_token_reused), and to ask again
// would bring the same answer.
var (
	// temporaryCodes come from a provider that is busy, broken or waiting for something.
	temporaryCodes = codes{"authorization_pending", "slow_down", "temporarily_unavailable", "server_error", "rate_limit",
		"rate_limited", "rate_limit_exceeded", "request_limit_exceeded", "too_many_requests", "throttled", "throttling",
		"quota_exceeded", "resource_exhausted", "overloaded", "server_busy", "service_unavailable", "unavailable", "api_error",
		"internal", "internal_failure", "internal_server_error", "backend_error", "fatal_error", "timeout", "request_timeout",
		"deadline_exceeded", "try_again_later", "team_added_to_org"}
	// requestCodes say that the way we ask is wrong. Codes about our client are not listed: they have that word in them.
	requestCodes = codes{"application_suspended", "invalid_request", "unsupported_grant_type", "invalid_grant_type",
		"unsupported_response_type", "unsupported_token_type", "device_flow_disabled", "redirect_uri_mismatch",
		"invalid_redirect_uri", "bad_redirect_uri", "use_dpop_nonce", "invalid_dpop_proof", "unknown_issuer"}
	// scopeCodes say that what config.toml asks for is wrong. Where a renewal does not ask for it, they mean that the sign-in itself
	// is no longer good for it.
	scopeCodes = codes{"invalid_scope", "invalid_target", "invalid_resource", "invalid_audience"}
	// tokenCodes speak of the token that was sent. Other codes with that word in them may speak of another token, such as the
	// csrf_token of a gateway.
	tokenCodes = codes{"invalid_grant", "invalid_token", "bad_token", "token_invalid", "expired_token", "token_expired",
		"revoked_token", "token_revoked", "inactive_token", "token_inactive", "token_reused", "token_not_found"}
	// deniedCodes mean that a person or a rule said no, and expiredCodes that a device code came too late.
	deniedCodes  = codes{"access_denied", "authorization_declined"}
	expiredCodes = codes{"expired_token", "code_expired"}
	// interactionCodes mean that a person is needed and was not asked (OpenID Connect Core section 3.1.2.6).
	interactionCodes = codes{"interaction_required", "login_required", "account_selection_required", "consent_required"}
)

// codes are error codes, as a provider may write them. They are folded where they are compared: the agent is the same program as
// the worker, and folded in advance they would take its memory for nothing.
type codes []string

// has reports whether a folded code is among them.
func (c codes) has(folded string) bool {
	return slices.ContainsFunc(c, func(code string) bool { return fold(code) == folded })
}

// fold makes one spelling of the many that providers have for a code: invalid_request, INVALID_REQUEST, InvalidRequestException,
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

// blamesUs reports whether a folded code says that our client is at fault, or the way it asks.
func blamesUs(code string) bool { return requestCodes.has(code) || strings.Contains(code, "client") }

// blamesToken reports whether a folded code or text says that the token is at fault, and not our client or the kind of grant.
func blamesToken(said string) bool {
	names := strings.Contains(said, fold("refresh_token")) && !strings.Contains(said, "client") && !strings.Contains(said, "grant")
	return tokenCodes.has(said) || names
}

// failed reports whether the answer is an error. GitHub and Slack send errors with the status of a success, and so does the login
// page of a network.
func (a *answer) failed() bool {
	if !a.ok() || a.isPage() {
		return true
	}
	code, _ := a.reason()
	return code != ""
}

// refusal turns an error answer into an error. An OAuth error (RFC 6749 section 5.2) with a status of 4xx or 200 is final, unless
// its code is known to be temporary. A 401 that says nothing is final as well. Other statuses are not: a gateway's 5xx or 429 may
// quote what the provider said to somebody else. And what is not an OAuth error may not come from the provider at all.
func (a *answer) refusal(p purpose, now time.Time) *Error {
	if a.status >= 300 && a.status < 400 {
		return &Error{Condition: a.redirected()}
	}
	said, description := a.reason()
	if !isCode(said) { // a sentence in the place of a code
		said, description = "", strings.Trim(said+": "+description, ": ")
	}
	code, words := fold(said), fold(description)
	switch {
	case said == "" && (a.hasOAuthStatus() || blamesToken(words)):
		code = words
	case said == "":
		description = ""
	case blamesUs(code) && !strings.Contains(code, "grant") && blamesToken(words):
		code = fold("invalid_grant") // of such a token Atlassian says unauthorized_client, and Zoom invalid_request
	}
	shown := strings.TrimSpace(strconv.Itoa(a.status) + " " + cmp.Or(said, http.StatusText(a.status)))
	e := a.classify(p, code, shown, now)
	e.code = code
	e.Condition.Detail = description
	a.refine(e, description, shown)
	if strings.Contains(description, "AADSTS90009") {
		e.Condition.Hint = "client and service are one application of Entra's: in scopes and refresh_params of config.toml, write " +
			"its id without api://, as in ID/.default; then: " + a.client.Login()
	}
	return e
}

// hasOAuthStatus reports whether the status is one with which an OAuth endpoint refuses (RFC 6749 section 5.2). Words that come
// without an error code are then the provider's own. With another status they may come from a router or a guard.
func (a *answer) hasOAuthStatus() bool {
	switch a.status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusUnprocessableEntity:
		return true
	}
	return a.ok()
}

// isCode reports whether s is an error code as providers write them, and not a text, which may hold anything.
func isCode(s string) bool {
	return len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("_-.:", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	})
}

// classify is refusal for an answer whose folded code is known. shown is what the message shows of it.
func (a *answer) classify(p purpose, code, shown string, now time.Time) *Error {
	saysSomething := code != "" || a.status == http.StatusUnauthorized && !a.isPage()
	if a.canBeFinal() && !temporaryCodes.has(code) {
		switch {
		case code == fold("insufficient_scope"):
			return a.missingScope()
		case blamesUs(code), p.asksFor(code):
			e := fail(protocol.CodeConfig, forClient.refused+" ("+shown+")")
			if p.refused == forRefresh.refused && p.asksFor(code) {
				e.Condition.Hint = "check audience, resource and refresh_params of the profile in config.toml: in refresh_params, " +
					"resource = \"\" and the like leave out of a renewal what the provider does not want there; then: " +
					a.client.refresh()
			}
			if strings.Contains(code, "client") && code != fold("unauthorized_client") {
				e.Condition.Hint = a.authHint()
			}
			return e
		case saysSomething:
			e := fail(p.code, p.refused+" ("+shown+")")
			e.Dead = blamesToken(cmp.Or(a.subcode(), code))
			return e
		}
	}
	e := &Error{RetryAfter: retryAfter(a.header.Get("Retry-After"), now)}
	switch {
	case a.isPage(), a.status == http.StatusProxyAuthRequired, a.status == http.StatusNetworkAuthenticationRequired:
		e.Condition = unavailable("something between here and the provider answers, or a guard in front of it (" + shown + ")")
		e.Condition.Hint = networkHint
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, a.status == http.StatusGone:
		e.Condition = unavailable("there is nothing at that address now (" + shown + ")")
		e.Condition.Hint = "if that goes on, check the provider's URLs in config.toml"
	default:
		e.Condition = unavailable("the provider can't answer now (" + shown + ")")
	}
	return e
}

const networkHint = "a login page of the network may be in the way; otherwise check the provider's URLs in config.toml"

// canBeFinal reports whether the status allows an answer to be the provider's last word.
func (a *answer) canBeFinal() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusProxyAuthRequired:
		return false
	}
	return a.ok() || a.status/100 == 4
}

// isPage reports whether the answer is a web page, as a network's login, a proxy or a guard sends one. No endpoint of a provider
// answers with a page, though some label their JSON as one.
func (a *answer) isPage() bool {
	kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	body := bytes.TrimSpace(a.body)
	labelled := kind == "text/html" && !a.ok() // a success of a few words is often labelled so
	return len(body) > 0 && (body[0] == '<' || labelled && body[0] != '{' && body[0] != '[')
}

// unreadable is the error of a success whose body can't be read.
func (a *answer) unreadable() *Error {
	e := &Error{Condition: unavailable("its answer is not a JSON object")}
	if a.isPage() {
		e.Condition.Hint = networkHint
	}
	return e
}

// reason finds the error code and its description, cleaned for showing. It knows the shapes that providers use: RFC 6749's
// strings, an object {"error":{"code","type","message"}}, a list of either, words alone, and a challenge (RFC 6750 section 3).
// What only repeats the status in words counts as nothing, because a router answers so too.
func (a *answer) reason() (code, description string) {
	secrets := slices.Clone(a.sent)
	if fields, err := a.object(); err == nil {
		for _, key := range []string{"error", "errors", "error_code", "errorCode"} {
			if code, description = errorIn(fields[key]); code != "" || description != "" {
				break
			}
		}
		description = cmp.Or(description, first(fields, "error_description", "message", "errorSummary", "reason", "detail"))
		if code == "" && description == "" {
			description = first(fields, "status", "code") // HubSpot puts its codes there
		}
		for _, key := range []string{"access_token", "refresh_token", "id_token"} {
			secrets = append(secrets, first(fields, key))
		}
	}
	if code == "" && !a.ok() {
		params := a.bearerChallenge()
		code, description = params["error"], cmp.Or(params["error_description"], description)
	}
	if a.repeatsStatus(code) {
		code = ""
	}
	if a.repeatsStatus(description) {
		description = ""
	}
	return clean(code, secrets), clean(description, secrets)
}

// repeatsStatus reports whether s is no more than the status in words, with its number or without.
func (a *answer) repeatsStatus(s string) bool {
	return strings.TrimPrefix(fold(s), strconv.Itoa(a.status)) == fold(http.StatusText(a.status))
}

// subcode is the folded code that says more exactly than the error code what was refused, "" where there is none. Entra and
// Google say invalid_grant also where a rule forbids the renewal or consent is missing, and add the reason here.
func (a *answer) subcode() string {
	fields, err := a.object()
	if err != nil {
		return ""
	}
	return fold(first(fields, "suberror", "error_subtype"))
}

// first returns the first of these fields that is a string and not empty. It returns "" where there is none.
func first(fields map[string]json.RawMessage, names ...string) string {
	for _, name := range names {
		if s, _ := text(fields[name]); s != "" {
			return s
		}
	}
	return ""
}

// errorIn reads an error in any of its shapes. The code is "" where the error has none.
func errorIn(raw json.RawMessage) (code, description string) {
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
		if s, _ := text(inner[key]); strings.ContainsFunc(s, unicode.IsLetter) { // a number repeats the status
			code = s
			break
		}
	}
	return code, first(inner, "message", "description", "error_description", "detail")
}

// redirected says where the endpoint pointed to. It names the host alone, because the rest of a Location may hold anything.
func (a *answer) redirected() *protocol.Error {
	to := ""
	if u, err := url.Parse(a.header.Get("Location")); err == nil && u.Hostname() != "" {
		to = " to " + printable(u.Hostname())
	}
	message := fmt.Sprintf("it answered with a redirect (%d)%s, which is never followed with a secret", a.status, to)
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: message, Hint: networkHint}
}

// missingScope is the error for a token that may not do what was asked (RFC 6750 section 3.1). It names the scope where the
// provider does.
func (a *answer) missingScope() *Error {
	scope := a.bearerChallenge()["scope"]
	if fields, err := a.object(); err == nil && scope == "" {
		scope = strings.Join(scopes(fields), " ")
	}
	if scope = clean(scope, a.sent); scope == "" {
		e := fail(protocol.CodeDenied, "the sign-in lacks a scope that this needs")
		e.Condition.Hint = "ask for it with: " + a.client.Login("--scope", "SCOPE")
		return e
	}
	e := fail(protocol.CodeDenied, "the sign-in lacks the scope "+scope)
	var flags []string
	for _, one := range strings.Fields(scope) {
		flags = append(flags, "--scope", one)
	}
	e.Condition.Hint = "ask for it with: " + a.client.Login(flags...)
	return e
}

// bearerChallenge returns the parameters of the answer's Bearer challenge. It may stand among challenges of other schemes.
func (a *answer) bearerChallenge() map[string]string {
	for _, header := range a.header.Values("WWW-Authenticate") {
		if params := challenge(header); params != nil {
			return params
		}
	}
	return nil
}

// challenge reads the parameters of a Bearer challenge (RFC 6750 section 3), which may follow others in the header. It returns
// nil where there is none.
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

// retryAfter reads the header of that name (RFC 9110 section 10.2.3): seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

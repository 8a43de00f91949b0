package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Authorization is one attempt to sign in through a browser (RFC 6749 section 4.1). It is used once.
type Authorization struct {
	URL         string // for the browser; it holds the PKCE challenge, never the verifier
	State       string // 32 random bytes, base64url
	RedirectURI string

	verifier protocol.Secret // RFC 7636 section 4.1: 32 random bytes, base64url
	nonce    string          // of OpenID Connect; "" without the scope openid
}

// Authorize begins a sign-in with PKCE S256 (RFC 7636). The provider will send its answer to redirectURI. Authorize itself makes
// no request. It fails with ErrConfig.
func (c *Client) Authorize(redirectURI string) (*Authorization, error) {
	to, bad := c.find(authorizationEndpoint)
	if bad == nil {
		bad = c.checkPKCE()
	}
	if bad != nil {
		return nil, bad
	}
	a := &Authorization{State: random(), RedirectURI: redirectURI, verifier: protocol.NewSecret(random())}
	challenge := sha256.Sum256([]byte(a.verifier.Reveal()))
	u, err := url.Parse(to.URL)
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: to.name + " can't be used"}
	}
	query := u.Query()
	c.addRequested(query, c.Extra.Authorize)
	query.Set("response_type", "code")
	query.Set("client_id", c.ClientID)
	query.Set("redirect_uri", redirectURI)
	query.Set("state", a.State)
	query.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	query.Set("code_challenge_method", "S256")
	if c.JSON {
		query.Set("code", "true") // provider claude shows the code as well, for pasting
	}
	if slices.Contains(c.Scopes, "openid") {
		a.nonce = random()
		query.Set("nonce", a.nonce)
	}
	u.RawQuery = query.Encode()
	a.URL = u.String()
	return a, nil
}

// random returns 32 random bytes in base64url.
func random() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// Callback is what the provider sent back through the browser (RFC 6749 section 4.1.2), or what a person pasted.
type Callback struct {
	Code             protocol.Secret
	State            string
	Issuer           string // RFC 9207; "": not said
	Error            string // an error code, in place of Code
	ErrorDescription string
	// Unproven is true where nobody can tell whether the person's own browser brought the callback. Show the person which account
	// it signs in to, and ask whether that is right, before you use it.
	Unproven bool
}

// callbackOf reads the parameters of a redirect.
func callbackOf(query url.Values) Callback {
	return Callback{
		Code: protocol.NewSecret(query.Get("code")), State: query.Get("state"), Issuer: query.Get("iss"),
		Error: query.Get("error"), ErrorDescription: query.Get("error_description"),
	}
}

// hasState reports whether a callback's state is that of this attempt. It compares in constant time.
func (a *Authorization) hasState(state string) bool {
	return subtle.ConstantTimeCompare([]byte(state), []byte(a.State)) == 1
}

// ParsePasted reads what a person copied from the browser: `code#state`, the whole address that the browser was sent to, or the
// part of it after the question mark. It fails with ErrCallback.
func (a *Authorization) ParsePasted(pasted string) (Callback, error) {
	pasted = strings.TrimSpace(pasted)
	var cb Callback
	if code, state, ok := strings.Cut(pasted, "#"); ok && !strings.ContainsAny(code, "=/ ") {
		cb = Callback{Code: protocol.NewSecret(code), State: state}
	} else {
		query := pasted
		if _, after, ok := strings.Cut(pasted, "?"); ok {
			query = after
		}
		query, _, _ = strings.Cut(query, "#")
		values, err := url.ParseQuery(query)
		if err != nil {
			return Callback{}, pasteError("what was pasted can't be read")
		}
		cb = callbackOf(values)
	}
	switch {
	case cb.Code.Empty() && cb.Error == "":
		return Callback{}, pasteError("what was pasted holds no code")
	case cb.State == "" && cb.Error != "": // some providers leave it out; the person has brought this answer
		cb.State = a.State
	case cb.State == "":
		return Callback{}, pasteError("what was pasted holds no state, so a part of it is missing")
	case !a.hasState(cb.State):
		return Callback{}, pasteError("what was pasted belongs to another sign-in: its state is a different one")
	}
	return cb, nil
}

func pasteError(message string) error {
	return &protocol.Error{Code: protocol.CodeCallback, Message: message,
		Hint: "paste the whole code (CODE#STATE), or the whole address that the browser shows at the end"}
}

// Exchange redeems the code of a callback (RFC 6749 section 4.1.3). With the scope openid it verifies the ID token before it
// returns a reply, and puts its claims into Reply.Identity. Errors are ErrCallback (the provider said no, or the callback is not
// the provider's), ErrLogin (the code was refused, or the reply or the ID token is not valid) and ErrConfig. A code works once,
// so after an error the person has to sign in again.
func (c *Client) Exchange(ctx context.Context, a *Authorization, cb Callback) (Reply, error) {
	switch {
	case !a.hasState(cb.State):
		return Reply{}, &protocol.Error{
			Code:    protocol.CodeCallback,
			Message: "the callback belongs to another sign-in: its state is a different one",
		}
	case cb.Issuer != "" && c.Issuer != "" && cb.Issuer != c.Issuer, cb.Issuer == "" && c.sendsIssuer:
		return Reply{}, &protocol.Error{
			Code:    protocol.CodeCallback,
			Message: "the callback is not from " + printable(c.Issuer) + " (RFC 9207)",
			Hint:    "two providers may be mixed up: sign in again, and if that does not help, tell whoever runs this one",
		}
	case cb.Error != "":
		return Reply{}, c.denied(cb)
	case cb.Code.Empty():
		return Reply{}, &protocol.Error{Code: protocol.CodeCallback, Message: "the callback holds no code"}
	}
	reply, err := c.token(ctx, forCode, c.exchangeForm(a, cb.Code, cb.State), cb.Code.Reveal(), a.verifier.Reveal())
	if err != nil {
		return Reply{}, c.incomplete(err)
	}
	return c.withIdentity(ctx, reply, a.nonce)
}

// exchangeForm is the request that redeems a code.
func (c *Client) exchangeForm(a *Authorization, code protocol.Secret, state string) url.Values {
	form := url.Values{}
	c.addTargets(form)
	addExtra(form, c.Extra.Token)
	form.Set("grant_type", "authorization_code")
	form.Set("code", code.Reveal())
	form.Set("redirect_uri", a.RedirectURI)
	form.Set("code_verifier", a.verifier.Reveal())
	if c.JSON {
		form.Set("state", state)
	}
	return form
}

// denied is the error for a callback that brings an error code in place of a code (RFC 6749 section 4.1.2.1).
func (c *Client) denied(cb Callback) error {
	e := &protocol.Error{
		Code:    protocol.CodeCallback,
		Message: "the provider did not sign you in (" + printable(cb.Error) + ")",
		Detail:  printable(cb.ErrorDescription),
	}
	switch code := fold(cb.Error); {
	case scopeCodes.has(code):
		e.Hint = "the provider does not grant what config.toml asks for: check scopes, audience and resource of the profile"
	case blamesUs(code):
		e.Hint = "check client_id in config.toml, and how this client is registered at the provider: its redirect address and " +
			"what it may do"
	case temporaryCodes.has(code):
		e.Hint = "try again later: " + c.Login()
	case deniedCodes.has(code):
		e.Hint = "you, or a rule of the provider's, denied access; to try again: " + c.Login()
	case interactionCodes.has(code):
		e.Hint = "the provider wants to ask you something first: sign in with your browser at its own site, take prompt out of " +
			"authorize_params and params in config.toml, then: " + c.Login()
	default:
		e.Hint = "what the provider says is all that is known; to try again: " + c.Login()
	}
	return e
}

// incomplete turns the error of a request into one that says that the sign-in did not complete (ErrLogin). Errors that speak of
// the configuration, or of a fault of ours, stay as they are.
func (c *Client) incomplete(err error) error {
	e, ok := err.(*Error)
	if !ok || e.Condition.Code == protocol.CodeConfig || e.Condition.Code == protocol.CodeInternal {
		return err
	}
	hint := e.Condition.Hint
	if hint == "" {
		hint = "sign in again: " + c.Login()
	}
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the sign-in did not complete: " + e.Condition.Message,
		Hint:    hint,
		Detail:  e.Condition.Detail,
	}
}

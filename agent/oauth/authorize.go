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

// Authorization is one attempt to sign in at the authorize endpoint. It is used once.
type Authorization struct {
	URL         string // for the browser: it holds the challenge, never the verifier
	State       string // 32 random bytes, base64url
	RedirectURI string

	verifier protocol.Secret // RFC 7636 section 4.1: 32 random bytes, base64url
	nonce    string          // OpenID Connect; "" without the scope openid
}

// Authorize begins a sign-in with PKCE S256 (RFC 7636) whose answer comes to redirectURI. It asks nobody. It fails with
// ErrConfig.
func (c *Client) Authorize(redirectURI string) (*Authorization, error) {
	to, bad := parseEndpoint("authorize endpoint", c.AuthorizeURL)
	if bad != nil {
		return nil, bad
	}
	a := &Authorization{State: random(), RedirectURI: redirectURI, verifier: protocol.NewSecret(random())}
	challenge := sha256.Sum256([]byte(a.verifier.Reveal()))
	u, err := url.Parse(to.URL)
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "the authorize endpoint's URL can't be used"}
	}
	query := u.Query()
	c.wish(query)
	query.Set("response_type", "code")
	query.Set("client_id", c.ClientID)
	query.Set("redirect_uri", redirectURI)
	query.Set("state", a.State)
	query.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	query.Set("code_challenge_method", "S256")
	if c.JSON {
		query.Set("code", "true") // provider claude: show the code for pasting too
	}
	if slices.Contains(c.Scopes, "openid") {
		a.nonce = random()
		query.Set("nonce", a.nonce)
	}
	u.RawQuery = query.Encode()
	a.URL = u.String()
	return a, nil
}

func random() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails: crypto/rand ends the program first
	return base64.RawURLEncoding.EncodeToString(b)
}

// Callback is what the provider sent back through the browser (RFC 6749 section 4.1.2), or a person pasted.
type Callback struct {
	Code             protocol.Secret
	State            string
	Issuer           string // RFC 9207; "" when not said
	Error            string // an error code in place of Code
	ErrorDescription string
	// Unproven is a callback of which nobody can say that the person's own browser brought it: whoever is signed in by it must be
	// shown and confirmed.
	Unproven bool
}

// callbackOf reads the parameters of a redirect.
func callbackOf(query url.Values) Callback {
	return Callback{
		Code: protocol.NewSecret(query.Get("code")), State: query.Get("state"), Issuer: query.Get("iss"),
		Error: query.Get("error"), ErrorDescription: query.Get("error_description"),
	}
}

// answers reports whether the callback is one to this attempt, in constant time.
func (a *Authorization) answers(state string) bool {
	return subtle.ConstantTimeCompare([]byte(state), []byte(a.State)) == 1
}

// ParsePasted reads what a person copied from the browser: `code#state`, the whole address it was sent to, or the part
// behind the question mark. It fails with ErrCallback.
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
	case cb.State == "":
		return Callback{}, pasteError("what was pasted holds no state: a part is missing")
	case !a.answers(cb.State):
		return Callback{}, pasteError("what was pasted belongs to another sign-in: its state is not this one's")
	}
	return cb, nil
}

func pasteError(message string) error {
	return &protocol.Error{Code: protocol.CodeCallback, Message: message,
		Hint: "paste the whole code (CODE#STATE), or the whole address that the browser ended at"}
}

// Exchange redeems a callback's code (RFC 6749 section 4.1.3). With the scope openid the ID token is verified before a reply is
// returned, and its claims are in Reply.Identity. Errors are ErrCallback (the provider said no, or the callback is not its own),
// ErrLogin (the code was refused, the reply or ID token is not good) and ErrConfig. Codes work once: sign in anew.
func (c *Client) Exchange(ctx context.Context, a *Authorization, cb Callback) (Reply, error) {
	switch {
	case !a.answers(cb.State):
		return Reply{}, &protocol.Error{
			Code:    protocol.CodeCallback,
			Message: "the callback belongs to another sign-in: its state is not this one's",
		}
	case cb.Issuer != "" && c.Issuer != "" && cb.Issuer != c.Issuer, cb.Issuer == "" && c.issConfirmed:
		return Reply{}, &protocol.Error{
			Code:    protocol.CodeCallback,
			Message: "the callback is not from " + clean(c.Issuer, nil) + " (RFC 9207)",
			Hint:    "somebody may have mixed up two providers: sign in again, and if it happens again tell whoever runs this one",
		}
	case cb.Error != "":
		return Reply{}, cb.refusal()
	case cb.Code.Empty():
		return Reply{}, &protocol.Error{Code: protocol.CodeCallback, Message: "the callback holds no code"}
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {cb.Code.Reveal()},
		"redirect_uri": {a.RedirectURI}, "code_verifier": {a.verifier.Reveal()},
	}
	if c.JSON {
		form.Set("state", cb.State)
	}
	for _, r := range c.Resource {
		form.Add("resource", r) // RFC 8707 section 2.2
	}
	reply, err := c.token(ctx, aCode, form, cb.Code.Reveal(), a.verifier.Reveal())
	if err != nil {
		return Reply{}, incomplete(err)
	}
	return c.identified(ctx, reply, a.nonce)
}

// refusal is a provider's error in place of a code (RFC 6749 section 4.1.2.1).
func (cb Callback) refusal() error {
	e := &protocol.Error{Code: protocol.CodeCallback, Message: "the provider did not sign you in (" + clean(cb.Error, nil) + ")",
		Detail: clean(cb.ErrorDescription, nil)}
	if cb.Error == "access_denied" {
		e.Hint = "access was denied there, by you or by a rule; sign in again with: ccagent login"
	}
	return e
}

// incomplete is a sign-in that the token endpoint did not complete. Only a wrong configuration keeps its own condition.
func incomplete(err error) error {
	e, ok := err.(*Error)
	if !ok || e.Condition.Code == protocol.CodeConfig || e.Condition.Code == protocol.CodeInternal {
		return err
	}
	hint := e.Condition.Hint
	if hint == "" {
		hint = "sign in again: ccagent login"
	}
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the sign-in did not complete: " + e.Condition.Message,
		Hint:    hint,
		Detail:  e.Condition.Detail,
	}
}

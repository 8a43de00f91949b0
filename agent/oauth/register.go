package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Registration is a client that an authorization server has made for us (RFC 7591 section 3.2.1).
type Registration struct {
	ClientID string
	Auth     Auth
	Secret   protocol.Secret // "": a public client
	// URL is where the registration can be read and deleted, with Token (RFC 7592 section 3). Both are "" where the server lets
	// nobody do that.
	URL   string
	Token protocol.Secret
}

// checkPKCE fails where the client is that of an MCP server and the issuer does not say that it knows PKCE S256: then MCP has
// its clients refuse to go on.
func (c *Client) checkPKCE() *Error {
	if !c.MCP || !c.described || slices.Contains(c.challengeMethods, "S256") {
		return nil
	}
	e := fail(protocol.CodeConfig, printable(c.Issuer)+" does not say that it supports PKCE with S256, without which a client of "+
		"an MCP server must not sign in")
	e.Condition.Hint = "tell whoever runs it: code_challenge_methods_supported is missing in its description"
	return e
}

// CanRegister returns nil where the issuer registers clients by itself and can be signed in to, as far as its description says.
// [Client.Discover] comes first. Every error is an [*Error], ErrConfig.
func (c *Client) CanRegister() error {
	if bad := c.checkPKCE(); bad != nil {
		return bad
	}
	if _, missing := c.find(registrationEndpoint); missing != nil {
		bad := fail(missing.Condition.Code, missing.Condition.Message)
		if c.RegisterURL == "" && c.refused[registrationEndpoint] == nil {
			bad.Condition.Message = printable(c.Issuer) + " registers no clients by itself"
		}
		bad.Condition.Hint = "register a client there, with the address http://127.0.0.1/callback to return to, and give its id: " +
			"--client-id ID"
		if c.documents {
			bad.Condition.Hint += "\nID may be the https address of a client ID metadata document that you have put there"
		}
		return bad
	}
	if _, ok := c.registeredAuth(); !ok {
		bad := fail(protocol.CodeConfig, printable(c.Issuer)+" supports no way to authenticate that a client which registers itself "+
			"could use: "+printable(strings.Join(c.authMethods, ", ")))
		bad.Condition.Hint = "register a client there, and give its id: --client-id ID, with --client-auth METHOD"
		return bad
	}
	return nil
}

// registeredAuth is how a client that registers itself authenticates: not at all where it may, because a secret on this machine
// proves no more than the refresh token beside it.
func (c *Client) registeredAuth() (Auth, bool) {
	switch {
	case c.authMethods == nil, slices.Contains(c.authMethods, "none"):
		return None, true
	case slices.Contains(c.authMethods, string(ClientSecretBasic)):
		return ClientSecretBasic, true
	case slices.Contains(c.authMethods, string(ClientSecretPost)):
		return ClientSecretPost, true
	}
	return None, false
}

// Register has the issuer make a client that comes back to redirectURI (RFC 7591). [Client.Discover] comes first. Every error is
// an [*Error], ErrConfig (the issuer registers nobody, or not us) or ErrUnavailable.
func (c *Client) Register(ctx context.Context, redirectURI string) (Registration, error) {
	if err := c.CanRegister(); err != nil {
		return Registration{}, err
	}
	to, bad := c.find(registrationEndpoint)
	if bad != nil {
		return Registration{}, bad
	}
	auth, _ := c.registeredAuth()
	grants := []string{"authorization_code", "refresh_token"}
	if c.OffersDevice() {
		grants = append(grants, "urn:ietf:params:oauth:grant-type:device_code")
	}
	method := string(auth)
	if auth == None {
		method = "none"
	}
	wanted := map[string]any{
		"client_name": "ccagent", "application_type": "native", "redirect_uris": []string{redirectURI},
		"grant_types": grants, "response_types": []string{"code"}, "token_endpoint_auth_method": method,
	}
	if len(c.Scopes) > 0 {
		wanted["scope"] = strings.Join(c.Scopes, " ")
	}
	body, err := json.Marshal(wanted)
	if err != nil {
		return Registration{}, fail(protocol.CodeInternal, "the registration could not be encoded")
	}
	a, failure := c.send(ctx, http.MethodPost, to, http.Header{"Content-Type": {"application/json"}}, body)
	if failure != nil {
		return Registration{}, failure.at(to)
	}
	if a.failed() {
		e := a.refusal(forClient, now())
		e.Condition.Message = "it does not register this client: " + e.Condition.Message
		if e.Condition.Code == protocol.CodeConfig || a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
			e.Condition.Code = protocol.CodeConfig
			e.Condition.Hint = "register a client there, and give its id: --client-id ID"
		}
		return Registration{}, e.at(to)
	}
	fields, err := a.object()
	if err != nil {
		return Registration{}, a.unreadable().at(to)
	}
	r, failure := registrationOf(fields, auth)
	if failure != nil {
		return Registration{}, failure.at(to)
	}
	if origin, err := Origin(r.URL); err != nil || !strings.HasPrefix(to.URL, origin+"/") || r.Token.Empty() {
		r.URL, r.Token = "", protocol.Secret{} // a token to be sent elsewhere is not worth to be kept
	}
	return r, nil
}

// registrationOf reads the answer to a registration. asked is how we wanted to authenticate, which the server may have changed.
func registrationOf(fields map[string]json.RawMessage, asked Auth) (Registration, *Error) {
	secret, _ := text(fields["client_secret"])
	token, _ := text(fields["registration_access_token"])
	r := Registration{
		Auth: asked, Secret: protocol.NewSecret(secret), Token: protocol.NewSecret(token),
		URL: first(fields, "registration_client_uri"),
	}
	r.ClientID, _ = text(fields["client_id"])
	if r.ClientID == "" || r.ClientID != printable(r.ClientID) {
		return r, fail(protocol.CodeUnavailable, "its answer to the registration holds no client id")
	}
	switch method := first(fields, "token_endpoint_auth_method"); method {
	case "":
	case "none":
		r.Auth = None
	case string(ClientSecretBasic), string(ClientSecretPost):
		r.Auth = Auth(method)
	default:
		return r, fail(protocol.CodeConfig, "it wants this client to authenticate by "+printable(method)+", which it can't")
	}
	if r.Auth == None {
		r.Secret = protocol.Secret{}
	} else if r.Secret.Empty() {
		return r, fail(protocol.CodeUnavailable, "its answer to the registration holds no client secret")
	}
	return r, nil
}

// Unregister deletes a registration (RFC 7592 section 2.3). It does nothing where the server lets nobody do that.
func (c *Client) Unregister(ctx context.Context, r Registration) error {
	if r.URL == "" || r.Token.Empty() {
		return nil
	}
	to, bad := parseURL("the address of the registration", r.URL)
	if bad != nil {
		return bad
	}
	a, failure := c.send(ctx, http.MethodDelete, to, http.Header{"Authorization": {"Bearer " + r.Token.Reveal()}}, nil)
	if failure != nil {
		return failure.at(to)
	}
	if a.sent = []string{r.Token.Reveal()}; !a.ok() {
		return a.refusal(forClient, now()).at(to)
	}
	return nil
}

// Forgotten reports whether the provider has forgotten the client, or what it authenticates with. To find out it asks for a token
// with a code that does not exist: what is then said of the client is said before a person is sent to a page that never sends
// them back.
func (c *Client) Forgotten(ctx context.Context, redirectURI string) bool {
	attempt := &Authorization{State: random(), RedirectURI: redirectURI, verifier: protocol.NewSecret(random())}
	_, err := c.token(ctx, forCode, c.exchangeForm(attempt, protocol.NewSecret(random()), attempt.State))
	var e *Error
	return errors.As(err, &e) && e.code == fold("invalid_client")
}

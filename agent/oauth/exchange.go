package oauth

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// The names that RFC 8693 has for the grant (section 2.1) and for kinds of tokens (section 3).
const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypes    = "urn:ietf:params:oauth:token-type:"
)

// ExchangesTokens reports whether the issuer says that it does token exchange. It says nothing before [Client.Discover].
func (c *Client) ExchangesTokens() bool { return slices.Contains(c.grants, exchangeGrant) }

// ExchangeToken exchanges an access token for one that is for other scopes, another audience or other resources (RFC 8693 section
// 2.1). No refresh token is sent, and one that comes with the answer is left out. Every error is an [*Error]: ErrExpired (the
// provider refuses the access token), ErrDenied (it does not allow the exchange), ErrConfig (it has no token exchange, or not for
// this) and ErrUnavailable.
func (c *Client) ExchangeToken(ctx context.Context, access protocol.Secret, want protocol.Derived) (Reply, error) {
	form := url.Values{}
	form.Set("grant_type", exchangeGrant)
	form.Set("subject_token", access.Reveal())
	form.Set("subject_token_type", tokenTypes+"access_token")
	form.Set("requested_token_type", tokenTypes+"access_token")
	if want.Scope != "" {
		form.Set("scope", want.Scope)
	}
	if want.Audience != "" {
		form.Set("audience", want.Audience)
	}
	for uri := range strings.FieldsSeq(want.Resource) {
		form.Add("resource", uri)
	}
	reply, err := c.token(ctx, forExchange, form, access.Reveal())
	if err != nil {
		return Reply{}, notExchanged(err)
	}
	switch kind := strings.TrimPrefix(reply.issuedType, tokenTypes); kind {
	case "refresh_token", "saml1", "saml2":
		e := fail(protocol.CodeConfig, "the provider issued a token of another kind than was asked for ("+kind+")")
		e.Condition.Hint = "have the provider issue access tokens to this client where it exchanges one"
		return Reply{}, e
	}
	return reply, nil
}

// notExchanged says what the refusal of an exchange means.
func notExchanged(err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	switch {
	case e.Dead:
		e.Condition.Code = protocol.CodeExpired
	case e.code == fold("unsupported_grant_type"):
		e.Condition.Hint = "this provider has no token exchange (RFC 8693), or not for this client; " +
			"sign in for that with a profile of its own: ccagent login NAME --scope ..."
	case e.code == fold("unauthorized_client"), e.Condition.Code == protocol.CodeDenied:
		e.Condition.Hint = "whoever runs the provider must allow this client to exchange its tokens for that"
	}
	return e
}

// For returns the client with which the token that is wanted is asked for by its own grant: another scope, audience or resource
// takes the place of what c asks for, and the rest stays.
func (c *Client) For(want protocol.Derived) *Client {
	narrowed := *c
	narrowed.Extra.Token, narrowed.Params = maps.Clone(c.Extra.Token), maps.Clone(c.Params)
	leave := func(name string) {
		delete(narrowed.Extra.Token, name)
		delete(narrowed.Params, name)
	}
	if want.Scope != "" {
		narrowed.Scopes = strings.Fields(want.Scope)
		leave("scope")
	}
	if want.Audience != "" {
		narrowed.Audience = want.Audience
		leave("audience")
	}
	if want.Resource != "" {
		narrowed.Resource = strings.Fields(want.Resource)
		leave("resource")
	}
	return &narrowed
}

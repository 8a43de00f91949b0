package oauth

import (
	"context"
	"net/url"

	"github.com/ccagent/ccagent/protocol"
)

// TokenKind is a token_type_hint (RFC 7009 section 2.1).
type TokenKind string

const (
	AccessToken  TokenKind = "access_token"
	RefreshToken TokenKind = "refresh_token"
)

// Revoke ends a token at the provider (RFC 7009). A token that the provider does not know is revoked already. Every error is
// an [*Error].
func (c *Client) Revoke(ctx context.Context, t protocol.Secret, kind TokenKind) error {
	to, bad := parseEndpoint("revocation endpoint", c.RevokeURL)
	if bad != nil {
		return &Error{Condition: bad}
	}
	sent := now()
	a, failure := c.ask(ctx, to.what, c.RevokeURL, url.Values{"token": {t.Reveal()}, "token_type_hint": {string(kind)}}, t.Reveal())
	if failure != nil {
		return failure
	}
	if !a.failed() {
		return nil
	}
	if e := a.refused(aToken, sent); !e.Dead {
		return e.at(to)
	}
	return nil
}

// Introspect asks the provider whether an access token is good (RFC 7662). Every error is an [*Error]; ErrExpired: it is not.
func (c *Client) Introspect(ctx context.Context, access protocol.Secret) error {
	to, bad := parseEndpoint("introspection endpoint", c.IntrospectURL)
	if bad != nil {
		return &Error{Condition: bad}
	}
	sent := now()
	a, failure := c.ask(
		ctx,
		to.what,
		c.IntrospectURL,
		url.Values{"token": {access.Reveal()}, "token_type_hint": {string(AccessToken)}},
		access.Reveal(),
	)
	if failure != nil {
		return failure
	}
	if a.failed() {
		return a.refused(ourClient, sent).at(to)
	}
	fields, err := a.object()
	if err != nil || string(fields["active"]) != "true" && string(fields["active"]) != "false" {
		return (&Error{Condition: unavailable("its answer does not say whether the token is active")}).at(to)
	}
	if string(fields["active"]) == "false" {
		e := fail(protocol.CodeExpired, "the provider says that the token is no longer active").at(to)
		e.Condition.Hint = "renew it with: " + c.renewal()
		return e
	}
	return nil
}

package oauth

import (
	"context"
	"net/url"

	"github.com/ccagent/ccagent/protocol"
)

// TokenKind is the kind of a token, as a hint to the provider (token_type_hint, RFC 7009 section 2.1).
type TokenKind string

const (
	AccessToken  TokenKind = "access_token"
	RefreshToken TokenKind = "refresh_token"
)

// Revoke ends a token at the provider (RFC 7009). It returns nil for a token that the provider does not know, which can't be used
// any more either. Every error is an [*Error].
func (c *Client) Revoke(ctx context.Context, t protocol.Secret, kind TokenKind) error {
	to, bad := c.find(RevocationEndpoint)
	if bad != nil {
		return bad
	}
	sent := now()
	form := url.Values{"token": {t.Reveal()}, "token_type_hint": {string(kind)}}
	a, failure := c.post(ctx, to, form, t.Reveal())
	if failure != nil {
		return failure
	}
	if !a.failed() {
		return nil
	}
	if e := a.refusal(forAccess, sent); !e.Dead {
		return e.at(to)
	}
	return nil
}

// Introspect asks the provider whether an access token is valid (RFC 7662). Every error is an [*Error], and ErrExpired where the
// token is not valid.
func (c *Client) Introspect(ctx context.Context, access protocol.Secret) error {
	to, bad := c.find(introspectionEndpoint)
	if bad != nil {
		return bad
	}
	sent := now()
	form := url.Values{"token": {access.Reveal()}, "token_type_hint": {string(AccessToken)}}
	a, failure := c.post(ctx, to, form, access.Reveal())
	if failure != nil {
		return failure
	}
	if a.failed() {
		return a.refusal(forClient, sent).at(to)
	}
	fields, err := a.object()
	if err != nil || string(fields["active"]) != "true" && string(fields["active"]) != "false" {
		return (&Error{Condition: unavailable("its answer does not say whether the token is active")}).at(to)
	}
	if string(fields["active"]) == "false" {
		e := fail(protocol.CodeExpired, "the provider says that the token is no longer active").at(to)
		e.Condition.Hint = "renew it with: " + c.refresh()
		return e
	}
	return nil
}

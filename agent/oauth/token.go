package oauth

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Refresh renews a sign-in: one request with one refresh token (RFC 6749 section 6). It takes Timeout at most, however slowly
// the answer drips.
//
// Every error is an [*Error]. With one, Reply may hold a RefreshToken nevertheless: the provider rotated it and spoilt the
// rest of its answer, and the sign-in is lost unless that token is kept.
func (c *Client) Refresh(ctx context.Context, refreshToken protocol.Secret) (Reply, error) {
	if refreshToken.Empty() {
		return Reply{}, fail(protocol.CodeExpired, "there is no refresh token to renew with")
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken.Reveal()}}
	return c.token(ctx, aSignIn, form, refreshToken.Reveal())
}

// ClientCredentials asks for a token for the client itself (RFC 6749 section 4.4). There is no refresh token: ask again.
// Every error is an [*Error].
func (c *Client) ClientCredentials(ctx context.Context) (Reply, error) {
	if c.Auth == None {
		return Reply{}, fail(protocol.CodeConfig, "grant client_credentials needs a client_auth other than none")
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	c.wish(form)
	return c.token(ctx, ourClient, form)
}

// JWTBearer exchanges an assertion that somebody else has signed for a token (RFC 7523 section 2.1). There is no refresh
// token: ask again, with an assertion that still lives. Every error is an [*Error]; ErrLoginRequired: the assertion was
// refused.
func (c *Client) JWTBearer(ctx context.Context, assertion protocol.Secret) (Reply, error) {
	jwt := strings.TrimSpace(assertion.Reveal())
	if jwt == "" {
		return Reply{}, fail(protocol.CodeConfig, "the assertion is empty")
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {jwt}}
	c.wish(form)
	return c.token(ctx, anAssertion, form, jwt)
}

// wish adds what is asked of a token.
func (c *Client) wish(form url.Values) {
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	if c.Audience != "" {
		form.Set("audience", c.Audience)
	}
	for _, r := range c.Resource {
		form.Add("resource", r)
	}
	for name, value := range c.Params {
		form.Set(name, value)
	}
}

// token makes one request to the token endpoint, about what is shown there.
func (c *Client) token(ctx context.Context, about subject, form url.Values, secrets ...string) (Reply, error) {
	to, bad := parseEndpoint(tokenEndpoint, c.TokenURL)
	if bad != nil {
		return Reply{}, &Error{Condition: bad}
	}
	issued := time.Now().Round(0)
	answer, failure := c.ask(ctx, tokenEndpoint, c.TokenURL, form, secrets...)
	if failure != nil {
		if failure.Ambiguous && form.Has("refresh_token") {
			failure.Condition.Message += "; the refresh token may be spent"
		}
		return Reply{}, failure
	}
	reply, failure := answer.judge(about, issued)
	if failure != nil {
		return reply, failure.at(to)
	}
	return reply, nil
}

package oauth

import (
	"context"
	"net/url"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Refresh renews a sign-in: one request with one refresh token (RFC 6749 section 6). It takes at most [Client.Timeout], however
// slowly the answer comes.
//
// Every error is an [*Error]. Beside an error, Reply may still hold a RefreshToken: the provider has rotated it, and the rest of
// its answer can't be used. Save that token, or the sign-in is lost.
func (c *Client) Refresh(ctx context.Context, refreshToken protocol.Secret) (Reply, error) {
	if refreshToken.Empty() {
		return Reply{}, fail(protocol.CodeExpired, "there is no refresh token to renew with")
	}
	form := url.Values{}
	c.addTargets(form)
	addExtra(form, c.Extra.Refresh)
	form.Set("grant_type", "refresh_token")
	form.Set("refresh_token", refreshToken.Reveal())
	return c.token(ctx, renewalOf(form), form, refreshToken.Reveal())
}

// ClientCredentials asks for a token for the client itself (RFC 6749 section 4.4). No refresh token comes with it: ask again.
// Where Auth is None, the client authenticates as the issuer's description says that it supports, else with ClientSecretBasic. If
// [Client.Discover] was not called, the issuer is asked now. Every error is an [*Error].
func (c *Client) ClientCredentials(ctx context.Context) (Reply, error) {
	machine := *c
	if machine.Auth == None {
		if !machine.described {
			if err := machine.Discover(ctx); err != nil {
				return Reply{}, err
			}
		}
		machine.Auth = machine.DefaultAuth()
	}
	form := url.Values{}
	machine.addRequested(form, c.Extra.Token)
	form.Set("grant_type", "client_credentials")
	return machine.token(ctx, forClient, form)
}

// JWTBearer exchanges an assertion that somebody else has signed for a token (RFC 7523 section 2.1). No refresh token comes with
// it: ask again, with an assertion that has not expired. Every error is an [*Error], and ErrLoginRequired where the assertion was
// refused.
func (c *Client) JWTBearer(ctx context.Context, assertion protocol.Secret) (Reply, error) {
	jwt := strings.TrimSpace(assertion.Reveal())
	if jwt == "" {
		return Reply{}, fail(protocol.CodeConfig, "the assertion is empty")
	}
	form := url.Values{}
	c.addRequested(form, c.Extra.Token)
	form.Set("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
	form.Set("assertion", jwt)
	return c.token(ctx, forAssertion, form, jwt)
}

// addRequested adds what the configuration asks for in the first request of a sign-in: scopes, targets and further parameters.
func (c *Client) addRequested(form url.Values, extra map[string]string) {
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	c.addTargets(form)
	for name, value := range c.Params {
		form.Set(name, value)
	}
	addExtra(form, extra)
}

// addTargets adds where the token is to be used. It is said again in each request, because a provider that is not told picks one
// (RFC 8707 section 2.2).
func (c *Client) addTargets(form url.Values) {
	if c.Audience != "" {
		form.Set("audience", c.Audience)
	}
	for _, r := range c.Resource {
		form.Add("resource", r)
	}
}

// addExtra adds parameters of one kind of request. Those that the protocol itself needs are set after these.
func addExtra(form url.Values, extra map[string]string) {
	for name, value := range extra {
		if value == "" {
			form.Del(name)
		} else {
			form.Set(name, value)
		}
	}
}

// token makes one request to the token endpoint. p says what it means if the provider refuses.
func (c *Client) token(ctx context.Context, p purpose, form url.Values, secrets ...string) (Reply, error) {
	to, bad := c.find(tokenEndpoint)
	if bad != nil {
		return Reply{}, bad
	}
	issued := now()
	answer, failure := c.post(ctx, to, form, secrets...)
	if failure != nil {
		if failure.Ambiguous && form.Has("refresh_token") {
			failure.Condition.Message += "; the refresh token may be spent"
		}
		return Reply{}, failure
	}
	reply, failure := answer.reply(p, issued)
	if failure != nil {
		return reply, failure.at(to)
	}
	return reply, nil
}

package worker

import (
	"context"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// revokeTime bounds the revocation of one token: whoever signs out waits for it.
const revokeTime = 10 * time.Second

// signInProvider is a provider that one signs in to: it speaks OAuth.
type signInProvider struct{ *task }

// Prepare finds the token endpoint, and holds the record against it.
func (p signInProvider) Prepare(ctx context.Context, r store.Record) (renewal.Request, error) {
	if r.RefreshToken.Empty() && !p.asksAgain() {
		return renewal.Request{}, notRenewable(r)
	}
	if p.Job.Op == job.Rekey {
		r.ClientSecret = p.Job.ClientSecret
	}
	client, origin, err := p.client(ctx, r)
	if err != nil {
		return renewal.Request{}, err
	}
	return p.renewing(client, r, origin), nil
}

// rekey renews with another client secret. The record has that secret only once the provider has accepted it.
func (t *task) rekey(ctx context.Context) renewal.Outcome {
	switch method := oauth.Auth(t.settings.ClientAuth); {
	case !t.traits().OwnClient, method != oauth.ClientSecretBasic && method != oauth.ClientSecretPost && !t.asksAgain():
		return renewal.Outcome{Err: &protocol.Error{Code: protocol.CodeConfig, Message: "its client takes no client secret",
			Hint: "set client_auth in config.toml to client_secret_basic or client_secret_post"}}
	case t.Job.ClientSecret.Empty():
		return renewal.Outcome{Err: &protocol.Error{Code: protocol.CodeConfig, Message: "no client secret was given"}}
	}
	return t.inStore(ctx, t.Renew)
}

// notRenewable is the error that there is nothing to renew r with.
func notRenewable(r store.Record) error {
	if !renewal.Alive(r) {
		return &protocol.Error{Code: protocol.CodeExpired, Message: "the token has expired, and there is nothing to renew it with"}
	}
	return &protocol.Error{
		Code:    protocol.CodeLoginRequired,
		Message: "the token can't be renewed: no refresh token is stored with it",
	}
}

// renewing is the request that renews r at a client's token endpoint, which is at origin.
func (p signInProvider) renewing(client *oauth.Client, r store.Record, origin string) renewal.Request {
	return renewal.Request{Spends: !p.asksAgain(), Send: func(ctx context.Context) (store.Record, error) {
		reply, err := p.request(ctx, client, r)
		return renewed(r, reply, origin), err
	}}
}

// request asks for a new token: with the record's refresh token, or as its grant does.
func (p signInProvider) request(ctx context.Context, c *oauth.Client, r store.Record) (oauth.Reply, error) {
	switch p.settings.Grant {
	case "client_credentials":
		return c.ClientCredentials(ctx)
	case "jwt-bearer":
		assertion, err := Assertion(ctx, p.settings, r.Assertion)
		if err != nil {
			return oauth.Reply{}, err
		}
		return c.JWTBearer(ctx, assertion)
	}
	return c.Refresh(ctx, r.RefreshToken)
}

// renewed is r with what a provider answered. What it does not say stays: the refresh token above all.
func renewed(r store.Record, reply oauth.Reply, origin string) store.Record {
	r.AccessToken, r.Expiry, r.Issued = reply.AccessToken, reply.Expiry, reply.Issued
	if !reply.RefreshToken.Empty() {
		r.RefreshToken = reply.RefreshToken
	}
	if !reply.GrantExpiry.IsZero() || reply.Endless {
		r.GrantExpiry = reply.GrantExpiry
	}
	if reply.Scopes != nil {
		r.Scopes = reply.Scopes
	}
	r.TokenOrigin = origin
	switch {
	case !reply.IDToken.Empty() && (r.IDToken.Empty() || oauth.SameSubject(r.IDToken, reply.IDToken)):
		r.IDToken, r.IDTokenExpiry, r.IDTokenIssued = reply.IDToken, reply.IDTokenExpiry, reply.Issued
	case !r.IDTokenExpiry.After(reply.Issued):
		r.IDToken, r.IDTokenExpiry = protocol.Secret{}, time.Time{}
	}
	return r
}

// Revoke ends a record's tokens at the provider (RFC 7009), the refresh token first: with it go the access tokens at many a
// provider. It returns what the person must know of that which was not revoked.
func (p signInProvider) Revoke(ctx context.Context, r store.Record) string {
	asking, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	c, _, err := p.client(asking, r)
	if err == nil && c.RevokeURL == "" && p.settings.TokenURL != "" { // else the issuer has been asked already
		err = c.Discover(asking)
	}
	switch {
	case err != nil:
		return "nothing was revoked: " + err.Error()
	case c.EndpointError(oauth.RevocationEndpoint) != nil:
		return "nothing was revoked, so the tokens are good until they expire: " + c.EndpointError(oauth.RevocationEndpoint).Error()
	case c.RevokeURL == "":
		return "nothing was revoked: no revocation endpoint is known of this provider, so the tokens are good until they expire"
	}
	var left []string
	for _, t := range []struct {
		token protocol.Secret
		kind  oauth.TokenKind
		name  string
	}{
		{r.RefreshToken, oauth.RefreshToken, "the refresh token"},
		{r.AccessToken, oauth.AccessToken, "the access token"},
	} {
		if t.token.Empty() {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, revokeTime)
		if failed := c.Revoke(asking, t.token, t.kind); failed != nil {
			left, err = append(left, t.name), failed
		}
		cancel()
	}
	if left == nil {
		return ""
	}
	return strings.Join(left, " and ") + " could not be revoked: " + err.Error()
}

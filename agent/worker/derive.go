package worker

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// derive brings another token of the sign-in than its access token. It takes no lock, sends no refresh token, and leaves the
// record as it is.
func (t *task) derive(ctx context.Context) renewal.Outcome {
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	s, err := t.Current(ctx, st)
	o := renewal.Outcome{Result: t.About(st), Err: err}
	if err != nil {
		return o
	}
	if !t.traits().SignsIn {
		return o.WithError(&protocol.Error{
			Code: protocol.CodeConfig,
			Message: "profile " + t.Job.Profile + " has no sign-in that another token could come from: it is of provider " +
				string(t.settings.Provider),
			Hint: "name a profile of provider oidc or oauth2",
		})
	}
	renewable := !s.Record.RefreshToken.Empty() || t.asksAgain()
	if !t.Job.Derived.IDToken {
		return t.narrowed(ctx, s.Record, renewable, o)
	}
	o.Result, o.Err = t.IDToken(o.Result, s.Record, renewable)
	if o.Err != nil {
		o.Err = t.noIDToken(s.Record, o.Err)
	}
	return o
}

// noIDToken says what to do about an ID token that can't be had.
func (t *task) noIDToken(r store.Record, err error) error {
	out := renewal.Condition(err)
	login := protocol.ShellLine("ccagent", "login", t.Job.Profile)
	switch {
	case !r.IDTokenIssued.IsZero():
		out.Hint = "sign in again: " + login
	case slices.Contains(r.Scopes, "openid") || slices.Contains(t.settings.Scopes, "openid"):
		out.Hint = "a renewal may bring one: " + protocol.ShellLine("ccagent", "refresh", "-p", t.Job.Profile) +
			"\nif it does not, sign in again: " + login
	default:
		out.Hint = "it comes with the scope openid: add that to scopes of the profile in config.toml, then: " + login
	}
	return out
}

// narrowed brings a token for other scopes, another audience or other resources: by the grant of the profile where that asks anew
// each time, else by token exchange. To renew with a narrower scope (RFC 6749 section 6) is no way: it would spend the refresh
// token, and many providers then keep to that scope.
func (t *task) narrowed(ctx context.Context, r store.Record, renewable bool, o renewal.Outcome) renewal.Outcome {
	want := t.Job.Derived
	c, _, err := t.client(ctx, r)
	if err != nil {
		return o.WithError(err)
	}
	var reply oauth.Reply
	if t.asksAgain() {
		reply, err = signInProvider{t}.request(ctx, c.For(want), r)
	} else if err = t.mayExchange(ctx, c); err == nil {
		reply, err = c.ExchangeToken(ctx, r.AccessToken, want)
		o.Result.Renewable = renewable && errors.Is(err, protocol.ErrExpired) // with the next access token it may go
	}
	if err != nil {
		return o.WithError(t.notNarrowed(err))
	}
	o.Result.Token, o.Result.Kind = reply.AccessToken, protocol.KindOf(reply.AccessToken, protocol.KindBearer)
	o.Result.Expiry, o.Result.Issued = reply.Expiry, reply.Issued
	o.Result.Notice = differs(want.Scope, reply.Scopes)
	return o
}

// mayExchange fails where the provider has no token exchange, as far as that is known.
func (t *task) mayExchange(ctx context.Context, c *oauth.Client) error {
	says := t.settings.TokenExchange
	if says == nil && t.settings.TokenURL != "" { // else the issuer has been asked already
		if err := c.Discover(ctx); err != nil {
			return err
		}
	}
	lacks := "the provider gives no token for another scope or audience: "
	e := &protocol.Error{Code: protocol.CodeConfig,
		Hint: "sign in for that with a profile of its own: ccagent login NAME --scope ..."}
	switch {
	case says != nil && *says, says == nil && c.ExchangesTokens():
		return nil
	case says != nil:
		e.Message = lacks + "config.toml says token_exchange = false"
		return e
	case t.settings.Issuer != "":
		e.Message = lacks + "its description names no token exchange (RFC 8693)"
	default:
		e.Message = lacks + "it is not known to do token exchange (RFC 8693)"
	}
	if t.traits().OwnClient {
		e.Hint = "if it does so nevertheless, set token_exchange = true in [profiles." + t.settings.Name + "] of config.toml\n" +
			"else " + e.Hint
	}
	return e
}

// notNarrowed says what to do about a token that the provider does not give.
func (t *task) notNarrowed(err error) error {
	out := renewal.Condition(err)
	if _, local := renewal.Asked(err); local || out.Hint != "" || out.Code != protocol.CodeConfig {
		return err
	}
	var refused *oauth.Error
	if errors.As(err, &refused) {
		refused.Condition.Hint = "check the scope, audience and resource that were asked for: the provider must know them, " +
			"and allow them to this client"
	}
	return err
}

// differs says how the scopes that were given differ from those that were asked for; "" where they don't, or where nothing is
// said of them.
func differs(asked string, given []string) string {
	want := strings.Fields(asked)
	if len(want) == 0 || given == nil {
		return ""
	}
	var notes []string
	if missing := without(want, given); len(missing) > 0 {
		notes = append(notes, "the provider left out "+strings.Join(missing, " "))
	}
	if more := without(given, want); len(more) > 0 {
		notes = append(notes, "the provider gave more than was asked for: "+strings.Join(more, " "))
	}
	return strings.Join(notes, "; ")
}

// without returns the elements of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

package worker

import (
	"context"
	"slices"

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
	o.Result, o.Err = t.IDToken(o.Result, s.Record, !s.Record.RefreshToken.Empty() || t.asksAgain())
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

package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// revokeTime bounds the revocation of one token: whoever signs out waits for it.
const revokeTime = 10 * time.Second

// delete removes what is stored, with all that is remembered of it. Nothing stored is as good as deleted.
func (e *errand) delete(ctx context.Context) outcome {
	return e.remove(ctx, func(store.Record) string { return "" })
}

// logout revokes what is stored, and removes it whatever came of that.
func (e *errand) logout(ctx context.Context) outcome {
	if e.job.KeepRemote {
		return e.delete(ctx)
	}
	return e.remove(ctx, func(r store.Record) string { return e.revoke(ctx, r) })
}

// remove is delete, with a last word about the record before it goes. What that returns is the result's notice.
func (e *errand) remove(ctx context.Context, last func(store.Record) string) outcome {
	if !e.traits().Stored {
		return outcome{}
	}
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		o := outcome{result: e.about(nil)}
		if record, err := e.held(); err == nil {
			o.result.Notice = last(record)
		}
		e.forget()
		return o
	}
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock, err := st.Lock(waiting)
	switch {
	case err == nil:
		defer lock.Release()
	case !errors.Is(err, protocol.ErrNotFound):
		return outcome{result: e.about(st), err: err}
	}
	o := outcome{result: e.about(st)}
	spilled, err := store.Recover(ctx, e.settings.StateDir, st)
	if errors.Is(err, protocol.ErrInvalid) { // a later version's, or corrupt
		return o.but(err)
	}
	record, version, err := st.Load(ctx)
	missing := errors.Is(err, store.ErrMissing)
	there := err == nil || errors.Is(err, protocol.ErrLoginRequired) || missing
	if !there && !errors.Is(err, protocol.ErrNotFound) {
		return o.but(unchanged(err)) // it can't be deleted now, so nothing of it is
	}
	if there { // before all else: where this fails, nobody is signed out
		if err := st.Delete(ctx, version); err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return o.but(unchanged(err))
		}
	}
	forgotten := store.Forget(ctx, e.settings.StateDir, st)
	switch held, heldErr := e.held(); { // newer than what is stored is what is unsaved
	case heldErr == nil:
		o.result.Notice = last(held)
	case spilled != nil:
		o.result.Notice = last(spilled.Record)
	case err == nil:
		o.result.Notice = last(record)
	case missing:
		o.result.Notice = err.Error() + ": nothing was revoked, and where it is it counts as deleted"
	}
	e.forgetIdentity()
	// What an interrupted move has left would be found by whoever uses the profile next.
	e.sweep(ctx, st, func(copied store.Record) bool { return e.job.Op == job.Delete || sameSignIn(copied, record) })
	e.forget()
	LeaveHome(e.settings) // a home without its record counts for nothing
	o.result.Saved = true
	if forgotten != nil {
		o.result.Gone = true
		return o.but(&protocol.Error{Code: protocol.CodeOf(forgotten),
			Message: "the sign-in is deleted, but not what is kept of earlier ones: " + forgotten.Error(),
			Hint: strings.TrimPrefix(
				protocol.HintOf(forgotten)+"\nonce that is put right, the same command deletes the rest",
				"\n",
			)})
	}
	return o
}

// unchanged is an error of a job that has done nothing yet.
func unchanged(err error) error {
	return &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error() + "; nothing was changed", Hint: protocol.HintOf(err)}
}

// revoke ends a record's tokens at the provider (RFC 7009), the refresh token first: with it go the access tokens at many a
// provider. It returns what the person must know of that which was not revoked.
func (e *errand) revoke(ctx context.Context, r store.Record) string {
	if !e.traits().SignsIn {
		return ""
	}
	asking, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	c, _, err := e.provider(asking, r)
	if err == nil && c.RevokeURL == "" && e.settings.TokenURL != "" { // else the issuer has been asked already
		err = c.Discover(asking)
	}
	switch {
	case err != nil:
		return "nothing was revoked: " + err.Error()
	case c.Astray(oauth.RevocationEndpoint) != nil:
		return "nothing was revoked, so the tokens are good until they expire: " + c.Astray(oauth.RevocationEndpoint).Error()
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

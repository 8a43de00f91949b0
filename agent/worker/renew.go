package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// renew brings a token that serves: the stored one, else a new one.
func (e *errand) renew(ctx context.Context) outcome {
	if !e.traits().Stored {
		return e.ask(ctx)
	}
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		record, err := e.held()
		if err != nil {
			return outcome{result: e.about(nil), err: err}
		}
		return e.bring(ctx, state{record: record})
	}
	if o, ok := e.glance(ctx, st); ok {
		return o
	}
	s, err := e.lockAndSettle(ctx, st)
	if err != nil {
		return e.unlucky(ctx, s, err)
	}
	return s.end(e.bring(ctx, s))
}

// glance answers from the store without a lock, which is all that most jobs need: someone else has renewed, or the agent has
// just started. It declines whenever there is more to do than to look.
func (e *errand) glance(ctx context.Context, st store.Store) (outcome, bool) {
	if !e.job.Record.Empty() || store.Spilled(e.settings.StateDir, st) {
		return outcome{}, false
	}
	record, version, err := st.Load(ctx)
	s := state{st: st, record: record, version: version}
	switch {
	case st.Place().Kind.Traits().Shared && errors.Is(err, protocol.ErrLoginRequired):
		return e.mend(ctx, st, err), true
	case e.lost(st) && errors.Is(err, protocol.ErrNotFound):
		return e.vanished(ctx, st)
	case errors.Is(err, protocol.ErrNotFound):
		return e.absent(ctx, st, version, err), true
	case errors.Is(err, protocol.ErrInvalid) && e.job.Base != (job.Version{}) && restored(ctx, st, protocol.ErrInvalid):
		return outcome{}, false // somebody writes it in place, and was not done
	case errors.Is(err, protocol.ErrInvalid), errors.Is(err, protocol.ErrLoginRequired):
		return e.nothing(st, version, err), true
	case err != nil, e.due(s):
		return outcome{}, false
	}
	if _, spent := e.spent(ctx, s); spent {
		return outcome{}, false
	}
	return e.keep(ctx, s), true
}

// absent is the outcome when nothing is stored, and says what that means.
func (e *errand) absent(ctx context.Context, st store.Store, v store.Version, err error) outcome {
	o := e.nothing(st, v, err)
	if e.wasSignedIn(ctx, st) {
		store.NewHistory(e.settings.StateDir, st).SignOut(ctx)
		return o.but(e.signedOut(st.Place().Location))
	}
	if other := e.elsewhere(ctx, st); other != nil {
		return o.but(e.leftBehind(st, other))
	}
	return o
}

// nothing is the outcome when the store holds no usable record. What to do about one that is absent depends on the provider,
// of which the store knows nothing: see explain.
func (e *errand) nothing(st store.Store, v store.Version, err error) outcome {
	if !errors.Is(err, protocol.ErrInvalid) {
		err = &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error(), Detail: protocol.DetailOf(err)}
	}
	o := outcome{result: e.about(st), err: err}
	o.result.Version, o.result.Saved = job.Version(v), true // there is nothing left to be saved
	o.result.Gone = e.lost(st) && !errors.Is(err, protocol.ErrInvalid)
	return o
}

// unlucky is the outcome when the record could not be taken: what the store holds serves as long as it lives.
func (e *errand) unlucky(ctx context.Context, s state, err error) outcome {
	if errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrInvalid) || errors.Is(err, protocol.ErrLoginRequired) {
		return e.nothing(s.st, s.version, err)
	}
	o := outcome{result: e.about(s.st), err: err}
	if record, version, loadErr := s.st.Load(ctx); loadErr == nil && e.job.Record.Empty() && alive(record) {
		o.result = e.result(s.st, record, version)
		o.result.Saved = true
	}
	return o
}

// due reports whether a record must be renewed to do the job. Force renews what the agent knows; a record that someone else
// has written since then may be the very cure that is asked for, and so is one that was issued since the request was first
// made: it is this request's own, by a worker whose agent died before it could say so.
func (e *errand) due(s state) bool {
	known := s.unsaved || s.held || e.job.Base == job.Version{} || e.job.Base == job.Version(s.version)
	return e.job.Force && known && !job.IssuedSince(time.Now(), s.record.Issued, e.job.Since) || s.record.AccessToken.Empty() ||
		job.Due(time.Now(), s.record.Expiry, s.record.Issued, e.job.MinTTL, e.job.HalfLife)
}

func alive(r store.Record) bool {
	return !r.AccessToken.Empty() && (r.Expiry.IsZero() || r.Expiry.After(time.Now().Round(0)))
}

// bring answers with a record that is settled: as it is when it serves, else renewed.
func (e *errand) bring(ctx context.Context, s state) outcome {
	if newest, spent := e.spent(ctx, s); spent {
		return e.outdated(ctx, s, newest)
	}
	if !e.due(s) || errors.Is(s.blocked, protocol.ErrInvalid) { // whose record it is that can't be read nobody knows
		return e.keep(ctx, s)
	}
	if err := e.renewable(s.record); err != nil {
		return e.failed(ctx, s, err)
	}
	client, origin, err := e.provider(ctx, s.record)
	if err != nil {
		return e.failed(ctx, s, err)
	}
	// From here on the job is finished whatever happens around it.
	ctx = context.WithoutCancel(ctx)
	if err := e.mayRenew(ctx, s.st, s.record); err != nil {
		return e.failed(ctx, s, err)
	}
	reply, err := e.exchange(ctx, client, &s, origin)
	if err != nil {
		if o, ok := e.overtaken(ctx, s); ok {
			return o
		}
		if dead(err) && s.st != nil {
			store.NewHistory(e.settings.StateDir, s.st).Refused(ctx, s.record, time.Now())
		}
		return e.failed(ctx, s, err)
	}
	return e.deliver(ctx, s, reply, origin)
}

// reserve fails unless the record is still ours to renew, and there is a place for what that will bring. A grant that spends no
// refresh token needs none.
func (e *errand) reserve(ctx context.Context, s state) error {
	switch {
	case s.st != nil && !e.asksAgain():
		return store.Reserve(ctx, e.settings.StateDir, s.st, s.lock)
	case s.lock != nil:
		return s.lock.Check()
	}
	return nil
}

// exchange has the provider renew the record, if it can be saved and is still ours to renew. Where the answer is spoilt and the
// refresh token is rotated nevertheless, the record has the new one: the old one is spent.
func (e *errand) exchange(ctx context.Context, c *oauth.Client, s *state, origin string) (oauth.Reply, error) {
	if err := e.reserve(ctx, *s); err != nil {
		return oauth.Reply{}, err
	}
	e.agent.report(job.Report{Kind: job.Asking})
	reply, err := e.request(ctx, c, s.record)
	if err != nil && !reply.RefreshToken.Empty() {
		old := s.record
		s.record.SignIn = signInAfter(old)
		s.record.RefreshToken, s.record.TokenOrigin, s.unsaved = reply.RefreshToken, origin, true
		e.rememberSpent(ctx, *s, old)
	}
	return reply, err
}

// spent reports whether the record's refresh token is known to be used up, and what took its place: a backup or a synchronised
// folder has brought an old copy back. To send it once more can revoke the whole sign-in, and a session of Claude Code would.
func (e *errand) spent(ctx context.Context, s state) (newest store.Past, spent bool) {
	if s.st == nil || s.unsaved {
		return store.Past{}, false
	}
	if e.job.Base == job.Version(s.version) && !e.due(s) { // seen before
		return store.Past{}, false
	}
	newest, spent = store.NewHistory(e.settings.StateDir, s.st).Replaces(ctx, s.record.RefreshToken)
	if !spent { // longer ago than the history goes back: what took its place is not known
		me := store.HomeOf(s.st, e.settings.Name, s.record)
		spent = store.NewHomes(e.settings.StateDir).Spent(me, s.record)
	}
	return newest, spent
}

// outdated puts the newest record of a sign-in in the place of an old copy, as often as a stub is mended.
func (e *errand) outdated(ctx context.Context, s state, newest store.Past) outcome {
	if newest.Spent || newest.Out || newest.Displaced || newest.Record.RefreshToken.Empty() || !e.mayMend() {
		err := e.explain(&protocol.Error{Code: protocol.CodeLoginRequired,
			Message: s.st.Place().Location + " holds an old copy of the sign-in, whose refresh token is spent"})
		if newest.Lineage == (store.Lineage{}) {
			store.NewHistory(e.settings.StateDir, s.st).Refused(ctx, s.record, time.Now()) // it is not to be offered
		}
		past, _ := e.past(ctx, s.st)
		if slices.ContainsFunc(past, func(p store.Past) bool { return !p.Spent && !p.Record.RefreshToken.Empty() }) {
			err.Hint = strings.TrimPrefix(err.Hint+"\nor bring a sign-in back: ccagent restore -p "+e.job.Profile, "\n")
		}
		return e.failed(ctx, s, err)
	}
	if err := e.reserve(ctx, s); err != nil {
		return e.failed(ctx, s, err)
	}
	e.noteMend(s.st.Place())
	s.record, s.unsaved = newest.Record, true
	return e.bring(ctx, s)
}

// deliver hands a provider's answer over to the agent, and saves it.
func (e *errand) deliver(ctx context.Context, s state, reply oauth.Reply, origin string) outcome {
	known, old := s.version, s.record
	s.record, s.unsaved = renewed(s.record, reply, origin), true
	handOver := e.result(s.st, s.record, s.version)
	handOver.Renewed = true
	var err error
	if handOver.Record, err = s.record.Marshal(); err != nil {
		return e.keep(ctx, s).but(err)
	}
	e.agent.report(job.Report{Kind: job.HandOver, Result: handOver})
	e.job.Lineage = handOver.Lineage // of what the agent has in hand from here on
	e.rememberSpent(ctx, s, old)
	o := e.keep(ctx, s)
	if o.theirs != nil {
		return e.bring(ctx, *o.theirs)
	}
	e.sameAs(s.st, known, store.Version(o.result.Version))
	o.result.Renewed = true
	return o
}

// rememberSpent writes down that s.record has taken old's place. The agent has been given it before, because the files that are
// written here may hang. The record is saved afterwards: whoever is killed in between leaves no refresh token that is spent and
// not known to be, and the history has the new one.
func (e *errand) rememberSpent(ctx context.Context, s state, old store.Record) {
	if s.st == nil {
		return
	}
	e.forgetful = store.NewHistory(e.settings.StateDir, s.st).Renewed(ctx, old, s.record, time.Now()) // first: it has the new one
	store.NewHomes(e.settings.StateDir).Renewed(ctx, store.HomeOf(s.st, e.settings.Name, s.record), old)
}

// failed keeps what there is to keep, and says why there is no new token. The old one goes with it while it lives.
func (e *errand) failed(ctx context.Context, s state, err error) outcome {
	o := e.keep(ctx, s).but(err)
	if !alive(s.record) {
		o.result.Token = protocol.Secret{}
	}
	return o
}

// dead reports whether a provider has refused the refresh token itself. One that it refuses for another reason, a rule of
// the company's or a consent that is missing, may be good again, and is not to be remembered as spent.
func dead(err error) bool {
	var failure *oauth.Error
	return errors.As(err, &failure) && failure.Dead
}

// overtaken looks again after a failure: a program that takes no lock may have written meanwhile. If it has renewed, a refused
// refresh token was simply an old one. What it has written is judged as if it had been there from the start, once in a job.
func (e *errand) overtaken(ctx context.Context, s state) (outcome, bool) {
	if s.st == nil || s.unsaved || e.judgedAgain {
		return outcome{}, false
	}
	record, version, err := s.st.Load(ctx)
	if err != nil || version == s.version {
		return outcome{}, false
	}
	e.judgedAgain = true
	now := state{st: s.st, lock: s.lock, record: record, version: version}
	if alive(record) {
		return e.keep(ctx, now), true
	}
	return e.bring(ctx, now), true
}

// renewable fails if there is nothing to renew a record with.
func (e *errand) renewable(r store.Record) error {
	switch {
	case !e.traits().Renewable && e.job.Force:
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "profile " + e.job.Profile + " has a static key, which can't be renewed",
			Hint:    "replace it: " + e.traits().Obtain(e.job.Profile),
		}
	case e.traits().Renewable && (e.asksAgain() || !r.RefreshToken.Empty()):
		return nil
	case !alive(r):
		return &protocol.Error{Code: protocol.CodeExpired, Message: "the token has expired, and there is nothing to renew it with"}
	}
	return &protocol.Error{
		Code:    protocol.CodeLoginRequired,
		Message: "the token can't be renewed: no refresh token is stored with it",
	}
}

// renewed is r with what a provider answered. What it does not say stays: the refresh token above all.
func renewed(r store.Record, reply oauth.Reply, origin string) store.Record {
	r.SignIn = signInAfter(r)
	r.AccessToken, r.Expiry, r.Issued = reply.AccessToken, reply.Expiry, reply.Issued
	if !reply.RefreshToken.Empty() {
		r.RefreshToken = reply.RefreshToken
	}
	if !reply.GrantExpiry.IsZero() {
		r.GrantExpiry = reply.GrantExpiry
	}
	if reply.Scopes != nil {
		r.Scopes = reply.Scopes
	}
	r.TokenOrigin = origin
	return r
}

// signInAfter is the id that r's sign-in has once r is renewed: its own, or where another program has made it the one that tells
// so.
func signInAfter(r store.Record) string {
	return cmp.Or(r.SignIn, store.SignInOf(r.RefreshToken), newSignIn())
}

// newSignIn is the id of a sign-in of ours. It is a name, not a secret.
func newSignIn() string {
	var id [8]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

package renewal

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Renew brings a token that serves: the stored one, else a new one.
func (t *Task) Renew(ctx context.Context, st store.Store) Outcome {
	if t.Source != "" {
		return t.fetch(ctx)
	}
	if st == nil {
		record, err := t.Held()
		if err != nil && !(t.FromNothing && isAbsent(err)) {
			return Outcome{Result: t.About(nil), Err: err}
		}
		return t.Bring(ctx, State{Record: record})
	}
	if o, ok := t.look(ctx, st); ok {
		return o
	}
	s, err := t.Take(ctx, st)
	if err != nil {
		return t.Unreached(ctx, s, err)
	}
	return s.End(t.Bring(ctx, s))
}

// fetch gets a token from a provider whose tokens are stored nowhere.
func (t *Task) fetch(ctx context.Context) Outcome {
	o := Outcome{Finding: Stored, Result: job.Result{Provider: t.Name, Store: "none", Location: t.Source, Kind: t.Token}}
	request, err := t.Provider.Prepare(ctx, store.Record{})
	if err != nil {
		return o.WithError(err)
	}
	r, err := request.Send(ctx)
	if err != nil {
		return o.WithError(err)
	}
	o.Result.Token, o.Result.Issued, o.Result.Expiry = r.AccessToken, r.Issued, r.Expiry
	o.Result.Kind, o.Result.Renewed = t.KindOf(r), true
	return o
}

// look answers with what the store holds, without a lock. That is all that most jobs need: someone else has renewed, or the agent
// has just started. ok is false where there is more to do.
func (t *Task) look(ctx context.Context, st store.Store) (o Outcome, ok bool) {
	if !t.Job.Record.Empty() || t.StateDir != "" && store.Spilled(t.StateDir, st) {
		return Outcome{}, false
	}
	record, version, err := st.Load(ctx)
	switch {
	case isAbsent(err):
		return t.Setting.Missing(ctx, st, version, err)
	case errors.Is(err, protocol.ErrInvalid):
		if t.Job.Base != (job.Version{}) && ComesBack(ctx, st, protocol.ErrInvalid) {
			return Outcome{}, false // somebody writes it in place, and was not done
		}
		return t.NoRecord(st, version, err), true
	case err != nil:
		return Outcome{}, false
	}
	s := State{Store: st, Record: record, Version: version}
	if t.due(s) {
		return Outcome{}, false
	}
	if _, spent := t.spent(ctx, s); spent {
		return Outcome{}, false
	}
	return t.Keep(ctx, s), true
}

// due reports whether a record must be renewed to do the job. With Force it must, unless somebody has done that already: another
// program has written the record since the agent saw it last, or it was issued after the request was first made, by a worker
// whose agent died before it could say so.
func (t *Task) due(s State) bool {
	if t.Job.Op == job.Rekey { // the client secret is tried at once
		return true
	}
	known := s.Store == nil || s.Unsaved || s.held || t.Job.Base == job.Version{} || t.Job.Base == job.Version(s.Version)
	return t.Job.Force && known && !job.IssuedSince(time.Now(), s.Record.Issued, t.Job.Since) || s.Record.AccessToken.Empty() ||
		job.Due(time.Now(), s.Record.Expiry, s.Record.Issued, t.Job.MinTTL, t.Job.HalfLife)
}

// Bring answers with a record that is settled: as it is when it serves, else renewed.
func (t *Task) Bring(ctx context.Context, s State) Outcome {
	if newest, spent := t.spent(ctx, s); spent {
		return t.replaceCopy(ctx, s, newest)
	}
	if !t.due(s) || errors.Is(s.Blocked, protocol.ErrInvalid) { // what can't be read may be another sign-in
		return t.Keep(ctx, s)
	}
	request, err := t.Provider.Prepare(ctx, s.Record)
	if err != nil {
		return t.Failed(ctx, s, err)
	}
	ctx = context.WithoutCancel(ctx) // from here on the job is finished whatever happens around it
	if err := t.MayRenew(ctx, s); err != nil {
		return t.Failed(ctx, s, err)
	}
	renewed, err := t.Ask(ctx, &s, request)
	if err != nil {
		if o, ok := t.overtaken(ctx, s); ok {
			return o
		}
		if history := t.History(s.Store); Dead(err) && history != nil {
			history.Refused(ctx, s.Record, time.Now())
		}
		return t.Failed(ctx, s, err)
	}
	return t.Deliver(ctx, s, renewed)
}

// Reserve fails unless the record is still ours to renew, and there is a place for what that will bring. A request that spends
// no refresh token needs none.
func (t *Task) Reserve(ctx context.Context, s State, spends bool) error {
	switch {
	case s.Store != nil && spends:
		return store.Reserve(ctx, t.StateDir, s.Store, s.Lock) // it checks the lock last
	case s.Lock != nil:
		return s.Lock.Check()
	}
	return nil
}

// Ask sends the request, if what it brings can be saved and the record is still ours to renew. Where the answer can't be used
// and the refresh token is rotated nevertheless, the record in s has the new one, because the old one is spent.
func (t *Task) Ask(ctx context.Context, s *State, request Request) (store.Record, error) {
	if err := t.Reserve(ctx, *s, request.Spends); err != nil {
		return store.Record{}, err
	}
	t.Setting.Asking()
	renewed, err := request.Send(ctx)
	if err == nil {
		err = usable(renewed.AccessToken)
	}
	old := s.Record
	isRotated := !renewed.RefreshToken.Empty() && renewed.RefreshToken.Reveal() != old.RefreshToken.Reveal()
	if err != nil && isRotated {
		s.Record.SignIn = cmp.Or(renewed.SignIn, signInAfter(old))
		s.Record.RefreshToken, s.Unsaved = renewed.RefreshToken, true
		s.Record.TokenOrigin = cmp.Or(renewed.TokenOrigin, old.TokenOrigin)
		t.rememberSpent(ctx, *s, old)
		err = rotated{err}
	}
	return renewed, err
}

// rotated is the error of a renewal whose refresh token is not lost with the rest of the answer.
type rotated struct{ error }

func (r rotated) Error() string {
	return r.error.Error() + "; the refresh token that came with it is kept"
}
func (r rotated) Unwrap() error { return r.error }

// unusable is the answer of a provider whose token nobody can use.
type unusable struct{ error }

func (u unusable) Unwrap() error              { return u.error }
func (unusable) AskAgainAfter() time.Duration { return 0 }
func (unusable) RefusesToken() bool           { return false }

// usable fails where a consumer could not use the token that a provider has answered with.
func usable(token protocol.Secret) error {
	err := protocol.CheckToken(token)
	if err == nil {
		return nil
	}
	return unusable{&protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider's answer can't be used: " + err.Error(),
		Hint: protocol.HintOf(err)}}
}

// spent reports whether the record's refresh token is known to be used up, and what took its place: a backup or a synchronised
// folder has brought an old copy back. To send it once more can revoke the whole sign-in, and a session of Claude Code would.
func (t *Task) spent(ctx context.Context, s State) (newest store.Past, spent bool) {
	history := t.History(s.Store)
	if history == nil || s.Unsaved {
		return store.Past{}, false
	}
	if t.Job.Base == job.Version(s.Version) && !t.due(s) { // seen before
		return store.Past{}, false
	}
	newest, spent = history.Replaces(ctx, s.Record.RefreshToken)
	if !spent { // longer ago than the history goes back: what took its place is not known
		spent = store.NewHomes(t.StateDir).Spent(store.HomeOf(s.Store, t.Job.Profile, s.Record), s.Record)
	}
	return newest, spent
}

// replaceCopy puts the newest record of a sign-in in the place of an old copy, as often as [Task.MayRepair] allows.
func (t *Task) replaceCopy(ctx context.Context, s State, newest store.Past) Outcome {
	if newest.Spent || newest.Out || newest.Displaced || newest.Record.RefreshToken.Empty() || !t.MayRepair() {
		if newest.Lineage == (store.Lineage{}) {
			t.History(s.Store).Refused(ctx, s.Record, time.Now()) // so that nobody is offered to restore it
		}
		return t.Failed(ctx, s, &Problem{Reason: SpentCopy, Condition: &protocol.Error{Code: protocol.CodeLoginRequired,
			Message: s.Store.Place().Location + " holds an old copy of the sign-in, whose refresh token is spent"}})
	}
	if err := t.Reserve(ctx, s, true); err != nil {
		return t.Failed(ctx, s, err)
	}
	t.NoteRepair(s.Store.Place())
	s.Record, s.Unsaved = newest.Record, true
	return t.Bring(ctx, s)
}

// Deliver hands the renewed record over to the agent, and saves it.
func (t *Task) Deliver(ctx context.Context, s State, renewed store.Record) Outcome {
	before, old := s.Version, s.Record
	renewed.SignIn = cmp.Or(renewed.SignIn, signInAfter(old))
	carryGrant(old, &renewed)
	s.Record, s.Unsaved = renewed, true
	handOver := t.Describe(s.Store, s.Record, s.Version)
	handOver.Renewed = true
	var err error
	if handOver.Record, err = s.Record.Marshal(); err != nil {
		return t.Keep(ctx, s).WithError(err)
	}
	t.Setting.HandOver(handOver)
	t.Job.Lineage = handOver.Lineage // of the token that the agent has cached from here on
	t.rememberSpent(ctx, s, old)
	o := t.Keep(ctx, s)
	if o.theirs != nil {
		return t.Bring(ctx, *o.theirs)
	}
	o.Replaced, o.Result.Renewed = before, true
	return o
}

// rememberSpent writes down that s.Record has taken old's place. The agent has been given it before, because the files that are
// written here may hang. The record is saved afterwards: whoever is killed in between leaves no refresh token that is spent and
// not known to be, and the history has the new one.
func (t *Task) rememberSpent(ctx context.Context, s State, old store.Record) {
	history := t.History(s.Store)
	if history == nil {
		return
	}
	t.Forgetful = history.Renewed(ctx, old, s.Record, time.Now()) // first: it has the new one
	store.NewHomes(t.StateDir).Renewed(ctx, store.HomeOf(s.Store, t.Job.Profile, s.Record), old)
}

// Failed keeps what there is to keep, and says why there is no new token. The old one goes with it while it lives.
func (t *Task) Failed(ctx context.Context, s State, err error) Outcome {
	o := t.Keep(ctx, s).WithError(err)
	if !Alive(s.Record) {
		o.Result.Token = protocol.Secret{}
	}
	return o
}

// overtaken loads the record again after a failure, because a program that takes no lock may have renewed it meanwhile: then it
// was only an old refresh token that the provider has refused. What that program has written is judged as if it had been there
// from the start, once in a job.
func (t *Task) overtaken(ctx context.Context, s State) (Outcome, bool) {
	if s.Store == nil || s.Unsaved || t.judgedAgain {
		return Outcome{}, false
	}
	record, version, err := s.Store.Load(ctx)
	if err != nil || version == s.Version {
		return Outcome{}, false
	}
	t.judgedAgain = true
	now := State{Store: s.Store, Lock: s.Lock, Record: record, Version: version}
	if Alive(record) && t.Job.Op != job.Rekey {
		return t.Keep(ctx, now), true
	}
	return t.Bring(ctx, now), true
}

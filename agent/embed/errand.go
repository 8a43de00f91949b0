package embed

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// lockWait bounds the wait for a record that another program is renewing.
const lockWait = store.LockWait

// errand is one job under way.
type errand struct {
	job.Job
	Profile
	all      map[string]Profile
	stateDir string
	handOver func(job.Result)
}

// held is what the agent holds, the zero Record for nothing.
func (e *errand) held() (store.Record, error) {
	if e.Record.Empty() {
		return store.Record{}, nil
	}
	return store.Unmarshal(e.Record)
}

// result describes a record. Without a store the record itself goes with it, for the agent to keep.
func (e *errand) result(r store.Record, v store.Version) (job.Result, error) {
	result := job.Result{
		Token: r.AccessToken, Kind: protocol.KindOf(r.AccessToken, cmp.Or(r.Kind, protocol.KindBearer)),
		Expiry: r.Expiry, Issued: r.Issued, Version: job.Version(v), Lineage: r.Lineage().String(),
		Subscription: r.Subscription, Scopes: r.Scopes, Store: "memory", Location: "the agent's memory",
	}
	if e.Store != nil {
		at := e.Store.Place()
		result.Store, result.Location, result.Watch = string(at.Kind), at.Location, at.Watch
		return result, nil
	}
	if r.IsStub() {
		return result, nil
	}
	var err error
	result.Record, err = r.Marshal()
	return result, err
}

// force is the record in force, and what the store holds.
type force struct {
	record  store.Record
	version store.Version
	lock    store.Lock // nil: store memory
	unsaved bool       // record is the agent's, and newer than what the store holds
	unread  bool       // what the store holds can't be read, by anybody
}

// history is the store's, nil where there is no folder for one.
func (e *errand) history() *store.History {
	if e.Store == nil || e.stateDir == "" {
		return nil
	}
	return store.NewHistory(e.stateDir, e.Store)
}

// withhold sees to it that a job that failed leaves no token to be served but one of the sign-in that the store holds.
func (e *errand) withhold(ctx context.Context, report *job.Report) {
	result, served := &report.Result, e.Lineage
	if !result.Token.Empty() {
		served = result.Lineage
	}
	if report.Err == nil || e.Store == nil || result.Renewed || served == "" || e.Op != job.Renew && e.Op != job.Save {
		return
	}
	if store.HoldsAnother(context.WithoutCancel(ctx), e.stateDir, e.Store, store.ParseLineage(served)) {
		result.Token, result.Gone = protocol.Secret{}, true
	}
}

// outdated returns the newest record of a sign-in of which the store holds an old copy: its refresh token is spent, and to send
// it again can end the whole sign-in.
func (e *errand) outdated(ctx context.Context, f force) (newest store.Past, spent bool) {
	h := e.history()
	if h == nil || f.unsaved || e.Base == job.Version(f.version) && !e.due(f) { // seen before
		return store.Past{}, false
	}
	if newest, spent = h.Replaces(ctx, f.record.RefreshToken); !spent {
		spent = store.NewHomes(e.stateDir).Spent(store.HomeOf(e.Store, e.Job.Profile, f.record), f.record)
	}
	return newest, spent
}

// end reports on the record in force, saving it first if it isn't saved. err is why there is no newer one.
func (e *errand) end(ctx context.Context, f force, err error) (job.Report, error) {
	result, bad := e.result(f.record, f.version)
	if expiry := f.record.Expiry; err != nil && !expiry.IsZero() && !expiry.After(time.Now().Round(0)) {
		result.Token = protocol.Secret{}
	}
	if bad == nil && f.unsaved {
		return e.save(ctx, f, result, err)
	}
	result.Saved = bad == nil
	if h := e.history(); h != nil && e.Base != job.Version(f.version) && !f.record.IsStub() {
		h.Keep(ctx, f.record, e.Op != job.Put, time.Now())
	}
	return done(result, errors.Join(bad, err))
}

// fail reports that nothing was found out about the record: what the agent knows of it stays.
func (e *errand) fail(err error) (job.Report, error) {
	result, _ := e.result(store.Record{}, store.Version{})
	return done(result, err)
}

// renew brings a token that serves: the one there is, else a new one.
func (e *errand) renew(ctx context.Context) (job.Report, error) {
	if e.Store == nil {
		r, err := e.held()
		if err != nil {
			return e.fail(err)
		}
		return e.bring(ctx, force{record: r})
	}
	if r, v, err := e.Store.Load(ctx); err == nil && e.Record.Empty() && !e.spilled() {
		f := force{record: r, version: v}
		if _, spent := e.outdated(ctx, f); !spent && !e.due(f) {
			return e.end(ctx, f, nil) // someone else has renewed, or the agent has just started: no lock is needed to look
		}
	}
	lock, err := e.lock(ctx)
	if err != nil {
		return e.fail(err)
	}
	defer lock.Release()
	ours, err := e.held()
	if err != nil {
		return e.fail(err)
	}
	f, err := e.settle(ctx, ours, store.Version(e.Base))
	if err != nil {
		return e.fail(err)
	}
	f.lock = lock
	return e.bring(ctx, f)
}

// due reports whether a record must be renewed to do the job. One that someone else has written may be the cure that Force
// asks for.
func (e *errand) due(f force) bool {
	now, r := time.Now(), f.record
	known := e.Store == nil || f.unsaved || e.Base == job.Version{} || e.Base == job.Version(f.version)
	return e.Force && known && !job.IssuedSince(now, r.Issued, e.Since) || r.AccessToken.Empty() ||
		job.Due(now, r.Expiry, r.Issued, e.MinTTL, e.HalfLife)
}

// reserve makes ready the place of what a renewal is about to bring, if it will spend a refresh token.
func (e *errand) reserve(ctx context.Context, f force) error {
	if e.Store == nil || f.record.RefreshToken.Empty() {
		return nil
	}
	return store.Reserve(ctx, e.stateDir, e.Store, f.lock)
}

// claim fails if another profile has the sign-in of r, or has spent its refresh token.
func (e *errand) claim(ctx context.Context, r store.Record) error {
	if e.Store == nil || e.stateDir == "" {
		return nil
	}
	holds := func(home store.Home) bool {
		p, ok := e.all[home.Profile]
		if !ok || p.Store == nil {
			return false
		}
		there, _, err := p.Store.Load(ctx)
		return err == nil && store.SameSignIn(there, r)
	}
	other := store.NewHomes(e.stateDir).Claim(ctx, store.HomeOf(e.Store, e.Job.Profile, r), r, holds)
	if other == nil {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeLoginRequired,
		Message: "profile " + other.Profile + " has this sign-in already, in " + other.Location +
			": a second home would end it for both at the next renewal",
		Hint: "sign in anew for profile " + e.Job.Profile}
}

// bring answers with the record in force, renewed if it is due. What the provider says is handed over before it is saved.
func (e *errand) bring(ctx context.Context, f force) (job.Report, error) {
	if newest, spent := e.outdated(ctx, f); spent {
		if newest.Spent || newest.Out || newest.Displaced || newest.Record.RefreshToken.Empty() {
			return e.end(ctx, f, &protocol.Error{Code: protocol.CodeLoginRequired,
				Message: e.Store.Place().Location + " holds an old copy of the sign-in, whose refresh token is spent"})
		}
		f.record, f.unsaved = newest.Record, true
	}
	if !e.due(f) || f.unread {
		return e.end(ctx, f, nil)
	}
	ctx = context.WithoutCancel(ctx)
	var renewed store.Record
	err := e.reserve(ctx, f)
	if err == nil {
		err = e.claim(ctx, f.record)
	}
	if err == nil {
		renewed, err = e.Provider.Renew(ctx, f.record)
	}
	if err == nil {
		err = protocol.CheckToken(renewed.AccessToken)
	}
	if err != nil {
		return e.end(ctx, f, err)
	}
	renewed.SignIn = cmp.Or(renewed.SignIn, f.record.SignIn, store.SignInOf(f.record.RefreshToken))
	result, err := e.result(renewed, f.version)
	if err == nil {
		result.Record, err = renewed.Marshal()
	}
	if err != nil {
		return e.end(ctx, f, err)
	}
	result.Renewed = true
	e.handOver(result)
	e.Lineage = result.Lineage      // of what the agent has in hand from here on
	if h := e.history(); h != nil { // not to be able to is no reason to have no token
		h.Renewed(ctx, f.record, renewed, time.Now())
		store.NewHomes(e.stateDir).Renewed(ctx, store.HomeOf(e.Store, e.Job.Profile, renewed), f.record)
	}
	if e.Store == nil {
		result.Saved = true
		return done(result, nil)
	}
	return e.save(ctx, force{record: renewed, version: f.version, lock: f.lock, unsaved: true}, result, nil)
}

// save saves a record and reports on it; err is what went wrong before. Where it can't be saved the agent keeps it, and a
// spill file does if there is a folder for one.
func (e *errand) save(ctx context.Context, f force, result job.Result, err error) (job.Report, error) {
	saved, failed := e.Store.Save(ctx, f.record, f.version)
	if failed == nil {
		result.Version, result.Record, result.Saved = job.Version(saved), protocol.Secret{}, true
		return done(result, err)
	}
	if errors.Is(failed, store.ErrConflict) { // a program that takes no lock was faster
		if now, bad := e.settle(ctx, f.record, f.version); bad == nil && !now.unsaved {
			now.lock = f.lock
			return e.bring(ctx, now)
		}
	}
	result.Record, _ = f.record.Marshal() // it has been one before
	if e.stateDir != "" {
		store.Spill(e.stateDir, e.Store, f.version, f.record) // the agent has it too
	}
	return done(
		result,
		&protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the record could not be saved: " + failed.Error(),
			Hint:    protocol.HintOf(failed),
		},
	)
}

func (e *errand) lock(ctx context.Context) (store.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	return e.Store.Lock(ctx)
}

// spilled reports whether a newer record than the stored one may wait in a spill file.
func (e *errand) spilled() bool { return e.stateDir != "" && store.Spilled(e.stateDir, e.Store) }

// settle finds the record in force, the lock being held: what spill files bring back, what the store holds, and ours, which is
// not saved and replaces base (the zero Record where there is none). Ours is made a spill as well, so that one order decides
// among them all; where it can't be, it is in force if the store still holds base. Nothing stored is the zero Record.
func (e *errand) settle(ctx context.Context, ours store.Record, base store.Version) (force, error) {
	var err error
	if e.stateDir != "" && (ours.IsStub() || store.Spill(e.stateDir, e.Store, base, ours) == nil) {
		unsaved, failed := store.Recover(ctx, e.stateDir, e.Store)
		if unsaved != nil {
			return force{record: unsaved.Record, version: unsaved.Base, unsaved: true}, nil
		}
		if err = failed; err == nil {
			ours = store.Record{} // stored by now, or kept aside
		}
	}
	var stored store.Record
	var version store.Version
	if err == nil {
		stored, version, err = e.Store.Load(ctx)
	}
	nothing := errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrLoginRequired)
	switch {
	case err != nil && !nothing && !ours.IsStub(): // the store can't be asked, and ours is newer than what the agent saw there
		return force{record: ours, version: base, unsaved: true, unread: errors.Is(err, protocol.ErrInvalid)}, nil
	case err != nil && !nothing:
		return force{}, err
	case !ours.IsStub() && (base == version || nothing && version != store.Version{}): // a stub gives way
		return force{record: ours, version: version, unsaved: true}, nil
	case nothing:
		stored = store.Record{}
	}
	return force{record: stored, version: version}, nil
}

// put stores a record: from outside, or (Save) the one that the agent holds unsaved.
func (e *errand) put(ctx context.Context) (job.Report, error) {
	r, err := e.held()
	if err == nil && r.IsStub() {
		err = &protocol.Error{Code: protocol.CodeInvalid, Message: "there is no token in the record"}
	}
	if err != nil {
		return e.fail(err)
	}
	if e.Store == nil {
		return e.end(ctx, force{record: r}, nil)
	}
	lock, err := e.lock(ctx)
	if err != nil {
		return e.fail(err)
	}
	defer lock.Release()
	ctx = context.WithoutCancel(ctx)
	if e.Op == job.Save {
		f, err := e.settle(ctx, r, store.Version(e.Base))
		if err != nil {
			return e.fail(err)
		}
		f.lock = lock
		return e.end(ctx, f, nil)
	}
	stored, version, err := e.Store.Load(ctx)
	switch {
	case err == nil && !e.Force && store.ExpiresBefore(r, stored):
		return e.end(
			ctx,
			force{record: stored, version: version},
			&protocol.Error{Code: protocol.CodeConfig, Message: "it expires before the one that is stored"},
		)
	case err != nil && !errors.Is(err, protocol.ErrNotFound) && !errors.Is(err, protocol.ErrLoginRequired) &&
		!errors.Is(err, store.ErrMissing):
		return e.fail(err)
	}
	if !e.SignIn {
		if version, err = e.Store.Save(ctx, r, version); err != nil {
			return e.fail(err)
		}
		return e.end(ctx, force{record: r, version: version}, nil)
	}
	// Nobody signs in twice because a disk is full: the agent has it first.
	result, err := e.result(r, version)
	if err == nil {
		result.Record, err = r.Marshal()
	}
	if err != nil {
		return e.fail(err)
	}
	result.Renewed = true
	e.handOver(result)
	return e.save(ctx, force{record: r, version: version, lock: lock, unsaved: true}, result, nil)
}

// remove deletes what is stored, and has the provider revoke it. Nothing stored is as good as deleted.
func (e *errand) remove(ctx context.Context) (job.Report, error) {
	r, err := e.held()
	if err != nil {
		r = store.Record{}
	}
	var version store.Version
	if e.Store != nil {
		lock, err := e.lock(ctx)
		if err != nil {
			return done(job.Result{}, err)
		}
		defer lock.Release()
		var unsaved *store.Unsaved
		if e.stateDir != "" {
			// a later version's, or corrupt
			if unsaved, err = store.Recover(ctx, e.stateDir, e.Store); errors.Is(err, protocol.ErrInvalid) {
				return done(job.Result{}, err)
			}
		}
		stored, v, err := e.Store.Load(ctx)
		version = v
		switch { // the newest is what can be revoked
		case !r.IsStub():
		case unsaved != nil:
			r = unsaved.Record
		case err == nil:
			r = stored
		}
	}
	result, _ := e.result(store.Record{}, store.Version{})
	if e.Store != nil { // before all else: where this fails, nobody is signed out
		if err := e.Store.Delete(ctx, version); err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return done(result, err)
		}
		if e.stateDir != "" {
			if err := store.Forget(ctx, e.stateDir, e.Store); err != nil {
				result.Gone = true
				return done(result, err)
			}
			store.NewHomes(e.stateDir).Leave(e.Job.Profile)
		}
	}
	if v, ok := e.Provider.(Revoker); ok && e.Op == job.Logout && !e.KeepRemote && !r.IsStub() {
		if err := v.Revoke(ctx, r); err != nil {
			result.Notice = "it could not be revoked: " + err.Error()
		}
	}
	result.Saved = true
	return done(result, nil)
}

// identify says who is signed in.
func (e *errand) identify(ctx context.Context) (job.Report, error) {
	r, err := e.held()
	if err == nil && r.IsStub() && e.Store != nil {
		r, _, err = e.Store.Load(ctx)
	}
	if err != nil {
		return done(job.Result{}, err)
	}
	// The token in hand may be of a sign-in that another has taken the place of meanwhile.
	if !e.Token.Empty() && (e.Store == nil || store.ParseLineage(e.Lineage).Same(r.Lineage())) {
		r.AccessToken = e.Token
	}
	result, _ := e.result(r, store.Version{})
	result.Identity = r.Identity
	provider, ok := e.Provider.(Identifier)
	switch {
	case ok:
		result.Identity, err = provider.Identify(ctx, r)
	case e.Check:
		err = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider can't be asked whether the token is good"}
	}
	return done(result, err)
}

// spill leaves what the agent holds unsaved for the next one.
func (e *errand) spill() (job.Report, error) {
	r, err := e.held()
	if err == nil && (e.Store == nil || e.stateDir == "") {
		err = &protocol.Error{Code: protocol.CodeStorage, Message: "there is no folder to leave an unsaved record in"}
	}
	if err == nil {
		err = store.Spill(e.stateDir, e.Store, store.Version(e.Base), r)
	}
	return done(job.Result{Saved: err == nil}, err)
}

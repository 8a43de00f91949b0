package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// A guarded profile has its record in a store of ours, and a view in Claude Code's file: the access token alone, so that no
// session of Claude Code has a refresh token to spend. The file stays the place where a person signs in and out. A record with a
// refresh token that Claude Code writes there is adopted, a removal is obeyed, and what a session leaves that has lost a race is
// written over. A sign-in that was there before the profile was guarded is adopted only if the profile has none that serves.

// guard takes the record out of Claude Code's file and leaves a view there. If the record is elsewhere already, it only writes
// the view.
func (t *task) guard(ctx context.Context) renewal.Outcome {
	fail := func(format string, args ...any) renewal.Outcome {
		return renewal.Outcome{Err: &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf(format, args...)}}
	}
	if !t.usesClaudeCode() {
		return fail("profile %s has no record that Claude Code uses", t.Job.Profile)
	}
	claude := store.NewClaudeCode(t.settings.ConfigDir)
	from, err := t.open(ctx)
	switch {
	case err != nil:
		return renewal.Outcome{Err: err}
	case from == nil:
		return fail("profile %s is kept in the agent's memory", t.Job.Profile)
	}
	target := store.Kind(t.Job.Target)
	if kind := from.Place().Kind; !kind.Traits().Shared {
		if target != "" && target != kind {
			return fail("the record of profile %s is in store %s; take it to %s with: ccagent move", t.Job.Profile, kind, target)
		}
		return t.guardHere(ctx, from, claude)
	}
	if target == "" {
		if target, err = store.DefaultKind(ctx); err != nil {
			t.notice = "it is kept in a file: " + err.Error()
		}
	}
	if own := store.Kinds(store.Traits.Ours); !slices.Contains(own, target) {
		return fail("a record can't be guarded in store %q: there are %s", target, store.ListKinds(own))
	}
	to, err := t.openKind(target)
	if err != nil {
		return renewal.Outcome{Result: t.About(from), Err: err}
	}
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	s, err := t.Take(waiting, from)
	if err != nil {
		return t.Unreached(ctx, s, err)
	}
	ctx = context.WithoutCancel(ctx)
	if s.Record.AccessToken.Empty() { // a view of nothing signs Claude Code out
		o := t.Bring(ctx, s)
		if o.Err != nil {
			return s.End(o)
		}
		lock := s.Lock
		s, err = t.Settle(ctx, from)
		if s.Lock = lock; err != nil {
			return s.End(renewal.Outcome{Result: t.About(from), Err: err})
		}
	}
	defer s.Release()
	view := from.(*store.ClaudeCode).View(t.settings.StateDir) // of the store value that holds the lock
	known := view.Known()
	return t.moveTo(ctx, waiting, s, to, func(r store.Record) error {
		err := view.Restore(ctx, r)
		if err != nil && !known { // what is there is no view, and must not be taken for one that somebody has changed
			view.Forget()
		}
		return err
	})
}

// guardHere is guard for a record that is in a store of ours already.
func (t *task) guardHere(ctx context.Context, home store.Store, claude *store.ClaudeCode) renewal.Outcome {
	view := claude.View(t.settings.StateDir)
	state, err := view.Look(ctx)
	if err != nil && !(store.Broken(err) && (t.Job.Force || view.Known())) {
		return renewal.Outcome{Result: t.About(home), Err: renewal.OverBroken(err)}
	}
	if theirs, _, err := claude.Load(ctx); state == store.ViewForeign && err == nil && !theirs.RefreshToken.Empty() {
		switch {
		case t.Job.Force: // it may be wanted back
			theirs.Kind, theirs.SignIn = t.KindOf(theirs), renewal.NewSignIn()
			store.NewHistory(t.settings.StateDir, home).Keep(ctx, theirs, false, time.Now())
		case view.Known(): // guarded already, and somebody has signed in since
			if err := t.adopt(ctx, home, claude, view); err != nil {
				return renewal.Outcome{Result: t.About(home), Err: err}
			}
		default:
			return renewal.Outcome{Result: t.About(home), Err: &protocol.Error{Code: protocol.CodeConfig,
				Message: "Claude Code has a sign-in of its own in " + view.Place().Location,
				Hint:    "replace it by this one with --force"}}
		}
	}
	t.Job.Force = false // of the view, not of a renewal
	o := t.inStore(ctx, t.Renew)
	if o.Err == nil {
		o = o.WithError(view.Restore(ctx, visible(o.Result)))
		o.Result.Notice = cmp.Or(o.Result.Notice, renewal.NoteCopied(view.Copied()))
	}
	return o
}

// guardedView is the view in Claude Code's file of a profile whose record is elsewhere, nil if it has none.
func (t *task) guardedView() (*store.ClaudeCode, *store.View) {
	if !t.usesClaudeCode() || !slices.ContainsFunc(t.settings.Views, store.ViewPlace.Guards) {
		return nil, nil
	}
	claude := store.NewClaudeCode(t.settings.ConfigDir)
	return claude, claude.View(t.settings.StateDir)
}

// guarded does the job. For a guarded profile it first takes over what Claude Code has done in its file: a sign-in is adopted,
// and a sign-out is obeyed.
func (t *task) guarded(ctx context.Context) renewal.Outcome {
	claude, view := t.guardedView()
	back := t.Job.Op == job.Move && store.Kind(t.Job.Target).Traits().Shared
	if view == nil || t.Job.Op != job.Renew && t.Job.Op != job.Show && !back {
		return t.do(ctx)
	}
	home, err := t.open(ctx)
	if err != nil || home == nil || home.Place().Kind.Traits().Shared {
		return t.do(ctx)
	}
	state, err := view.Look(ctx)
	switch {
	case err != nil:
		return t.do(ctx) // there may be a token all the same; show says what is wrong
	case state == store.ViewForeign:
		if r, _, err := claude.Load(ctx); err == nil && !r.RefreshToken.Empty() && (view.Known() || !t.another(ctx, home, r)) {
			if err := t.adopt(ctx, home, claude, view); err != nil {
				o := renewal.Outcome{Result: t.About(home)}
				if o.Withheld = !renewal.Alive(r); !o.Withheld { // whoever has signed in there is served, and nobody else
					o.Result, o.Judged = t.Describe(home, r, store.Version{}), true
				}
				return o.WithError(err)
			}
		}
	case state == store.ViewGone:
		if t.Job.Op == job.Show || store.FolderThere(claude.Place()) != nil {
			break
		}
		gone := !renewal.ComesBack(ctx, claude, protocol.ErrNotFound)
		switch {
		case gone && back:
			t.obeySignOut(ctx, home, view)
		case gone:
			return t.obeySignOut(ctx, home, view)
		default:
			return t.guarded(ctx)
		}
	}
	return t.do(ctx)
}

// another reports whether a store holds another sign-in than r, and one that still serves. Where Claude Code's file never was a
// view of it, nobody can tell which of the two is meant: the person says so with --force, or by signing in.
func (t *task) another(ctx context.Context, home store.Store, r store.Record) bool {
	stored, _, err := home.Load(ctx)
	return err == nil && stored.Serves(time.Now()) && !sameSignIn(stored, r)
}

// adopt takes over a sign-in that Claude Code has written where the view was. It saves the record in our store first, and then
// writes the view over it; whoever is killed in between adopts it once more. Claude Code's lock is held meanwhile, because a
// session of it may be renewing this very sign-in where no agent has run for long.
func (t *task) adopt(ctx context.Context, home store.Store, claude *store.ClaudeCode, view *store.View) error {
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	theirs, err := claude.Lock(waiting)
	if err != nil {
		return err
	}
	defer theirs.Release()
	lock, err := home.Lock(waiting)
	if err == nil {
		defer lock.Release()
	} else if !errors.Is(err, protocol.ErrNotFound) {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := store.Recover(ctx, t.settings.StateDir, home); err != nil && !errors.Is(err, store.ErrMissing) {
		return err
	}
	r, found, err := claude.Load(ctx)
	if err != nil || r.RefreshToken.Empty() {
		return nil // it is gone meanwhile; the next job judges what is there now
	}
	history := store.NewHistory(t.settings.StateDir, home)
	_, spent := history.Replaces(ctx, r.RefreshToken)
	stored, version, err := home.Load(ctx)
	switch {
	case err == nil && renewal.Same(stored, r):
		r = stored
	case err == nil && spent: // an old copy, from a backup or from a session that had it in memory: it is no new sign-in
		r = stored
		t.NoteRepair(view.Place())
	case spent:
		return nil
	case err == nil, errors.Is(err, protocol.ErrNotFound), errors.Is(err, store.ErrMissing):
		if r.TokenOrigin, err = t.bind(r); err != nil {
			return err
		}
		if err := t.MayAdopt(ctx, home, r); err != nil {
			return err
		}
		r.Kind, r.SignIn = t.KindOf(r), renewal.NewSignIn()
		if !stored.IsStub() { // it gives way, and is not lost
			history.Keep(ctx, stored, false, time.Now())
		}
		if _, err := home.Save(ctx, r, version); err != nil {
			return err
		}
		history.Keep(ctx, r, false, time.Now())
		t.Job.Record = protocol.Secret{} // what the agent held is of the sign-in before
	default:
		return err
	}
	t.adopted = found
	if r.AccessToken.Empty() {
		return nil // the view is written with the first one
	}
	// If somebody has written once more meanwhile, the next job adopts that.
	if err := view.Replace(ctx, r, found); err != nil && !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// obeySignOut removes the record because Claude Code has signed out. It can be restored, and the provider is told nothing. Where
// the store can't be reached, nothing is served either, and the record is removed by a later job.
func (t *task) obeySignOut(ctx context.Context, home store.Store, view *store.View) renewal.Outcome {
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	o := renewal.Outcome{Result: t.About(home), Err: t.signedOut(view.Place().Location)}
	o.Withheld = true
	lock, err := home.Lock(waiting)
	if err == nil {
		defer lock.Release()
	} else if !errors.Is(err, protocol.ErrNotFound) {
		return o
	}
	ctx = context.WithoutCancel(ctx)
	store.Recover(ctx, t.settings.StateDir, home)
	r, version, err := home.Load(ctx)
	if err == nil {
		history := store.NewHistory(t.settings.StateDir, home)
		history.Keep(ctx, r, false, time.Now())
		history.SignOut(ctx)
	}
	if err == nil || errors.Is(err, store.ErrMissing) {
		err = home.Delete(ctx, version)
	}
	if err == nil || errors.Is(err, protocol.ErrNotFound) {
		if view.Forget() == nil {
			o.Finding = renewal.SignedOut
		}
	}
	return o
}

// rewrite writes the view over a file that can't be read, because a program was killed while it wrote in place. It waits first
// for one that is still writing.
func (t *task) rewrite(ctx context.Context, view view, o *renewal.Outcome) error {
	if renewal.ComesBack(ctx, view.claude, protocol.ErrInvalid) {
		err := view.Write(ctx, visible(o.Result))
		if errors.Is(err, store.ErrConflict) {
			err = t.reguard(ctx, view, o)
		}
		return err
	}
	if _, err := view.Look(ctx); !t.MayRepair() {
		return err
	}
	if err := view.Restore(ctx, visible(o.Result)); err != nil {
		return err
	}
	t.NoteRepair(view.Place())
	t.copied = renewal.NoteCopied(view.Copied())
	return nil
}

// reguard writes the view over what a session of Claude Code has made of it that has no refresh token either: the stub of a
// lost race, or an access token of ours, perhaps an earlier one that it had in memory. Anything else is left alone.
func (t *task) reguard(ctx context.Context, view view, o *renewal.Outcome) error {
	found, version, err := view.claude.Load(ctx)
	stub := errors.Is(err, protocol.ErrLoginRequired)
	shown := found.AccessToken.Reveal() == o.Result.Token.Reveal() || view.Showed(found.AccessToken)
	ours := err == nil && found.RefreshToken.Empty() && shown
	if !stub && !ours && (err != nil || !view.guards || version != t.adopted) {
		return store.ErrConflict
	}
	if account := t.claudeAccount(); stub && view.guards && account != "" {
		// Emptied while no agent ran, it may have been another person's sign-in.
		asking, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		if who, err := t.inquire(asking, visible(o.Result)); err == nil && who.Account != "" && who.Account != account {
			return store.ErrConflict
		}
	}
	err = view.Replace(ctx, visible(o.Result), version)
	if err == nil && stub {
		t.NoteRepair(view.Place())
	}
	return err
}

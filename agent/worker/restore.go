package worker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// entry describes an earlier sign-in without its secrets.
func (t *task) entry(p store.Past, current store.Record) protocol.PastSignIn {
	i := p.Record.Identity
	past := protocol.PastSignIn{
		ID: p.ID(), Saved: p.Saved, Expiry: p.Record.Expiry, Account: cmp.Or(i.Email, i.Account, i.Name),
		Renewable: !p.Record.RefreshToken.Empty() && !p.Spent, Current: renewal.Same(p.Record, current),
	}
	if _, err := p.Restorable(time.Now()); err != nil {
		past.Problem = err.Error()
	}
	return past
}

func noHistory() error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "store memory keeps nothing of earlier sign-ins"}
}

// restore brings an earlier sign-in back. The one in force is kept in its place. A refresh token that is known to be spent is
// left out: sending it once more can revoke the whole sign-in.
func (t *task) restore(ctx context.Context) renewal.Outcome {
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	if st == nil {
		return renewal.Outcome{Err: noHistory()}
	}
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	ctx = context.WithoutCancel(ctx)
	history := store.NewHistory(t.settings.StateDir, st)
	copied := store.Overwrite(t.settings.StateDir, st)
	s, err := t.Take(waiting, st)
	switch {
	case err == nil:
		if store.Broken(s.Blocked) { // the record that the agent holds is written over it first, and then the restored one
			s.Version, s.Blocked = store.Version{}, nil
		}
		if o := t.backUp(ctx, history, &s); o.Err != nil {
			return s.End(o)
		}
	case renewal.Replaceable(err), store.Broken(err): // no record that serves: the usual reason to restore one
		lock, lockErr := st.Lock(waiting)
		if lockErr != nil && !errors.Is(lockErr, protocol.ErrNotFound) {
			return renewal.Outcome{Result: t.About(st), Err: lockErr}
		}
		s.Store, s.Lock, s.Unsaved = st, lock, false
	default:
		return renewal.Outcome{Result: t.About(st), Err: err}
	}
	past, err := t.past(ctx, st)
	if err != nil {
		return s.End(renewal.Outcome{Result: t.About(st), Err: err})
	}
	i := slices.IndexFunc(past, func(p store.Past) bool { return p.ID() == t.Job.PastID })
	if i < 0 {
		return s.End(renewal.Outcome{Result: t.About(st), Err: &protocol.Error{Code: protocol.CodeNotFound,
			Message: "no earlier sign-in has the id " + t.Job.PastID, Hint: "see them with: ccagent restore -p " + t.Job.Profile}})
	}
	if renewal.Same(past[i].Record, s.Record) {
		o := t.Keep(ctx, s)
		o.Result.Notice = "it is in force already"
		return s.End(o)
	}
	record, err := past[i].Restorable(time.Now())
	if err != nil {
		return s.End(renewal.Outcome{Result: t.About(st), Err: err})
	}
	if err := t.OtherHome(ctx, st, record); err != nil {
		return s.End(renewal.Outcome{Result: t.About(st), Err: err})
	}
	version, err := st.Save(ctx, record, s.Version)
	if err != nil {
		return s.End(renewal.Outcome{Result: t.About(st), Err: err})
	}
	s.Record, s.Version = record, version
	o := t.Keep(ctx, s)
	store.DropSetAside(t.settings.StateDir, st, record) // where that fails, the list has a line too many
	if o.Err == nil {
		o.Result.Notice = renewal.NoteCopied(copied.Path())
	}
	return s.End(o)
}

// past are the earlier sign-ins that can be brought back: those of the history, and what was set aside because another program's
// record had taken its place.
func (t *task) past(ctx context.Context, st store.Store) ([]store.Past, error) {
	past, err := store.NewHistory(t.settings.StateDir, st).List(ctx)
	kept, keptErr := store.SetAside(ctx, t.settings.StateDir, st)
	for _, k := range kept {
		if !slices.ContainsFunc(past, func(p store.Past) bool { return p.ID() == k.ID() }) {
			past = append(past, k)
		}
	}
	return past, cmp.Or(err, keptErr)
}

// backUp sees to it that the record in force is stored and in the history before another takes its place. A worker that saved it
// may have been killed before it told the history, which then has an earlier record that is not known to be spent.
func (t *task) backUp(ctx context.Context, history *store.History, s *renewal.State) renewal.Outcome {
	if s.Unsaved {
		o := t.Keep(ctx, *s)
		if o.Err != nil {
			return o
		}
		s.Version, s.Unsaved = store.Version(o.Result.Version), false
	}
	if err := history.Keep(ctx, s.Record, true, time.Now()); err != nil {
		return renewal.Outcome{Result: t.About(s.Store), Err: err}
	}
	return renewal.Outcome{}
}

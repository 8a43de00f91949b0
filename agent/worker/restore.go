package worker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// entry describes an earlier sign-in without its secrets.
func (e *errand) entry(p store.Past, current store.Record) protocol.PastSignIn {
	i := p.Record.Identity
	past := protocol.PastSignIn{
		ID: p.ID(), Saved: p.Saved, Expiry: p.Record.Expiry, Account: cmp.Or(i.Email, i.Account, i.Name),
		Renewable: !p.Record.RefreshToken.Empty() && !p.Spent, Current: same(p.Record, current),
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
func (e *errand) restore(ctx context.Context) outcome {
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		return outcome{err: noHistory()}
	}
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	ctx = context.WithoutCancel(ctx)
	history := store.NewHistory(e.settings.StateDir, st)
	copied := store.Overwrite(e.settings.StateDir, st)
	s, err := e.lockAndSettle(waiting, st)
	switch {
	case err == nil:
		if store.Broken(s.blocked) { // what the agent holds comes in the place of it, and then what is asked for
			s.version, s.blocked = store.Version{}, nil
		}
		if o := e.backUp(ctx, history, &s); o.err != nil {
			return s.end(o)
		}
	case replaceable(err), store.Broken(err): // what it is there for
		lock, lockErr := st.Lock(waiting)
		if lockErr != nil && !errors.Is(lockErr, protocol.ErrNotFound) {
			return outcome{result: e.about(st), err: lockErr}
		}
		s.st, s.lock, s.unsaved = st, lock, false
	default:
		return outcome{result: e.about(st), err: err}
	}
	past, err := e.past(ctx, st)
	if err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	i := slices.IndexFunc(past, func(p store.Past) bool { return p.ID() == e.job.PastID })
	if i < 0 {
		return s.end(outcome{result: e.about(st), err: &protocol.Error{Code: protocol.CodeNotFound,
			Message: "no earlier sign-in has the id " + e.job.PastID, Hint: "see them with: ccagent restore -p " + e.job.Profile}})
	}
	if same(past[i].Record, s.record) {
		o := e.keep(ctx, s)
		o.result.Notice = "it is in force already"
		return s.end(o)
	}
	record, err := past[i].Restorable(time.Now())
	if err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	if err := e.otherHome(ctx, st, record); err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	version, err := st.Save(ctx, record, s.version)
	if err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	s.record, s.version = record, version
	o := e.keep(ctx, s)
	store.DropSetAside(e.settings.StateDir, st, record) // to fail at it costs a line in the list
	if o.err == nil {
		o.result.Notice = noteCopied(copied.Path())
	}
	return s.end(o)
}

// noteCopied tells where what was broken is kept, "" where nothing was.
func noteCopied(path string) string {
	if path == "" {
		return ""
	}
	return "what was there could not be read, and is kept in " + path
}

// past are the earlier sign-ins that can be brought back: those of the history, and what was set aside because another program's
// record had taken its place.
func (e *errand) past(ctx context.Context, st store.Store) ([]store.Past, error) {
	past, err := store.NewHistory(e.settings.StateDir, st).List(ctx)
	kept, keptErr := store.SetAside(ctx, e.settings.StateDir, st)
	for _, k := range kept {
		if !slices.ContainsFunc(past, func(p store.Past) bool { return p.ID() == k.ID() }) {
			past = append(past, k)
		}
	}
	return past, cmp.Or(err, keptErr)
}

// backUp sees to it that the record in force is stored and in the history before another takes its place. Whoever saved it may
// have been killed before it was there: then its own predecessor stands there, and is not known to be spent.
func (e *errand) backUp(ctx context.Context, history *store.History, s *state) outcome {
	if s.unsaved {
		o := e.keep(ctx, *s)
		if o.err != nil {
			return o
		}
		s.version, s.unsaved = store.Version(o.result.Version), false
	}
	if err := history.Keep(ctx, s.record, true, time.Now()); err != nil {
		return outcome{result: e.about(s.st), err: err}
	}
	return outcome{}
}

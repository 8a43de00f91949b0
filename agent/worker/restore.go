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
	s, err := e.lockAndSettle(ctx, st)
	switch {
	case err == nil:
	case replaceable(err): // what it is there for
		lock, lockErr := st.Lock(ctx)
		if lockErr != nil && !errors.Is(lockErr, protocol.ErrNotFound) {
			return outcome{result: e.about(st), err: lockErr}
		}
		s.st, s.lock, s.unsaved = st, lock, false
	default:
		return outcome{result: e.about(st), err: err}
	}
	ctx = context.WithoutCancel(ctx)
	history := store.NewHistory(e.settings.StateDir, st)
	past, err := history.List(ctx)
	if err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	i := slices.IndexFunc(past, func(p store.Past) bool { return p.ID() == e.job.PastID })
	if i < 0 {
		return s.end(outcome{result: e.about(st), err: &protocol.Error{Code: protocol.CodeNotFound, Message: "no earlier sign-in has the id " + e.job.PastID,
			Hint: "see them with: ccagent restore -p " + e.job.Profile}})
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
	if s.unsaved { // newer than all that is kept: it must not be lost to an older one
		o := e.keep(ctx, s)
		if s.unsaved = !o.result.Saved; s.unsaved {
			return s.end(o)
		}
		s.version = store.Version(o.result.Version)
	}
	version, err := st.Save(ctx, record, s.version)
	if err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	s.record, s.version = record, version
	return s.end(e.keep(ctx, s))
}

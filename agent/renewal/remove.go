package renewal

import (
	"context"
	"errors"
	"strings"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Remove deletes what is stored, with all that is remembered of it. Where nothing is stored it succeeds. For a Logout it has the
// provider revoke the sign-in as well ([Revoker]); the record is deleted whether or not that succeeds.
func (t *Task) Remove(ctx context.Context, st store.Store) Outcome {
	switch {
	case t.Source != "":
		return Outcome{Finding: Absent}
	case st == nil:
		o := Outcome{Result: t.About(nil), Finding: Absent}
		if record, err := t.Held(); err == nil {
			o.Result.Notice = t.revoke(ctx, record)
		}
		return o
	}
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	lock, err := st.Lock(waiting)
	switch {
	case err == nil:
		defer lock.Release()
	case !errors.Is(err, protocol.ErrNotFound):
		return Outcome{Result: t.About(st), Err: err}
	}
	return t.removeLocked(ctx, st)
}

func (t *Task) removeLocked(ctx context.Context, st store.Store) Outcome {
	o := Outcome{Result: t.About(st)}
	var spilled *store.Unsaved
	var err error
	if t.StateDir != "" {
		if spilled, err = store.Recover(ctx, t.StateDir, st); errors.Is(err, protocol.ErrInvalid) { // a later version's, or corrupt
			return o.WithError(err)
		}
	}
	record, version, err := st.Load(ctx)
	missing := errors.Is(err, store.ErrMissing)
	there := err == nil || errors.Is(err, protocol.ErrLoginRequired) || missing
	if !there && !errors.Is(err, protocol.ErrNotFound) {
		return o.WithError(unchanged(err)) // it can't be deleted now, so nothing of it is
	}
	if there { // before all else: where this fails, nobody is signed out
		if err := st.Delete(ctx, version); err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return o.WithError(unchanged(err))
		}
	}
	o.Removed = record
	var forgotten error
	if t.StateDir != "" {
		forgotten = store.Forget(ctx, t.StateDir, st)
	}
	switch held, heldErr := t.Held(); { // newer than what is stored is what is unsaved
	case heldErr == nil:
		o.Result.Notice = t.revoke(ctx, held)
	case spilled != nil:
		o.Result.Notice = t.revoke(ctx, spilled.Record)
	case err == nil:
		o.Result.Notice = t.revoke(ctx, record)
	case missing:
		o.Result.Notice = err.Error() + ": nothing was revoked, and where it is it counts as deleted"
	}
	if t.StateDir != "" {
		store.NewHomes(t.StateDir).Leave(t.Job.Profile) // a home without its record counts for nothing
	}
	o.Finding = Absent
	if forgotten != nil {
		o.Finding = SignedOut
		return o.WithError(&protocol.Error{Code: protocol.CodeOf(forgotten),
			Message: "the sign-in is deleted, but not what is kept of earlier ones: " + forgotten.Error(),
			Hint:    strings.TrimPrefix(protocol.HintOf(forgotten)+"\nonce that is put right, the same command deletes the rest", "\n")})
	}
	return o
}

// revoke tells the provider that a sign-in has ended, where that is wanted.
func (t *Task) revoke(ctx context.Context, r store.Record) (notice string) {
	if revoker, ok := t.Provider.(Revoker); ok && t.Job.Op == job.Logout && !t.Job.KeepRemote {
		return revoker.Revoke(ctx, r)
	}
	return ""
}

// unchanged is an error of a job that has done nothing yet.
func unchanged(err error) error {
	return &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error() + "; nothing was changed", Hint: protocol.HintOf(err)}
}

package worker

import (
	"context"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/store"
)

// remove deletes what is stored, and what is ccagent's own memory of it.
func (e *errand) remove(ctx context.Context) renewal.Outcome {
	st, err := e.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	o := e.Remove(ctx, st)
	if o.Finding == renewal.Unknown || !e.traits().Stored { // nothing was removed
		return o
	}
	if st != nil {
		e.forgetIdentity()
		// What an interrupted move has left would be found by whoever uses the profile next.
		e.sweep(ctx, st, func(copied store.Record) bool { return e.Job.Op == job.Delete || sameSignIn(copied, o.Removed) })
	}
	e.forget()
	return o
}

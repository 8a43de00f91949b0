package worker

import (
	"context"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/store"
)

// remove deletes what is stored, and what is ccagent's own memory of it.
func (t *task) remove(ctx context.Context) renewal.Outcome {
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	o := t.Remove(ctx, st)
	if o.Finding == renewal.Unknown || !t.traits().Stored { // nothing was removed
		return o
	}
	if st != nil {
		t.forgetIdentity()
		// What an interrupted move has left would be found by whoever uses the profile next.
		t.sweep(ctx, st, func(copied store.Record) bool { return t.Job.Op == job.Delete || sameSignIn(copied, o.Removed) })
	}
	t.forget()
	return o
}

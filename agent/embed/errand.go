package embed

import (
	"context"
	"errors"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// errand is one job under way. It makes a program's provider one of package renewal, and is the setting of the task.
type errand struct {
	renewal.Task
	provider Provider
	store    store.Store
	others   map[string]Profile
	handOver func(job.Result)
}

func newErrand(r *Runner, p Profile, j job.Job, handOver func(job.Result)) *errand {
	e := &errand{provider: p.Provider, store: p.Store, others: r.Profiles, handOver: handOver}
	e.Task = renewal.Task{Job: j, Provider: e, Setting: e, StateDir: r.StateDir, Token: protocol.KindBearer, FromNothing: true}
	return e
}

func (e *errand) do(ctx context.Context) renewal.Outcome {
	switch e.Job.Op {
	case job.Renew:
		return e.Task.Renew(ctx, e.store)
	case job.Save:
		return e.Save(ctx, e.store)
	case job.Put:
		return e.put(ctx)
	case job.Delete, job.Logout:
		return e.Remove(ctx, e.store)
	case job.Identify:
		return e.identify(ctx)
	case job.Spill:
		return e.Spill(ctx, e.store)
	}
	return renewal.Outcome{
		Err: &protocol.Error{Code: protocol.CodeInternal, Message: "the agent asks for a job that is not known here"},
	}
}

func (e *errand) put(ctx context.Context) renewal.Outcome {
	record, err := e.Held()
	if err == nil && record.IsStub() {
		err = &protocol.Error{Code: protocol.CodeInvalid, Message: "there is no token in the record"}
	}
	if err != nil {
		return renewal.Outcome{Result: e.About(e.store), Err: err}
	}
	return e.Put(ctx, e.store, record)
}

// identify says who is signed in.
func (e *errand) identify(ctx context.Context) renewal.Outcome {
	s, err := e.Current(ctx, e.store)
	o := renewal.Outcome{Result: e.About(e.store), Err: err}
	if err != nil {
		return o
	}
	provider, ok := e.provider.(Identifier)
	switch {
	case ok:
		o.Result.Identity, o.Err = provider.Identify(ctx, s.Record)
	case e.Job.Check:
		o.Err = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider can't be asked whether the token is good"}
	default:
		o.Result.Identity = s.Record.Identity
	}
	return o
}

// lookAgain sees to it that a job that failed leaves no token to be served but one of the sign-in that the store holds.
func (e *errand) lookAgain(ctx context.Context, o *renewal.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, renewal.LookTime)
	defer cancel()
	e.Withhold(ctx, e.store, o)
}

// explain makes an error what crosses to the agent.
func (e *errand) explain(err error) *protocol.Error {
	out := renewal.Condition(err)
	var problem *renewal.Problem
	if errors.As(err, &problem) && problem.Reason == renewal.CopyOfAnother {
		out.Hint = "sign in anew for profile " + e.Job.Profile
	}
	return out
}

// Prepare has nothing to find out: a program's provider does all of it at once.
func (e *errand) Prepare(_ context.Context, old store.Record) (renewal.Request, error) {
	return renewal.Request{Spends: !old.RefreshToken.Empty(), Send: func(ctx context.Context) (store.Record, error) {
		r, err := e.provider.Renew(ctx, old)
		var answer renewal.Answer
		if err != nil && !errors.As(err, &answer) { // whoever is behind the provider was asked
			err = &Answer{Err: err}
		}
		return r, err
	}}, nil
}

// Revoke ends a sign-in, where the provider can do that.
func (e *errand) Revoke(ctx context.Context, r store.Record) (notice string) {
	revoker, ok := e.provider.(Revoker)
	if !ok || r.IsStub() {
		return ""
	}
	if err := revoker.Revoke(ctx, r); err != nil {
		return "it could not be revoked: " + err.Error()
	}
	return ""
}

// The setting of the task. The agent is in the same process, so it needs not be told that a provider is being asked.

func (e *errand) Asking() {}

func (e *errand) HandOver(r job.Result) { e.handOver(r) }

func (e *errand) Rests(store.Store) {}

// Missing declines: it is the provider who may know what to do about a store without tokens.
func (e *errand) Missing(context.Context, store.Store, store.Version, error) (renewal.Outcome, bool) {
	return renewal.Outcome{}, false
}

// Holds looks into the store of another profile of this program. One that the program does not have any more holds nothing.
func (e *errand) Holds(ctx context.Context, home store.Home, r store.Record) bool {
	p, ok := e.others[home.Profile]
	if !ok || p.Store == nil {
		return false
	}
	there, _, err := p.Store.Load(ctx)
	return err == nil && store.SameSignIn(there, r)
}

package embed

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// task is a job under way: the engine's Task, and a program's provider and store for it. It is the Provider and the Setting of
// that Task.
type task struct {
	renewal.Task
	provider Provider
	store    store.Store
	others   map[string]Profile
	handOver func(job.Result)
}

func newTask(r *Runner, p Profile, j job.Job, handOver func(job.Result)) *task {
	t := &task{provider: p.Provider, store: p.Store, others: r.Profiles, handOver: handOver}
	t.Task = renewal.Task{Job: j, Provider: t, Setting: t, StateDir: r.StateDir, Token: protocol.KindBearer, FromNothing: true}
	return t
}

func (t *task) do(ctx context.Context) renewal.Outcome {
	switch t.Job.Op {
	case job.Renew:
		return t.Task.Renew(ctx, t.store)
	case job.Save:
		return t.Save(ctx, t.store)
	case job.Put:
		return t.put(ctx)
	case job.Delete, job.Logout:
		return t.Remove(ctx, t.store)
	case job.Identify:
		return t.identify(ctx)
	case job.Spill:
		return t.Spill(ctx, t.store)
	case job.Derive:
		return t.derive(ctx)
	}
	return renewal.Outcome{
		Err: &protocol.Error{Code: protocol.CodeInternal, Message: "the agent asks for a job that is not known here"},
	}
}

func (t *task) put(ctx context.Context) renewal.Outcome {
	record, err := t.Held()
	if err == nil && record.IsStub() {
		err = &protocol.Error{Code: protocol.CodeInvalid, Message: "there is no token in the record"}
	}
	if err != nil {
		return renewal.Outcome{Result: t.About(t.store), Err: err}
	}
	return t.Put(ctx, t.store, record)
}

// identify says who is signed in.
func (t *task) identify(ctx context.Context) renewal.Outcome {
	s, err := t.Current(ctx, t.store)
	o := renewal.Outcome{Result: t.About(t.store), Err: err}
	if err != nil {
		return o
	}
	provider, ok := t.provider.(Identifier)
	switch {
	case ok:
		o.Result.Identity, o.Err = provider.Identify(ctx, s.Record)
	case t.Job.Check:
		o.Err = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider can't be asked whether the token is good"}
	default:
		o.Result.Identity = s.Record.Identity
	}
	return o
}

// derive brings another token of the sign-in than its access token.
func (t *task) derive(ctx context.Context) renewal.Outcome {
	s, err := t.Current(ctx, t.store)
	o := renewal.Outcome{Result: t.About(t.store), Err: err}
	if err != nil {
		return o
	}
	if t.Job.Derived.IDToken {
		o.Result, o.Err = t.IDToken(o.Result, s.Record, true)
		return o
	}
	deriver, ok := t.provider.(Deriver)
	if !ok {
		return o.WithError(&protocol.Error{Code: protocol.CodeConfig,
			Message: "the provider of profile " + t.Job.Profile + " gives no token for another scope or audience"})
	}
	issued := time.Now()
	token, err := deriver.Derive(ctx, s.Record, t.Job.Derived)
	o.Result.Token, o.Result.Kind = token.Value, cmp.Or(token.Kind, protocol.KindBearer)
	o.Result.Expiry, o.Result.Issued = token.Expiry, issued
	o.Result.Notice = token.Notice
	return o.WithError(err)
}

// lookAgain is the last step of a job: see [renewal.Task.Withhold].
func (t *task) lookAgain(ctx context.Context, o *renewal.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, renewal.LookTime)
	defer cancel()
	t.Withhold(ctx, t.store, o)
}

// explain returns an error in the form in which it is sent to the agent.
func (t *task) explain(err error) *protocol.Error {
	out := renewal.Condition(err)
	var problem *renewal.Problem
	if errors.As(err, &problem) && problem.Reason == renewal.CopyOfAnother {
		out.Hint = "sign in anew for profile " + t.Job.Profile
	}
	return out
}

// Prepare has nothing to find out, because a program's provider does all at once.
func (t *task) Prepare(_ context.Context, old store.Record) (renewal.Request, error) {
	return renewal.Request{Spends: !old.RefreshToken.Empty(), Send: func(ctx context.Context) (store.Record, error) {
		r, err := t.provider.Renew(ctx, old)
		var answer renewal.Answer
		if err != nil && !errors.As(err, &answer) { // whoever is behind the provider was asked
			err = &Answer{Err: err}
		}
		return r, err
	}}, nil
}

// Revoke ends a sign-in, where the provider can do that.
func (t *task) Revoke(ctx context.Context, r store.Record) (notice string) {
	revoker, ok := t.provider.(Revoker)
	if !ok || r.IsStub() {
		return ""
	}
	if err := revoker.Revoke(ctx, r); err != nil {
		return "it could not be revoked: " + err.Error()
	}
	return ""
}

// The setting of the task. The agent is in the same process, so it need not be told that a provider is being asked.

func (t *task) Asking() {}

func (t *task) HandOver(r job.Result) { t.handOver(r) }

func (t *task) Rests(store.Store) {}

// Missing declines: it is the provider who may know what to do about a store without tokens.
func (t *task) Missing(context.Context, store.Store, store.Version, error) (renewal.Outcome, bool) {
	return renewal.Outcome{}, false
}

// Holds looks into the store of another profile of this program. One that the program does not have any more holds nothing.
func (t *task) Holds(ctx context.Context, home store.Home, r store.Record) bool {
	p, ok := t.others[home.Profile]
	if !ok || p.Store == nil {
		return false
	}
	there, _, err := p.Store.Load(ctx)
	return err == nil && store.SameSignIn(there, r)
}

// Package worker does one job for one profile of ccagent, and is gone. It runs in a process of its own (`ccagent worker`,
// started by the agent), which [Run] is the whole of.
//
// What a renewal is, and what keeps a sign-in from being lost in one, is in package renewal. This package has what is ccagent's
// own about it: where a profile's record rests, the kinds of provider, what Claude Code does with the same sign-in, and the words
// for a person.
//
// Run's caller sees to it that the process ignores SIGPIPE: that nobody reads the reports means that the agent is gone, which is
// no reason to leave a renewal half done.
package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Run reads one job from in, does it, and reports to out. build is the version of this binary: a job of another one is
// refused. What becomes of the job is in its reports; the error is that there was no job to read.
//
// Cancelling ctx ends what can be ended without loss: the wait for a lock, a command. A request to a provider that is under
// way, and the save after it, are finished.
func Run(ctx context.Context, in io.Reader, out io.Writer, build string) error {
	j, err := job.ReadJob(in)
	if err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	agent := &pipe{out: out}
	if j.Build != build {
		agent.report(job.Report{Kind: job.Done, Err: &protocol.Error{
			Code:    protocol.CodeUnavailable,
			Message: fmt.Sprintf("the agent is of version %s, its worker of version %s", j.Build, build),
			Hint:    "ccagent was upgraded under a running agent; end it, the next request starts the new one: ccagent stop",
		}})
		return nil
	}
	agent.report(job.Report{Kind: job.Hello})
	var settings Settings
	settingsErr := json.Unmarshal(j.Settings, &settings)
	t := newTask(settings, j)
	t.agent = agent
	o := renewal.Outcome{Err: errors.New("the profile's settings can't be read")}
	if settingsErr == nil {
		o = t.guarded(ctx)
	}
	t.finish(context.WithoutCancel(ctx), &o)
	agent.report(o.Report(t.explain(o.Err)))
	return o.Close(!agent.gone)
}

// task is a job under way: the engine's Task, and what is ccagent's own about it. It is the Setting of that Task.
type task struct {
	renewal.Task
	settings Settings
	agent    *pipe
	notice   string        // a line for the person, besides the result's
	copied   string        // where the copy of a broken view is
	adopted  store.Version // what Claude Code had written, and is ours now
	// canRestore says that an earlier sign-in can be restored in the place of the spent copy that is stored.
	canRestore bool
	stranger   bool // the store holds another sign-in than the one whose token was cached, and it brought no token
}

// newTask makes the task of a job. Its reports go nowhere until it is given an agent.
func newTask(s Settings, j job.Job) *task {
	t := &task{settings: s, agent: &pipe{gone: true}}
	if j.Profile == "" {
		j.Profile = s.Name
	}
	traits := s.Provider.Traits()
	t.Task = renewal.Task{Job: j, Setting: t, StateDir: s.StateDir, Name: string(s.Provider), Token: traits.Token}
	t.Provider = providerOf(t)
	if !traits.Stored {
		t.Source = sourceOf(s)
	}
	for _, v := range t.views() {
		t.Watch = append(t.Watch, v.Place().Watch...)
	}
	if s.AssertionFile != "" { // a new one ends the refusal of the one before
		t.Watch = append(t.Watch, s.AssertionFile)
	}
	return t
}

// traits are what the kind of the profile's provider is like.
func (t *task) traits() provider.Traits { return t.settings.Provider.Traits() }

// do does the job. What Claude Code has done meanwhile is the concern of guarded.
func (t *task) do(ctx context.Context) renewal.Outcome {
	switch t.Job.Op {
	case job.Renew:
		return t.inStore(ctx, t.Renew)
	case job.Save:
		return t.inStore(ctx, t.Save)
	case job.Rekey:
		return t.rekey(ctx)
	case job.Put:
		return t.put(ctx)
	case job.Delete, job.Logout:
		return t.remove(ctx)
	case job.Identify:
		return t.identify(ctx)
	case job.Derive:
		return t.derive(ctx)
	case job.Move:
		return t.move(ctx)
	case job.Guard:
		return t.guard(ctx)
	case job.Restore:
		return t.restore(ctx)
	case job.History:
		return t.history(ctx)
	case job.Show:
		return t.restoreViews(ctx)
	case job.Hide:
		return renewal.Outcome{} // show does it
	case job.Unlock:
		return t.unlock(ctx)
	case job.Spill:
		return t.inStore(ctx, t.Spill)
	}
	return renewal.Outcome{Err: fmt.Errorf("unknown job %d", t.Job.Op)}
}

// inStore does something in the profile's store.
func (t *task) inStore(ctx context.Context, do func(context.Context, store.Store) renewal.Outcome) renewal.Outcome {
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	return do(ctx, st)
}

// finish does what is left to do after a job and before its last report.
func (t *task) finish(ctx context.Context, o *renewal.Outcome) {
	if t.traits().Stored && t.Job.Op.Serves() && o.Err != nil {
		t.lookAgain(ctx, o)
	}
	if o.Result.Renewed && store.Kind(o.Result.Store).Traits().Shared {
		t.sameAs(o.Replaced, store.Version(o.Result.Version))
	}
	if t.Job.Op != job.Derive { // what that brings is for whoever asked, and views show the access token
		t.show(ctx, o)
	}
	if t.notice != "" && o.Err == nil {
		o.Result.Notice = strings.TrimPrefix(o.Result.Notice+"; "+t.notice, "; ")
	}
}

// lookAgain looks at the store of a job that failed: what else it holds decides what may be served, and what a person can do.
func (t *task) lookAgain(ctx context.Context, o *renewal.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, renewal.LookTime)
	defer cancel()
	st, err := t.open(ctx)
	if err != nil || st == nil {
		return
	}
	t.stranger = t.Withhold(ctx, st, o)
	var problem *renewal.Problem
	if errors.As(o.Err, &problem) && problem.Reason == renewal.SpentCopy {
		past, _ := t.past(ctx, st)
		t.canRestore = slices.ContainsFunc(past, func(p store.Past) bool { return !p.Spent && !p.Record.RefreshToken.Empty() })
	}
}

// pipe takes reports to the agent.
type pipe struct {
	out  io.Writer
	gone bool // a report could not be written
}

func (p *pipe) report(r job.Report) {
	if !p.gone {
		p.gone = job.WriteReport(p.out, r) != nil
	}
}

// The setting of the task.

func (t *task) Asking() { t.agent.report(job.Report{Kind: job.Asking}) }

func (t *task) HandOver(r job.Result) { t.agent.report(job.Report{Kind: job.HandOver, Result: r}) }

func (t *task) Rests(st store.Store) { t.remember(st) }

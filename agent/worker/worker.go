// Package worker does one job: it joins a store and a provider for as long as that takes, and is gone. It runs in a process
// of its own (`ccagent worker`, started by the agent), which [Run] is the whole of.
//
// A renewal goes: lock the record, load it, adopt it if someone else has written it and it serves, otherwise ask the provider,
// hand the whole new record over to the agent, save it, release. From the provider's answer to the save the record is in two
// processes; when the store refuses it and the agent is gone too, it is left in a spill file that the next job consumes.
//
// Run's caller sees to it that the process ignores SIGPIPE: that nobody reads the reports means that the agent is gone, which is
// no reason to leave a renewal half done.
package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/provider"
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
	e := &errand{job: j, agent: pipe{out: out}}
	if j.Build != build {
		e.agent.report(job.Report{Kind: job.Done, Err: &protocol.Error{
			Code:    protocol.CodeUnavailable,
			Message: fmt.Sprintf("the agent is of version %s, its worker of version %s", j.Build, build),
			Hint:    "ccagent was upgraded under a running agent; end it, the next request starts the new one: ccagent stop",
		}})
		return nil
	}
	e.agent.report(job.Report{Kind: job.Hello})
	o := e.guarded(ctx)
	e.withhold(context.WithoutCancel(ctx), &o)
	e.show(context.WithoutCancel(ctx), &o)
	if e.notice != "" && o.err == nil {
		o.result.Notice = strings.TrimPrefix(o.result.Notice+"; "+e.notice, "; ")
	}
	retryAfter, local := asked(o.err)
	e.agent.report(job.Report{Kind: job.Done, Result: o.result, Err: e.explain(o.err), RetryAfter: retryAfter, Local: local})
	if o.unsaved == nil {
		return nil
	}
	// Whoever takes the lock next must find either an agent that has the record, or the spill file: the refresh token in the
	// store is spent.
	defer o.release()
	if e.agent.gone {
		return o.unsaved()
	}
	return nil
}

// errand is the job under way.
type errand struct {
	job         job.Job
	settings    Settings
	agent       pipe
	notice      string        // a line for the person, besides the result's
	aside       int           // how many records were set aside for a person to judge
	copied      string        // where the copy of a broken view is
	shared      error         // another profile has the sign-in that is in force here
	adopted     store.Version // what Claude Code had written, and is ours now
	forgetful   error         // why the history could not be told of the record
	judgedAgain bool          // what another program wrote during the renewal was judged as well
	stranger    bool          // the store holds another sign-in than the one whose token was in hand, and it brought no token
}

// outcome is what became of a job: the last report's content, and how to keep what neither store nor provider has.
type outcome struct {
	result  job.Result
	err     error
	unsaved func() error // leaves a spill file, once more after it has failed; nil: nothing is left to be kept
	release func()       // lets the record go that unsaved is about
	judged  bool         // the token is of whoever has signed in elsewhere, and is to be served
	theirs  *state       // what somebody else has saved meanwhile, and won with; nil: nothing
}

// but is o with an error that comes first.
func (o outcome) but(err error) outcome {
	o.err = err
	return o
}

// lookTime bounds the last look at the store of a job that failed.
const lookTime = 5 * time.Second

// withhold sees to it that a job that failed leaves no token to be served but one of the sign-in that the store holds: the file
// that the token in hand is from may have made room for another person's. It looks after everything else, so that no way to fail
// can be forgotten. What was renewed just now is of what the store held then; the next request looks again.
func (e *errand) withhold(ctx context.Context, o *outcome) {
	switch e.job.Op {
	case job.Identify, job.History, job.Unlock, job.Spill, job.Delete, job.Logout:
		return
	}
	served := e.job.Lineage
	if !o.result.Token.Empty() {
		served = o.result.Lineage
	}
	if o.err == nil || o.judged || o.result.Renewed || served == "" || !e.traits().Stored {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	st, err := e.open(ctx)
	if err != nil || st == nil || !store.HoldsAnother(ctx, e.settings.StateDir, st, store.ParseLineage(served)) {
		return
	}
	o.result.Token, o.result.Gone, e.stranger = protocol.Secret{}, true, true
}

// traits are what the kind of the profile's provider is like.
func (e *errand) traits() provider.Traits { return e.settings.Provider.Traits() }

func (e *errand) readSettings() error {
	if json.Unmarshal(e.job.Settings, &e.settings) != nil {
		return errors.New("the profile's settings can't be read")
	}
	return nil
}

func (e *errand) do(ctx context.Context) outcome {
	switch e.job.Op {
	case job.Renew:
		return e.renew(ctx)
	case job.Save:
		return e.save(ctx)
	case job.Put:
		return e.put(ctx)
	case job.Delete:
		return e.delete(ctx)
	case job.Logout:
		return e.logout(ctx)
	case job.Identify:
		return e.identify(ctx)
	case job.Move:
		return e.move(ctx)
	case job.Guard:
		return e.guard(ctx)
	case job.Restore:
		return e.restore(ctx)
	case job.History:
		return e.history(ctx)
	case job.Show:
		return e.restoreViews(ctx)
	case job.Unlock:
		return e.unlock(ctx)
	case job.Spill:
		return e.spill(ctx)
	}
	return outcome{err: fmt.Errorf("unknown job %d", e.job.Op)}
}

// pipe is the way to the agent.
type pipe struct {
	out  io.Writer
	gone bool // a report could not be written
}

func (p *pipe) report(r job.Report) {
	if !p.gone {
		p.gone = job.WriteReport(p.out, r) != nil
	}
}

// explain makes an error what crosses to the agent, with a hint for those that a person must mend.
func (e *errand) explain(err error) *protocol.Error {
	if err == nil {
		return nil
	}
	out := &protocol.Error{
		Code:    protocol.CodeOf(err),
		Message: err.Error(),
		Hint:    protocol.HintOf(err),
		Detail:  protocol.DetailOf(err),
	}
	if name := "profile " + e.job.Profile; !strings.Contains(out.Message, name) {
		out.Message = name + ": " + out.Message
	}
	if out.Hint != "" {
		return out
	}
	switch out.Code {
	case protocol.CodeConfig:
		if _, local := asked(err); !local { // the agent asks no more on its own
			out.Hint = "mend it in config.toml or at the provider, then: ccagent refresh -p " + e.job.Profile
			if e.traits().OwnClient { // a new client secret is given in this way too
				out.Hint += "\nif nothing is wrong there, sign in again: ccagent login " + e.job.Profile
			}
		}
	case protocol.CodeNotFound, protocol.CodeLoginRequired, protocol.CodeExpired:
		out.Hint = e.traits().Hint(e.job.Profile)
		if _, local := asked(err); !local && (!dead(err) || e.asksAgain()) && out.Code == protocol.CodeLoginRequired {
			out.Hint += "\nor, once what stood in the way is settled: ccagent refresh -p " + e.job.Profile
		}
	}
	return out
}

// asked says of an error when a provider wants to be asked again, or that none was asked.
func asked(err error) (retryAfter time.Duration, local bool) {
	var failure *oauth.Error
	if errors.As(err, &failure) {
		return failure.RetryAfter, false
	}
	return 0, err != nil
}

// result describes a record where it rests. st is nil for store memory.
func (e *errand) result(st store.Store, r store.Record, v store.Version) job.Result {
	result := e.about(st)
	result.Token, result.Kind, result.Expiry, result.Issued = r.AccessToken, e.kind(r), r.Expiry, r.Issued
	result.Version, result.Lineage = job.Version(v), r.Lineage().String()
	result.Subscription, result.Scopes = r.Subscription, r.Scopes
	return result
}

// about is a result that says no more than where the record would rest.
func (e *errand) about(st store.Store) job.Result {
	r := job.Result{Provider: string(e.settings.Provider), Store: string(store.KindMemory), Location: "the agent's memory"}
	if st != nil {
		place := st.Place()
		r.Store, r.Location, r.Watch = string(place.Kind), place.Location, place.Watch
	}
	for _, v := range e.views() {
		r.Watch = append(r.Watch, v.Place().Watch...)
	}
	if e.settings.AssertionFile != "" { // a new one ends the refusal of the one before
		r.Watch = append(r.Watch, e.settings.AssertionFile)
	}
	return r
}

// kind is what the token says itself that it is, else what the record says, else what its provider hands out.
func (e *errand) kind(r store.Record) protocol.Kind {
	return protocol.KindOf(r.AccessToken, cmp.Or(r.Kind, e.traits().Token))
}

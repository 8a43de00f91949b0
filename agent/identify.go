package agent

import (
	"context"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// Identify implements [protocol.Agent]. The question is a job beside the profile's others, and no other job waits for it,
// because it may take a provider half a minute to say who somebody is. It needs a token that lives, so a dead one is
// renewed first.
func (a *Agent) Identify(ctx context.Context, req protocol.IdentifyRequest) (protocol.Identity, error) {
	a.noteActivity()
	if err := a.lockedError(); err != nil {
		return protocol.Identity{}, err
	}
	e, err := a.entryToServe(ctx, req.Profile, req.Home)
	if err != nil {
		return protocol.Identity{}, err
	}
	if _, err := e.token(ctx, protocol.TokenRequest{}); err != nil {
		return protocol.Identity{}, err
	}
	e.lastUsed.Store(a.now().Unix())
	run, identity := e.identifyJob(req)
	if run == nil {
		return identity, nil
	}
	select {
	case <-run.done:
	case <-ctx.Done():
		return protocol.Identity{}, waitError(ctx, e.name())
	}
	if run.err != nil {
		return protocol.Identity{}, run.err
	}
	return run.result.Identity, nil
}

// identifyJob returns the job that finds out who is signed in. While no store has the record to keep the answer with, it returns
// the last answer instead.
func (e *entry) identifyJob(req protocol.IdentifyRequest) (*jobRun, protocol.Identity) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !req.Refresh && !req.Check && !e.record.Empty() && e.identity != nil {
		return nil, *e.identity
	}
	// The job under way does not answer where another sign-in is in force by now.
	if run := e.identifying; run != nil && run.job.Force == req.Refresh && run.job.Check == req.Check &&
		run.job.Lineage == e.lineage {
		return run, protocol.Identity{}
	}
	run := &jobRun{
		done: make(chan struct{}),
		job:  e.fillLocked(job.Job{Op: job.Identify, Force: req.Refresh, Check: req.Check}),
	}
	if cached := e.cached.Load(); cached != nil {
		if t, err := cached.token(); err == nil {
			run.job.Token = t.Value
		}
	}
	e.identifying = run
	e.agent.work.Go(func() {
		report, err := e.agent.opts.Runner.Run(context.Background(), run.job, func(job.Result) {})
		if err != nil {
			report.Err = asError(err)
		}
		e.finishIdentify(run, report)
	})
	return run, protocol.Identity{}
}

// finishIdentify takes the answer. It may be about a record that is gone by now, so it is kept only if memory has the same record
// still.
func (e *entry) finishIdentify(run *jobRun, report job.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	run.result, run.err = report.Result, report.Err
	run.result.Identity.Profile = e.name()
	if e.identifying == run {
		e.identifying = nil
	}
	if run.err == nil && !e.record.Empty() && e.record.Reveal() == run.job.Record.Reveal() {
		e.identity = nil
		if identity := run.result.Identity; !identity.Fetched.IsZero() {
			e.identity = &identity
		}
	}
	close(run.done)
}

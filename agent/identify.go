package agent

import (
	"context"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// Identify implements [protocol.Agent]. The question is a job beside the profile's others, and no other job waits for it: it
// may take the provider half a minute to say who somebody is. What it needs first is a token that lives.
func (a *Agent) Identify(ctx context.Context, req protocol.IdentifyRequest) (protocol.Identity, error) {
	a.noteActivity()
	if err := a.lockedError(); err != nil {
		return protocol.Identity{}, err
	}
	e, err := a.entry(req.Profile, req.Home)
	if err != nil {
		return protocol.Identity{}, err
	}
	if _, err := e.token(ctx, protocol.TokenRequest{}); err != nil {
		return protocol.Identity{}, err
	}
	e.lastUsed.Store(a.now().Unix())
	f, identity := e.identifyJob(req)
	if f == nil {
		return identity, nil
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return protocol.Identity{}, waitError(ctx, e.name())
	}
	if f.err != nil {
		return protocol.Identity{}, f.err
	}
	return f.result.Identity, nil
}

// question returns the job that finds out who is signed in, or what is known while no store has the record to keep it with.
func (e *entry) identifyJob(req protocol.IdentifyRequest) (*jobRun, protocol.Identity) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !req.Refresh && !req.Check && !e.record.Empty() && e.identity != nil {
		return nil, *e.identity
	}
	// A question under way about a sign-in that another has taken the place of is no answer to this one.
	if f := e.identifying; f != nil && f.job.Force == req.Refresh && f.job.Check == req.Check && f.job.Lineage == e.lineage {
		return f, protocol.Identity{}
	}
	f := &jobRun{done: make(chan struct{}), job: e.fillLocked(job.Job{Op: job.Identify, Force: req.Refresh, Check: req.Check})}
	if h := e.cached.Load(); h != nil {
		if t, err := h.token(); err == nil {
			f.job.Token = t.Value
		}
	}
	e.identifying = f
	e.agent.work.Go(func() {
		report, err := e.agent.opts.Runner.Run(context.Background(), f.job, func(job.Result) {})
		if err != nil {
			report.Err = asError(err)
		}
		e.finishIdentify(f, report)
	})
	return f, protocol.Identity{}
}

// answer takes what a question brought. It may be about a record that is gone by now, so it is kept for the one in memory
// alone, if that is still the same.
func (e *entry) finishIdentify(f *jobRun, report job.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.result, f.err = report.Result, report.Err
	f.result.Identity.Profile = e.name()
	if e.identifying == f {
		e.identifying = nil
	}
	if f.err == nil && !e.record.Empty() && e.record.Reveal() == f.job.Record.Reveal() {
		e.identity = nil
		if identity := f.result.Identity; !identity.Fetched.IsZero() {
			e.identity = &identity
		}
	}
	close(f.done)
}

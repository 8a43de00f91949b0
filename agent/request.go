package agent

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// freshRenewal is how long after a successful renewal a forced one is answered by it.
const freshRenewal = 2 * time.Second

// token answers a request: with the cached token, with that of the renewal under way, or with that of a renewal of its own.
func (e *entry) token(ctx context.Context, req protocol.TokenRequest) (*cachedToken, error) {
	for first := true; ; {
		cached, run, err := e.serveOrStart(req)
		if run == nil {
			return cached, err
		}
		if err := run.wait(ctx, e.name()); err != nil {
			return nil, err
		}
		if run.job.Op != job.Renew || req.Force && !run.job.Force && !run.renewed {
			continue // that was another job
		}
		if !bytes.Equal(run.job.Settings, e.profile.Load().Settings) {
			continue // the settings have changed since it began, and may name another store or sign-in
		}
		// A job that failed may have read the files before they were last written. Where their state is not known, as after a
		// profile's first job, its failure counts: to try again at once would be to hammer the provider.
		files := e.snapshot.Load()
		overtaken := run.err != nil && !run.renewed && !files.unknown() && files.changed()
		again := first && (run.rereads || overtaken)
		first = false
		if again {
			continue
		}
		if token, err, ok := run.answer(req, e.agent.now()); ok {
			return token, err
		}
	}
}

// wait waits until the run's token is cached. Where it was cached before, it has been found wanting, and the wait is for the end
// of the job, after which another can begin.
func (run *jobRun) wait(ctx context.Context, profile string) error {
	wait := run.ready
	select {
	case <-run.ready:
		wait = run.done
	default:
	}
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return waitError(ctx, profile)
	}
}

// answer returns what a renewal means for a request that has waited for it. ok is false where the request needs another one.
func (run *jobRun) answer(req protocol.TokenRequest, now time.Time) (token *cachedToken, err error, ok bool) {
	switch {
	case run.err != nil && (req.Force || !run.token.alive(now)):
		return nil, run.err, true
	case run.err == nil && !run.renewed && !run.covers(req) &&
		(run.token == nil || !run.token.fresh(now, req.MinTTL, req.HalfLife)):
		return nil, nil, false
	}
	// What a renewal has just brought is the answer, however short its life is. So is a token that still lives when its renewal has
	// failed, or when a worker that was asked for the same found nothing to do.
	if !run.token.alive(now) {
		return nil, deadToken(), true
	}
	return run.token, nil, true
}

// deadToken is the error of a token that has expired already when the provider brings it.
func deadToken() *protocol.Error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "the provider's new token is already expired by this machine's clock",
		Hint:    "compare the machine's date and time with the real ones",
	}
}

// serveOrStart returns what a request gets at once, a token or an error, or the job that it must wait for.
func (e *entry) serveOrStart(req protocol.TokenRequest) (*cachedToken, *jobRun, error) {
	now := e.agent.now()
	if cached := e.cached.Load(); cached == nil || req.Force || !cached.fresh(now, req.MinTTL, req.HalfLife) {
		e.agent.reloadIfChanged() // a renewal goes by the settings as they are now
	}
	files := e.snapshot.Load()
	changed := files.changed() // before the mutex is locked, because it may take its time
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.droppedLocked() {
		return nil, nil, noProfile(e.name())
	}
	cached := e.cached.Load()
	// serves: the cached token answers, unless the files say that another one is stored.
	force, serves := req.Force, cached != nil && cached.fresh(now, req.MinTTL, req.HalfLife)
	if force {
		renewed := now.Sub(e.lastRenewal) < freshRenewal || cached != nil && job.IssuedSince(now, cached.issued, req.Since)
		serves = cached != nil && e.failure == nil && renewed && cached.alive(now)
		force = !serves
	}
	changed = changed && e.mayRereadLocked(now, files)
	if serves && !changed {
		return cached, nil, nil
	}
	if e.running != nil {
		return nil, e.running, nil
	}
	due := cached == nil || !cached.fresh(now, 0, false)
	if next, empty := e.budget.empty(now); empty && !serves {
		switch {
		case due: // it is renewed, but not sooner than for everybody else
			force = false
		case force && e.failure != nil:
			return nil, nil, e.failure.err // which says more than that it was tried too often
		case force:
			return nil, nil, e.budgetError(next)
		case changed:
			serves, req.MinTTL, req.HalfLife = true, 0, false
		default:
			return cached, nil, nil
		}
	}
	if err := e.standingFailureLocked(now, force, changed); err != nil {
		if !req.Force && cached.alive(now) {
			return cached, nil, nil
		}
		return nil, nil, err
	}
	if force || !due && !serves {
		e.budget.spend(now)
	}
	run := e.startLocked(job.Job{Op: job.Renew, Force: force, Since: req.Since, MinTTL: req.MinTTL, HalfLife: req.HalfLife})
	run.rereads = serves
	return nil, run, nil
}

// mayRereadLocked reports whether a request may have the files read again, which have changed since the snapshot or are in a
// state that is not known. Where their state was not known after the last read either, they are not read again and again.
func (e *entry) mayRereadLocked(now time.Time, s *snapshot) bool {
	writes := e.running != nil && !e.running.rereads
	switch {
	case s.unknown():
		return !writes && !now.Before(e.poll.rereadAfter)
	case writes:
		return !e.running.renewed // what changes after that is its own save
	}
	return true
}

// standingFailureLocked returns the error of the last job while it counts: nothing is tried again yet, unless a file has changed.
func (e *entry) standingFailureLocked(now time.Time, force, changed bool) error {
	f := e.failure
	switch {
	case f == nil:
		return nil
	case (force || f.local) && now.Sub(f.at) >= minPause:
		return nil
	case changed:
		e.failure = nil
		return nil
	case force, f.retry.at.IsZero(), now.Before(f.retry.at):
		return f.err
	}
	return nil
}

// waitError is the error of a caller whose context has ended.
func waitError(ctx context.Context, profile string) error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: fmt.Sprintf("gave up waiting for profile %s: %v", profile, context.Cause(ctx)),
		Hint:    "the renewal goes on; ask again, or see: ccagent status",
	}
}

package agent

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// saveGrace is how long those who wait for a renewal wait for its save as well. A caller that reads the file then finds the new
// record in it, and a store that hangs keeps nobody waiting.
const saveGrace = 2 * time.Second

// jobRun is one job under way. Whoever waits for it selects on ready or done and on a context of its own.
type jobRun struct {
	job     job.Job
	profile *Profile      // as it was when the job began
	rereads bool          // the cached token would serve; the job finds out whether another is stored by now
	ready   chan struct{} // closed when the token is cached or the job is done
	done    chan struct{} // closed when the job is done

	// Set before ready is closed.
	token   *cachedToken
	err     *protocol.Error
	renewed bool       // the provider gave a new token
	result  job.Result // set before done is closed
}

// renews reports whether the job is there for another token than the cached one (nil: none), and not only to read the files
// again.
func (run *jobRun) renews(cached *cachedToken, now time.Time) bool {
	return run.job.Op == job.Renew && (run.job.Force || cached == nil || !cached.fresh(now, run.job.MinTTL, run.job.HalfLife))
}

// covers reports whether the job asked for all that req asks for.
func (run *jobRun) covers(req protocol.TokenRequest) bool {
	return run.job.MinTTL >= req.MinTTL && (run.job.HalfLife || !req.HalfLife)
}

// startLocked runs a job for the profile. No other may be under way.
func (e *entry) startLocked(j job.Job) *jobRun {
	run := &jobRun{job: e.fillLocked(j), profile: e.profile.Load(), ready: make(chan struct{}), done: make(chan struct{})}
	e.running = run
	e.hides = e.hides && j.Op != job.Hide
	paths := e.snapshot.Load().paths
	e.agent.work.Go(func() { e.runJob(run, paths) })
	return run
}

// fillLocked adds what every job of the profile is told. A Put brings its own record.
func (e *entry) fillLocked(j job.Job) job.Job {
	p := e.profile.Load()
	j.Build, j.Profile, j.Settings, j.Base, j.Lineage = e.agent.opts.Build, p.Name, p.Settings, e.base, e.lineage
	j.Key = e.agent.lockState.keys.of(p.Identity, j.Op)
	if j.Op != job.Put {
		j.Record = e.record
	}
	return j
}

// exclusive runs a job of its own after whatever is under way. The caller may give up waiting; the job goes on.
func (e *entry) exclusive(ctx context.Context, j job.Job) (job.Result, error) {
	for {
		run, mine, err := e.joinOrStart(j)
		if err != nil {
			return job.Result{}, err
		}
		select {
		case <-run.done:
		case <-ctx.Done():
			return job.Result{}, waitError(ctx, e.name())
		}
		if !mine && !(j.Op == job.Hide && run.job.Op == job.Hide) { // views are removed once for all who want it
			continue
		}
		if run.err != nil {
			return job.Result{}, run.err
		}
		return run.result, nil
	}
}

// joinOrStart returns the job under way, or starts j, which is then the caller's own.
func (e *entry) joinOrStart(j job.Job) (run *jobRun, mine bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.droppedLocked() && j.Op != job.Hide:
		return nil, false, noProfile(e.name())
	case e.running != nil:
		return e.running, false, nil
	}
	return e.startLocked(j), true, nil
}

// runJob runs a job. No caller's context ends it: a renewal that has begun is always finished. paths are the record's files as
// far as they are known. Their state is read without the mutex, because they may be on a file system that hangs.
func (e *entry) runJob(run *jobRun, paths []string) {
	before, began := statesOf(paths), e.agent.now()
	var early *time.Timer
	report, err := e.agent.opts.Runner.Run(context.Background(), run.job, func(r job.Result) {
		e.takeHandOver(run, r)
		early = time.AfterFunc(saveGrace, func() { e.releaseWaiters(run) })
	})
	if early != nil {
		early.Stop()
	}
	if err != nil {
		report.Err = asError(err)
	}
	e.agent.notifier.add(report.Result.Watch)
	e.finish(run, report, e.snapshotAfter(report.Result, before, began))
	if e.removed.Load() && !e.aloneHasRecord() {
		e.agent.reload() // which drops the profile
	}
	e.agent.lastJobEnd.Store(e.agent.now().UnixMilli())
	e.agent.wakeClock()
}

// releaseWaiters lets those who wait go on before the job is done.
func (e *entry) releaseWaiters(run *jobRun) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == run {
		closeOnce(run.ready)
	}
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// takeHandOver takes a renewed record that is not saved yet. From here on it is in two processes.
func (e *entry) takeHandOver(run *jobRun, r job.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// The base is what the store holds now, which may be newer than what this agent knew when the job began. If the worker dies
	// before it has saved, the next save is made against that.
	e.record, e.base = r.Record, r.Version
	if r.Store != storeMemory {
		e.unsaved = &unsaved{retry: retry{at: e.agent.now().Add(minPause)}}
	}
	e.cacheRenewedLocked(run, r)
}

// cacheRenewedLocked caches a token that the provider has just given.
func (e *entry) cacheRenewedLocked(run *jobRun, r job.Result) {
	switch {
	case run.job.Op.SignsIn():
		e.lastRenewal = time.Time{}
	case run.job.Op.Renews() && !run.renewed:
		e.lastRenewal = e.agent.now()
		e.agent.renewals.Add(1)
	}
	run.renewed, e.failure = true, nil
	run.token = e.cacheResultLocked(r)
}

// finish applies what a finished job has brought. files is the state in which it has read the record's files.
func (e *entry) finish(run *jobRun, report job.Report, files *snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, now := report.Result, e.agent.now()
	state := jobState{
		op: run.job.Op, forced: run.job.Force, unsaved: e.unsaved != nil, cached: e.cached.Load(),
		locked: e.agent.lockState.on.Load(),
	}
	if run.renewed {
		state.handedOver = run.token
	}
	o := state.outcome(report, now)

	run.result, run.err = r, report.Err
	e.notePlaceLocked(r, files)
	e.poll.rereadAfter = time.Time{}
	if run.rereads && e.snapshot.Load().unknown() {
		e.poll.rereadAfter = now.Add(minPause)
	}
	if o.sawViews {
		e.noteViewsLocked(r, now)
	}
	if o.gone {
		e.dropTokenLocked()
		e.bumpVersionLocked()
		run.token = nil
	}
	if o.otherUser {
		e.identity = nil
	}
	if o.newSignIn {
		e.lastRenewal = time.Time{} // it was another sign-in's
	}
	e.applyRecordLocked(o.record, run, now)
	e.applyTokenLocked(o.token, run)
	e.applyFailureLocked(o, run, now)
	e.updateNoticeLocked(run)
	e.scheduleLocked(now)
	if state.locked && run.job.Op != job.Hide && e.profile.Load().Shown {
		e.hides = true // the job may have written a view after the lock had removed it
	}
	e.running = nil
	closeOnce(run.ready)
	close(run.done)
	switch {
	case !bytes.Equal(run.job.Settings, e.profile.Load().Settings):
		e.forgetOldSettingsLocked(run.profile) // they have changed since the job began
	case e.poll.again, run.err == nil && e.snapshot.Load().stale:
		e.pollFilesLocked() // not after a failure, which is tried again in its own time
	}
}

// applyRecordLocked applies what becomes of the record in memory.
func (e *entry) applyRecordLocked(o recordOutcome, run *jobRun, now time.Time) {
	switch o {
	case recordDeleted:
		e.forgetLocked()
	case recordInMemory:
		e.record, e.unsaved = run.result.Record, nil
	case recordStored:
		if e.unsaved != nil && run.job.Op == job.Save {
			e.agent.log.Info("saved what was held in memory", "profile", e.name(), "location", run.result.Location)
		}
		e.record, e.unsaved = protocol.Secret{}, nil
	case recordUnsaved:
		e.record = run.result.Record
		e.saveLaterLocked(run.err, now)
	case recordStillUnsaved:
		e.saveLaterLocked(run.err, now)
	}
}

// saveLaterLocked has the record in memory saved again after a pause. err says why it could not be saved; nil: the worker was
// gone.
func (e *entry) saveLaterLocked(err *protocol.Error, now time.Time) {
	if e.unsaved == nil {
		e.unsaved = &unsaved{}
	}
	e.unsaved.failed(now, maxSaveBackoff)
	e.unsaved.err = &protocol.Error{Code: protocol.CodeStorage, Message: "the worker ended before it had saved"}
	if err != nil {
		e.unsaved.err = withoutDetail(err)
	}
	e.agent.log.Error("a renewed record is not saved: serving it from memory, saving again",
		"profile", e.name(), "error", e.unsaved.err.Message, "retry", e.unsaved.at)
}

// applyTokenLocked applies what becomes of the cached token. Those who wait get that, or the one that was handed over.
func (e *entry) applyTokenLocked(o tokenOutcome, run *jobRun) {
	switch o {
	case tokenRenewed:
		e.cacheRenewedLocked(run, run.result)
	case tokenRead:
		run.token = e.cacheResultLocked(run.result)
	}
	if run.token == nil {
		run.token = e.cached.Load()
	}
}

// applyFailureLocked applies what the job means for the next renewal, and clears the error of those who wait where there is none.
func (e *entry) applyFailureLocked(o outcome, run *jobRun, now time.Time) {
	switch o.failure {
	case failureUnchanged:
		return
	case noFailure, renewalServes, renewalDead:
		run.err, e.failure = nil, nil
		if o.failure == renewalServes {
			e.deadTokens = retry{}
		}
		if o.failure == renewalDead {
			e.deadTokens.failed(now, maxBackoff)
			e.failure = &failure{err: deadToken(), at: now, retry: e.deadTokens}
		}
		return
	}
	next := failure{err: withoutDetail(run.err), at: now, local: o.failure == failsLocally}
	if o.failure != failsUntilChange {
		if e.failure != nil {
			next.retry.fails = e.failure.retry.fails
		}
		next.retry.failed(now, maxBackoff)
		if !o.retryAt.IsZero() {
			next.retry.at = o.retryAt
		}
	}
	if run.err.Code == protocol.CodeUnavailable && run.err.Hint == "" {
		told := *run.err
		told.Hint = "it is asked again from " + next.retry.at.Local().Format("15:04:05") + " on, or now with: ccagent refresh -p " +
			e.name()
		run.err, next.err = &told, withoutDetail(&told)
	}
	// Requests bring a local failure about each second: it is logged once.
	logged := next.local && e.failure != nil && e.failure.err.Message == next.err.Message
	e.failure = &next
	if logged {
		return
	}
	until := slog.Attr{} // left out where only a change ends the failure
	if !next.retry.at.IsZero() {
		until = slog.Time("retry", next.retry.at)
	}
	e.agent.log.Warn("no new token", "profile", e.name(), "error", run.err.Message, "code", run.err.Code, until)
}

// updateNoticeLocked encodes the cached token again where there is something else to tell with it by now, or nothing any more.
func (e *entry) updateNoticeLocked(run *jobRun) {
	cached := e.cached.Load()
	if cached == nil || !cached.notice && e.failure == nil {
		return
	}
	t, err := cached.token()
	if err != nil || t.Notice == e.noticeLocked(t) {
		return
	}
	if again := e.cacheTokenLocked(t, cached.issued, cached.toTell); run.token == cached {
		run.token = again
	}
}

// notePlaceLocked keeps what a job says of the record's place.
func (e *entry) notePlaceLocked(r job.Result, files *snapshot) {
	if r.Location == "" && r.Store == "" {
		return
	}
	if r.Saved || r.Version != (job.Version{}) {
		e.base = r.Version
	}
	e.place = place{interned(r.Store), r.Location, interned(r.Subscription), r.Scopes}
	switch r.Store {
	case "", storeAuto:
		e.rests.Store(restsUnknown)
	case storeClaudeCode:
		e.rests.Store(restsInClaude)
	default:
		e.rests.Store(restsElsewhere)
	}
	e.snapshot.Store(files)
}

// noteViewsLocked keeps what a job says of the files of other programs, and whether a view has still to be written.
func (e *entry) noteViewsLocked(r job.Result, now time.Time) {
	if e.note != r.Note && r.Note != "" {
		e.agent.log.Warn("about another program's file", "profile", e.name(), "note", r.Note)
	}
	e.note = r.Note
	if !r.Behind {
		e.viewRetry = nil
		return
	}
	if e.viewRetry == nil {
		e.viewRetry = &retry{}
	}
	e.viewRetry.failed(now, maxSaveBackoff)
}

// forgetLocked forgets all that is known of a deleted record.
func (e *entry) forgetLocked() {
	e.dropTokenLocked()
	e.bumpVersionLocked()
	e.base, e.record, e.unsaved, e.failure = job.Version{}, protocol.Secret{}, nil, nil
	e.identity = nil
	e.lastRenewal, e.renewAt = time.Time{}, time.Time{}
}

// spill has a worker leave an unsaved record where the next load finds it.
func (e *entry) spill(ctx context.Context) error {
	e.mu.Lock()
	j, waits := e.fillLocked(job.Job{Op: job.Spill}), e.unsaved != nil
	e.mu.Unlock()
	if j.Record.Empty() || !waits {
		return nil
	}
	report, err := e.agent.opts.Runner.Run(ctx, j, func(job.Result) {})
	if err == nil && report.Err != nil {
		err = report.Err
	}
	return err
}

package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// settled is how long after a successful renewal a forced one is answered by it.
	freshRenewal = 2 * time.Second
	// pause is the least time between two failing attempts for one profile, forced ones too.
	minPause = time.Second
	// maxBackoff bounds the back-off of a renewal, maxSaveBackoff that of a save: the disk is ours to ask.
	maxBackoff     = 5 * time.Minute
	maxSaveBackoff = 30 * time.Second
	// saveGrace is how long those who wait for a renewal wait for its save as well: a caller that looks at the file finds the
	// new record in it, and a store that hangs keeps nobody waiting.
	saveGrace = 2 * time.Second
)

// flight is one job under way. Whoever waits for it selects on ready or done and on a context of its own.
type jobRun struct {
	job     job.Job
	profile *Profile      // as it was when the job began
	rereads bool          // it reads what others have written, and the token in hand would do else
	ready   chan struct{} // the token is in hand, or the job is done
	done    chan struct{} // the job is done

	// Set before ready is closed.
	token   *cachedToken
	err     *protocol.Error
	renewed bool
	result  job.Result // set before done is closed
}

// renews reports whether the job is there for another token than h, which may be nil, and not just for a look at the files.
func (f *jobRun) renews(h *cachedToken, now time.Time) bool {
	return f.job.Op == job.Renew && (f.job.Force || h == nil || !h.fresh(now, f.job.MinTTL, f.job.HalfLife))
}

// covers reports whether the job asked for all that req asks for.
func (f *jobRun) covers(req protocol.TokenRequest) bool {
	return f.job.MinTTL >= req.MinTTL && (f.job.HalfLife || !req.HalfLife)
}

// token answers a request: from the hand, from the renewal under way, or from one of its own.
func (e *entry) token(ctx context.Context, req protocol.TokenRequest) (*cachedToken, error) {
	for looks := 0; ; {
		h, f, err := e.serveOrStart(req)
		if f == nil {
			return h, err
		}
		wait := f.ready
		select {
		case <-f.ready:
			wait = f.done // its answer is known to be too little: what we need starts after it
		default:
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, waitError(ctx, e.name())
		}
		if f.job.Op != job.Renew || req.Force && !f.job.Force && !f.renewed {
			continue
		}
		if !bytes.Equal(f.job.Settings, e.profile.Load().Settings) {
			continue // it began by other settings, which may name another store or sign-in
		}
		// A job that failed may have read what was written since then, or not. Where nobody knows what the files were like, as
		// after the first job, its failure counts: to ask the provider again at once would be to hammer it.
		sight := e.snapshot.Load()
		overtaken := f.err != nil && !f.renewed && !sight.unknown() && sight.changed()
		if looks++; looks == 1 && (f.rereads || overtaken) {
			continue
		}
		now := e.agent.now()
		switch {
		case f.err != nil && (req.Force || !f.token.alive(now)):
			return nil, f.err
		case f.err != nil || f.renewed || f.covers(req) || f.token.fresh(now, req.MinTTL, req.HalfLife):
			// What a renewal just brought is the answer however short it lives, and so is what lives when a renewal failed, or
			// when a worker that was asked for as much saw nothing to do.
			if !f.token.alive(now) {
				return nil, deadToken()
			}
			return f.token, nil
		}
	}
}

// stillborn is the error of a token that a provider brought dead.
func deadToken() *protocol.Error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "the provider's new token is already expired by this machine's clock",
		Hint:    "compare the machine's date and time with the real ones",
	}
}

// judge is what a request finds: a token, an error, or a job to wait for.
func (e *entry) serveOrStart(req protocol.TokenRequest) (*cachedToken, *jobRun, error) {
	now := e.agent.now()
	if h := e.cached.Load(); h == nil || req.Force || !h.fresh(now, req.MinTTL, req.HalfLife) {
		e.agent.reloadIfChanged() // a renewal goes by the settings as they are now
	}
	sight := e.snapshot.Load()
	changed := sight.changed() // before the lock: it may take its time
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.cached.Load()
	// Where the token in hand will do, a look at the files is all that there is to do.
	force, look := req.Force, h != nil && h.fresh(now, req.MinTTL, req.HalfLife)
	if force {
		fresh := now.Sub(e.lastRenewal) < freshRenewal || h != nil && job.IssuedSince(now, h.issued, req.Since)
		look = h != nil && e.failure == nil && fresh && h.alive(now)
		force = !look
	}
	changed = changed && e.rereadsLocked(now, sight)
	if look && !changed {
		return h, nil, nil
	}
	if e.running != nil {
		return nil, e.running, nil
	}
	due := h == nil || !h.fresh(now, 0, false)
	if next, empty := e.budget.empty(now); empty && !look {
		switch {
		case due: // it is renewed, at the pace of everybody
			force = false
		case force && e.failure != nil:
			return nil, nil, e.failure.err // which says more than that it was tried too often
		case force:
			return nil, nil, e.budgetError(next)
		case changed:
			look, req.MinTTL, req.HalfLife = true, 0, false
		default:
			return h, nil, nil
		}
	}
	if err := e.standingFailureLocked(now, force, changed); err != nil {
		if !req.Force && h.alive(now) {
			return h, nil, nil
		}
		return nil, nil, err
	}
	if force || !due && !look {
		e.budget.spend(now)
	}
	f := e.startLocked(job.Job{Op: job.Renew, Force: force, Since: req.Since, MinTTL: req.MinTTL, HalfLife: req.HalfLife})
	f.rereads = look
	return nil, f, nil
}

// looksAgain reports whether the files are to be read again before the token in hand is given out, now that they are others than
// s says. Where that is only not known, and was not known after the last look either, they are not read again and again. e.mu is
// held.
func (e *entry) rereadsLocked(now time.Time, s *snapshot) bool {
	switch writes := e.running != nil && !e.running.rereads; {
	case s.unknown():
		return !writes && !now.Before(e.rereadAfter)
	case writes:
		return !e.running.renewed // what changes after that is the save
	}
	return true
}

// refuses is the error of the last job while it stands: nothing is to be tried again yet, unless one of the files has changed.
// e.mu is held.
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

// start runs a job for the profile. e.mu is held, and no flight is under way.
func (e *entry) startLocked(j job.Job) *jobRun {
	f := &jobRun{job: e.fillLocked(j), profile: e.profile.Load(), ready: make(chan struct{}), done: make(chan struct{})}
	e.running = f
	paths := e.snapshot.Load().paths
	e.agent.work.Go(func() { e.runJob(f, paths) })
	return f
}

// fill adds what every job of the profile is told. A Put brings its own record. e.mu is held.
func (e *entry) fillLocked(j job.Job) job.Job {
	p := e.profile.Load()
	j.Build, j.Profile, j.Settings, j.Base, j.Lineage = e.agent.opts.Build, p.Name, p.Settings, e.base, e.lineage
	j.Key = e.agent.lockState.keyFor(p.Identity, j.Op)
	if j.Op != job.Put {
		j.Record = e.record
	}
	return j
}

// exclusive runs a job of its own after whatever is under way. The caller may give up waiting; the job goes on.
func (e *entry) exclusive(ctx context.Context, j job.Job) (job.Result, error) {
	for {
		e.mu.Lock()
		f := e.running
		mine := f == nil
		if mine {
			f = e.startLocked(j)
		}
		e.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return job.Result{}, waitError(ctx, e.name())
		}
		if !mine {
			continue
		}
		if f.err != nil {
			return job.Result{}, f.err
		}
		return f.result, nil
	}
}

// fly runs a flight's job, on nobody's context: a renewal that began is always finished. paths are the record's files as far as
// they are known. They are looked at without e.mu: they may be on a file system that hangs.
func (e *entry) runJob(f *jobRun, paths []string) {
	before, began := statesOf(paths), e.agent.now()
	var early *time.Timer
	report, err := e.agent.opts.Runner.Run(context.Background(), f.job, func(r job.Result) {
		e.takeHandOver(f, r)
		early = time.AfterFunc(saveGrace, func() { e.releaseWaiters(f) })
	})
	if early != nil {
		early.Stop()
	}
	if err != nil {
		report.Err = asError(err)
	}
	e.agent.notifier.add(report.Result.Watch)
	e.finish(f, report, e.snapshotAfter(report.Result, before, began))
	if e.removed.Load() && !e.aloneHasRecord() {
		e.agent.reload() // which lets it go
	}
	e.agent.lastJobEnd.Store(e.agent.now().UnixMilli())
	e.agent.wakeClock()
}

// release lets those who wait go on before the job is done.
func (e *entry) releaseWaiters(f *jobRun) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == f {
		closeOnce(f.ready)
	}
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// handOver takes a rotated record that is not saved yet: from here on it is in two processes.
func (e *entry) takeHandOver(f *jobRun, r job.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// The base is what the store holds now, which may be newer than what this agent knew when the job began: should the
	// worker die before it has saved, the save that follows is made against that.
	e.record, e.base = r.Record, r.Version
	if r.Store != "memory" {
		e.saveRetry = &retry{at: e.agent.now().Add(minPause)}
	}
	e.cacheRenewedLocked(f, r)
}

// renewed puts a renewal's token in hand. e.mu is held.
func (e *entry) cacheRenewedLocked(f *jobRun, r job.Result) {
	switch {
	case f.job.Op.SignsIn():
		e.lastRenewal = time.Time{}
	case f.job.Op == job.Renew && !f.renewed:
		e.lastRenewal = e.agent.now()
		e.agent.renewals.Add(1)
	}
	f.renewed, e.failure = true, nil
	f.token = e.cacheResultLocked(r)
}

// land takes a job's end.
func (e *entry) finish(f *jobRun, report job.Report, files *snapshot) {
	log := e.agent.log
	e.mu.Lock()
	defer e.mu.Unlock()
	r, now := report.Result, e.agent.now()
	f.result, f.err = r, report.Err
	e.notePlaceLocked(r, files)
	e.rereadAfter = time.Time{}
	if f.rereads && e.snapshot.Load().unknown() {
		e.rereadAfter = now.Add(minPause)
	}
	if e.note != r.Note && r.Note != "" {
		log.Warn("about another program's file", "profile", e.name(), "note", r.Note)
	}
	if !r.Token.Empty() || r.Note != "" {
		e.note = r.Note
		e.noteViewsLocked(r.Behind, now)
	}
	if r.Gone {
		e.dropTokenLocked()
		e.bumpVersionLocked()
		e.identity, f.token = nil, nil
	}
	put := f.job.Op.Stores() && (f.err == nil || f.renewed) // a sign-in that was handed over is in force, saved or not
	if put {
		e.identity = nil
	}
	if put && f.job.Op.SignsIn() {
		e.lastRenewal = time.Time{} // it was another sign-in's
	}

	switch {
	case f.job.Op.Removes() && f.err == nil:
		e.forgetLocked()
	case r.Saved:
		if r.Store == "memory" {
			e.record, e.saveRetry = r.Record, nil
		} else {
			if e.saveRetry != nil && f.job.Op == job.Save {
				log.Info("saved what was held in memory", "profile", e.name(), "location", r.Location)
			}
			e.record, e.saveRetry = protocol.Secret{}, nil
		}
	case !r.Record.Empty():
		e.record = r.Record
		e.retrySaveLocked(f, now)
	case e.saveRetry != nil && f.renewed:
		e.retrySaveLocked(f, now) // handed over, and then the worker was gone
	case e.saveRetry != nil && f.job.Op == job.Save:
		e.retrySaveLocked(f, now)
	}

	switch {
	case r.Token.Empty() || f.job.Op.Removes():
	case f.job.Op == job.Save && e.cached.Load() == nil:
		// A lock took the token away. The key that a save may use opens nothing for a request.
	case r.Renewed:
		e.cacheRenewedLocked(f, r)
	default:
		f.token = e.cacheResultLocked(r)
	}
	if f.token == nil {
		f.token = e.cached.Load()
	}

	if f.job.Op == job.Renew || put {
		e.noteFailureLocked(f, report, now)
	}
	if h := e.cached.Load(); h != nil && (h.notice || e.failure != nil) {
		if t, err := h.token(); err == nil && t.Notice != e.noticeLocked(t) {
			kept := e.cacheTokenLocked(t, h.issued) // something to tell, or nothing any more
			if f.token == h {
				f.token = kept
			}
		}
	}
	e.scheduleLocked(now)
	e.running = nil
	closeOnce(f.ready)
	close(f.done)
	switch {
	case !bytes.Equal(f.job.Settings, e.profile.Load().Settings):
		e.forgetOldSettingsLocked(f.profile) // they changed meanwhile
	case e.pollAgain, f.err == nil && e.snapshot.Load().stale:
		e.pollFilesLocked() // a failure waits for its time: what is looked at again is asked for again
	}
}

// know keeps what a job says of the record's place. e.mu is held.
func (e *entry) notePlaceLocked(r job.Result, files *snapshot) {
	if r.Location == "" && r.Store == "" {
		return
	}
	if r.Saved || r.Version != (job.Version{}) {
		e.base = r.Version
	}
	e.place = place{interned(r.Store), r.Location, interned(r.Subscription), r.Scopes}
	e.snapshot.Store(files)
}

// watched is the state of the files in which a job is known to have read them. before is how they were when it began.
func (e *entry) snapshotAfter(r job.Result, before fileStates, began time.Time) *snapshot {
	others := r.Store == "claude-code" || e.profile.Load().Shown // write there too
	s, stale := statesOf(r.Watch), false
	known := len(before.paths) == len(s.paths) && len(s.paths) > 0 && before.paths[0] == s.paths[0]
	switch {
	case known && !before.changed():
		s = before
	case s.olderThan(began, others):
	case r.Saved && r.Renewed && !others: // ours, in all likelihood; the load before each renewal settles it
	case known: // written by the job itself, or by somebody after it was read: one more look tells
		s, stale = before, true
	default: // unknown, so it counts as changed
		s, stale = unknownStates(s.paths), true
	}
	v := newSnapshot(s, allLocal(r.Watch))
	if len(v.paths) > 0 {
		v.stale = stale
	}
	return v
}

// unsaved keeps the record for another try. e.mu is held.
func (e *entry) retrySaveLocked(f *jobRun, now time.Time) {
	if e.saveRetry == nil {
		e.saveRetry = &retry{}
	}
	e.saveRetry.next(now, maxSaveBackoff)
	if f.err != nil {
		e.saveError = withoutDetail(f.err)
	} else {
		e.saveError = &protocol.Error{Code: protocol.CodeStorage, Message: "the worker ended before it had saved"}
	}
	e.agent.log.Error(
		"a renewed record is not saved: serving it from memory, saving again",
		"profile",
		e.name(),
		"error",
		e.saveError.Message,
		"retry",
		e.saveRetry.at,
	)
}

// behind keeps whether a view has still to be written. e.mu is held.
func (e *entry) noteViewsLocked(behind bool, now time.Time) {
	switch {
	case !behind:
		e.viewRetry = nil
		return
	case e.viewRetry == nil:
		e.viewRetry = &retry{}
	}
	e.viewRetry.next(now, maxSaveBackoff)
}

// again is the next try after a failure: 1 s, doubling up to limit, a quarter of it jitter.
func (r *retry) next(now time.Time, limit time.Duration) {
	d := min(minPause<<min(r.fails, 16), limit)
	r.fails++
	r.at = now.Add(d - time.Duration(rand.Int64N(int64(d/4)+1)))
}

// judgeFailure decides what a failed job means for the next one. e.mu is held.
func (e *entry) noteFailureLocked(f *jobRun, report job.Report, now time.Time) {
	if f.err == nil || f.renewed && !report.Result.Gone {
		// A renewal whose save failed did not fail: the token is good, and the save is tried on its own.
		f.err, e.failure = nil, nil
		switch {
		case !f.renewed:
		case f.token.alive(now):
			e.deadTokens = retry{}
		default: // the next request would bring another like it
			e.deadTokens.next(now, maxBackoff)
			e.failure = &failure{err: deadToken(), at: now, retry: e.deadTokens}
		}
		return
	}
	if h := e.cached.Load(); f.job.Force && report.Local && h != nil && h.expiry.IsZero() &&
		(f.err.Code == protocol.CodeConfig || f.err.Code == protocol.CodeLoginRequired) {
		return // there is nothing to renew it with, and no need to
	}
	next := failure{err: withoutDetail(f.err), at: now}
	if e.failure != nil {
		next.retry.fails = e.failure.retry.fails
	}
	switch code := f.err.Code; {
	case code == protocol.CodeUnavailable, code == protocol.CodeInternal:
		next.retry.next(now, maxBackoff)
		if report.RetryAfter > 0 {
			next.retry.at = now.Add(min(report.RetryAfter, time.Hour))
		}
	case code == protocol.CodeLoginRequired,
		code == protocol.CodeExpired,
		code == protocol.CodeDenied,
		code == protocol.CodeConfig && !report.Local:
		next.retry = retry{} // only a change ends it
	default: // nobody but the store was asked, or not even that
		next.local = true
		next.retry.next(now, maxBackoff)
	}
	if at := next.retry.at; f.err.Code == protocol.CodeUnavailable && f.err.Hint == "" {
		told := *f.err
		told.Hint = "it is asked again from " + at.Local().Format("15:04:05") + " on, or now with: ccagent refresh -p " + e.name()
		f.err, next.err = &told, withoutDetail(&told)
	}
	told := next.local && e.failure != nil && e.failure.err.Message == next.err.Message // and requests bring it about each second
	e.failure = &next
	if told {
		return
	}
	until := slog.Attr{} // an empty one is left out: only a change ends it
	if !next.retry.at.IsZero() {
		until = slog.Time("retry", next.retry.at)
	}
	e.agent.log.Warn("no new token", "profile", e.name(), "error", f.err.Message, "code", f.err.Code, until)
}

// forget drops all that is known of a deleted record. e.mu is held.
func (e *entry) forgetLocked() {
	e.dropTokenLocked()
	e.bumpVersionLocked()
	e.base, e.record, e.saveRetry, e.failure = job.Version{}, protocol.Secret{}, nil, nil
	e.identity = nil
	e.lastRenewal, e.renewAt = time.Time{}, time.Time{}
}

// spill has a worker leave what is unsaved for the next load.
func (e *entry) spill(ctx context.Context) error {
	e.mu.Lock()
	j, unsaved := e.fillLocked(job.Job{Op: job.Spill}), e.saveRetry != nil
	e.mu.Unlock()
	if j.Record.Empty() || !unsaved {
		return nil
	}
	report, err := e.agent.opts.Runner.Run(ctx, j, func(job.Result) {})
	if err == nil && report.Err != nil {
		err = report.Err
	}
	return err
}

func waitError(ctx context.Context, profile string) error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: fmt.Sprintf("gave up waiting for profile %s: %v", profile, context.Cause(ctx)),
		Hint:    "the renewal goes on; ask again, or see: ccagent status",
	}
}

package agent

import (
	"math/rand/v2"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// maxSleep is how long the clock sleeps at most. Timers stand still while a machine is suspended, so the wall clock is read
	// again and again (golang/go#35012).
	maxSleep = 30 * time.Second
	// inUse is how long after a request a profile is renewed without being asked.
	inUse = 24 * time.Hour
	// restDelay is how long nothing must have happened before memory is given back to the system: whoever asks next has to wait
	// until the system has given it out again.
	restDelay = 5 * time.Second
)

// scheduleLocked decides when the clock renews: before the margin begins, by up to half of it at random.
func (e *entry) scheduleLocked(now time.Time) {
	e.renewAt = time.Time{}
	cached := e.cached.Load()
	if cached == nil || cached.expiry.IsZero() || e.deadTokens.fails > 0 {
		return // where tokens come dead, the next request finds out whether that has changed
	}
	margin := protocol.Margin
	if lifetime := cached.expiry.Sub(cached.issued); !cached.issued.IsZero() && lifetime > 0 {
		margin = protocol.MarginOf(lifetime)
	}
	at := cached.expiry.Add(-margin - time.Duration(rand.Int64N(int64(margin/2)+1)))
	soonest := now.Add(minPause)
	switch f := e.failure; {
	case f != nil && f.retry.at.IsZero():
		return
	case f != nil:
		e.renewAt = latest(at, f.retry.at)
	case at.Before(soonest) && (cached.issued.IsZero() || !cached.alive(now)):
		// A token of unknown age that nobody could renew although its margin has begun, or one that came expired: there is no
		// reason to try for ever.
		return
	case now.Before(at):
		e.renewAt = at
	default:
		e.renewAt = soonest // the job that has just ended could have renewed it and did not; the next one may not either
	}
}

// earliest is the earlier of two times. The zero time means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// clock is the background: it renews what is in use ahead of time, saves what is unsaved, polls files, and ends an agent that has
// nothing to do.
func (a *Agent) clock() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var polled time.Time
	for {
		select {
		case <-a.stopping:
			return
		case <-timer.C:
		case <-a.wake:
		}
		now := a.now()
		poll := now.Sub(polled) >= maxSleep-time.Second || now.Before(polled)
		if poll {
			polled = now
			a.reloadIfChanged()
		}
		a.forgetSaveKeys()
		next := earliest(now.Add(maxSleep), a.lockUnusedKeys(now))
		quiet, busy := true, false
		for _, e := range a.table.Load().byName {
			at, idle := e.background(now, poll)
			next = earliest(next, at)
			quiet, busy = quiet && idle, busy || e.busy()
		}
		next = earliest(next, a.restIfDue(busy))
		if end := a.idleEnd(now); !end.IsZero() {
			if quiet && !a.lockState.keepsAgent() && a.server.Connections() == 0 && !now.Before(end) {
				a.log.Info("stopping: idle, and nothing held that can't be loaded again")
				a.Stop()
				return
			}
			if end.After(now) {
				next = earliest(next, end)
			}
		}
		timer.Reset(max(next.Sub(now), 10*time.Millisecond))
	}
}

// idleEnd returns when the agent is to end if nobody asks any more. Zero: it never ends by itself.
func (a *Agent) idleEnd(now time.Time) time.Time {
	if a.opts.IdleTimeout <= 0 {
		return time.Time{}
	}
	last := a.lastActivity.Load()
	if time.UnixMilli(last).After(now) { // the machine's clock was set back
		a.lastActivity.CompareAndSwap(last, now.UnixMilli())
		last = now.UnixMilli()
	}
	return time.UnixMilli(last).Add(a.opts.IdleTimeout)
}

// restIfDue calls Rest when the time has come, and says when to call it again (zero: no need). Only the clock calls it.
func (a *Agent) restIfDue(busy bool) (next time.Time) {
	last := max(a.lastActivity.Load(), a.lastJobEnd.Load())
	now := a.now() // not before last, unless the machine's clock was set
	if a.opts.Rest == nil || busy || last == a.restedAt {
		return time.Time{}
	}
	if due := time.UnixMilli(last).Add(restDelay); now.Before(due) && due.Sub(now) <= restDelay {
		return due
	}
	a.restedAt = last
	a.opts.Rest()
	return time.Time{}
}

// background does what is due at now for one profile. It says when to call it again (zero: no need), and whether the profile lets
// an idle agent end. With poll it polls the record's files too.
func (e *entry) background(now time.Time, poll bool) (next time.Time, idle bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.running != nil:
		return time.Time{}, false
	case e.hides:
		e.startLocked(job.Job{Op: job.Hide})
		return time.Time{}, false
	case e.droppedLocked():
		return time.Time{}, true
	}
	if e.unsaved != nil && !now.Before(e.unsaved.at) {
		e.startLocked(job.Job{Op: job.Save})
		return time.Time{}, false
	}
	shown := e.profile.Load().Shown
	idle = e.record.Empty() && e.unsaved == nil && !shown
	if e.unsaved != nil {
		next = e.unsaved.at // a record that is not saved is renewed all the same
	}
	cached := e.cached.Load()
	if shown && cached == nil && !e.agent.lockState.on.Load() {
		return earliest(next, e.loadForViewsLocked(now, poll)), false
	}
	if cached == nil || !shown && now.Unix()-e.lastUsed.Load() > int64(inUse/time.Second) {
		return next, idle
	}
	if !e.renewAt.IsZero() {
		if !now.Round(0).Before(e.renewAt.Round(0)) {
			// The job must want more life than the margin, or it would be told that nothing is due yet.
			e.startLocked(job.Job{Op: job.Renew, MinTTL: cached.expiry.Sub(now) + time.Millisecond})
			return time.Time{}, false
		}
		next = earliest(next, e.renewAt)
	}
	if e.viewRetry != nil && e.failure == nil {
		if !now.Before(e.viewRetry.at) {
			e.startLocked(job.Job{Op: job.Renew}) // it writes the views
			return time.Time{}, false
		}
		next = earliest(next, e.viewRetry.at)
	}
	if poll {
		e.pollFilesLocked()
	}
	return next, idle
}

// loadForViewsLocked brings the token of a profile whose views others read, and says when to call it again.
func (e *entry) loadForViewsLocked(now time.Time, poll bool) time.Time {
	f := e.failure
	if f == nil {
		e.startLocked(job.Job{Op: job.Renew})
		return time.Time{}
	}
	switch code := f.err.Code; {
	case code == protocol.CodeUnavailable, code == protocol.CodeInternal:
		if now.Before(f.retry.at) {
			return f.retry.at
		}
		e.startLocked(job.Job{Op: job.Renew})
	case code == protocol.CodeLocked:
		return time.Time{} // whoever unlocks the agent ends that
	case !poll:
		return time.Time{}
	case code == protocol.CodeStorage, code == protocol.CodeInvalid, code == protocol.CodeConfig && f.local:
		e.startLocked(job.Job{Op: job.Renew})
	default: // whoever writes a record ends that
		e.pollFilesLocked()
	}
	return time.Time{}
}

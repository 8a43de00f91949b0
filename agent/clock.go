package agent

import (
	"math/rand/v2"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// tick is how long the clock sleeps at most: timers stand still while a machine is suspended, so the wall clock is looked
	// at again and again (golang/go#35012).
	maxSleep = 30 * time.Second
	// inUse is how long after a request a profile is renewed without being asked.
	inUse = 24 * time.Hour
	// lull is how long nothing must have happened before memory is given back: whoever asks next has to wait until it is
	// fetched in again.
	restDelay = 5 * time.Second
)

// schedule decides when the background renews: ahead of the margin by up to half of it. e.mu is held.
func (e *entry) scheduleLocked(now time.Time) {
	h := e.cached.Load()
	if h == nil || h.expiry.IsZero() {
		e.renewAt = time.Time{}
		return
	}
	margin := protocol.Margin
	if lifetime := h.expiry.Sub(h.issued); !h.issued.IsZero() && lifetime > 0 {
		margin = protocol.MarginOf(lifetime)
	}
	if e.deadTokens.fails > 0 { // what comes is dead already: whoever asks finds out whether that has changed
		e.renewAt = time.Time{}
		return
	}
	e.renewAt = h.expiry.Add(-margin - time.Duration(rand.Int64N(int64(margin/2)+1)))
	if f := e.failure; f != nil {
		if f.retry.at.IsZero() {
			e.renewAt = time.Time{}
		} else if e.renewAt.Before(f.retry.at) {
			e.renewAt = f.retry.at
		}
	} else if floor := now.Add(minPause); e.renewAt.Before(floor) && (h.issued.IsZero() || !h.alive(now)) {
		// A token of unknown age inside its margin, that nobody could renew, or one that came expired: no reason to try without
		// end.
		e.renewAt = time.Time{}
	} else if !now.Before(e.renewAt) {
		e.renewAt = floor // the job that has just ended could have renewed it, and did not: the next one may not either
	}
}

// clock is the background: it renews what is in use ahead of time, saves what is unsaved, notices what others wrote, and
// ends an agent that has nothing to do.
func (a *Agent) clock() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var swept time.Time
	for {
		select {
		case <-a.stopping:
			return
		case <-timer.C:
		case <-a.wake:
		}
		now := a.now()
		next := now.Add(maxSleep)
		sweep := now.Sub(swept) >= maxSleep-time.Second || now.Before(swept)
		if sweep {
			swept = now
			a.reloadIfChanged()
		}
		quiet, busy := true, false
		a.forgetSaveKeys()
		if at := a.lockUnusedKeys(now); !at.IsZero() && at.Before(next) {
			next = at
		}
		for _, e := range a.table.Load().byName {
			at, idle := e.background(now, sweep)
			if !at.IsZero() && at.Before(next) {
				next = at
			}
			quiet, busy = quiet && idle, busy || e.busy()
		}
		if at := a.restIfDue(busy); !at.IsZero() && at.Before(next) {
			next = at
		}
		if a.opts.IdleTimeout > 0 {
			last := a.lastActivity.Load()
			if time.UnixMilli(last).After(now) { // the clock was set back
				a.lastActivity.CompareAndSwap(last, now.UnixMilli())
				last = now.UnixMilli()
			}
			end := time.UnixMilli(last).Add(a.opts.IdleTimeout)
			if quiet && !a.lockState.keepsAgent() && a.server.Connections() == 0 && !now.Before(end) {
				a.log.Info("stopping: idle, and nothing held that can't be loaded again")
				a.Stop()
				return
			}
			if end.After(now) && end.Before(next) {
				next = end
			}
		}
		timer.Reset(max(next.Sub(now), 10*time.Millisecond))
	}
}

// rest calls Rest when the time has come, and says when to look again (zero: no need). Only the clock calls it.
func (a *Agent) restIfDue(busy bool) (next time.Time) {
	last := max(a.lastActivity.Load(), a.lastJobEnd.Load())
	now := a.now() // not before last, unless the clock was set
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

// background does what is due at now for one profile, and says when to look again (zero: no need) and whether the profile
// lets an idle agent end. With sweep it looks at the record's files too.
func (e *entry) background(now time.Time, sweep bool) (next time.Time, idle bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running != nil {
		return time.Time{}, false
	}
	if e.saveRetry != nil && !now.Before(e.saveRetry.at) {
		e.startLocked(job.Job{Op: job.Save})
		return time.Time{}, false
	}
	shown := e.profile.Load().Shown
	idle = e.record.Empty() && e.saveRetry == nil && !shown
	if e.saveRetry != nil {
		next = e.saveRetry.at // what is not saved is renewed all the same
	}
	h := e.cached.Load()
	if shown && h == nil && !e.agent.lockState.on.Load() {
		return earliest(next, e.loadForViewsLocked(now, sweep)), false
	}
	if h == nil || !shown && now.Unix()-e.lastUsed.Load() > int64(inUse/time.Second) {
		return next, idle
	}
	if !e.renewAt.IsZero() {
		if !now.Round(0).Before(e.renewAt.Round(0)) {
			// Worth asking for more than the margin, or the one that renewed ahead would be told that nothing is due.
			e.startLocked(job.Job{Op: job.Renew, MinTTL: h.expiry.Sub(now) + time.Millisecond})
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
	if sweep {
		e.pollFilesLocked()
	}
	return next, idle
}

// earlier is the earlier of two times of which the zero one is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// load brings the token of a profile that others read views of, and says when to look again. e.mu is held.
func (e *entry) loadForViewsLocked(now time.Time, sweep bool) time.Time {
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
	case code == protocol.CodeStorage, code == protocol.CodeInvalid, code == protocol.CodeConfig && f.local:
		if sweep {
			e.startLocked(job.Job{Op: job.Renew})
		}
	case code == protocol.CodeLocked: // ended by who unlocks it
	default: // ended by who writes a record
		if sweep {
			e.pollFilesLocked()
		}
	}
	return time.Time{}
}

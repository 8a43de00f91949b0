package httpauth

import (
	"errors"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

const (
	// After a failure the watch is tried again, first soon and then less and less often.
	firstRetry, lastRetry = 100 * time.Millisecond, 30 * time.Second
	// minWatch is less than any watch takes that really waits. An agent that answers faster, and has nothing to say, must not be
	// asked in a loop.
	minWatch = 10 * time.Millisecond
)

// startWatchLocked starts the watch as soon as there is something in the cache. The caller holds a.mu.
func (a *Agent) startWatchLocked() {
	w, ok := a.agent.(protocol.Watcher)
	if !ok || a.watching || a.closed {
		return
	}
	a.watching = true
	a.work.Go(func() { a.watch(w) })
}

// watch makes the cache invalid whenever the agent says that the profile has changed, until Close.
func (a *Agent) watch(w protocol.Watcher) {
	var known uint64
	delay := firstRetry
	for {
		began := time.Now()
		reply, err := w.Watch(a.ctx, protocol.WatchRequest{Profile: a.profile, Known: known})
		switch {
		case a.ctx.Err() != nil:
			return
		case err == nil && reply.Version != known:
			a.invalidate(known != 0)
			known, delay = reply.Version, firstRetry
			continue
		case err == nil && time.Since(began) >= minWatch:
			continue
		case err != nil:
			known = 0
			a.watchFailed(err)
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-a.ctx.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, lastRetry)
	}
}

// invalidate makes the cache invalid, and the answers to calls that are running. changed says that the profile is known to have
// changed. Otherwise nobody watched until now: the tokens in the cache are asked for again, and serve if the agent can't be
// reached.
func (a *Agent) invalidate(changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation++
	a.watched = true
	if changed {
		clear(a.cache)
	}
	for _, c := range a.cache {
		c.until = time.Time{}
	}
}

// watchFailed limits how long tokens are cached from now on, because nobody tells us any more that they have changed. If the
// agent says that it does not know the profile any more, that is a change.
func (a *Agent) watchFailed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watched = false
	// An older agent answers with an internal error, and a restricted socket with denied. That says nothing about the profile.
	if !isAway(err) && !errors.Is(err, protocol.ErrLocked) && !errors.Is(err, protocol.ErrDenied) &&
		protocol.CodeOf(err) != protocol.CodeInternal {
		a.generation++
		clear(a.cache)
	}
	end := wall().Add(maxUnwatched)
	for _, c := range a.cache {
		c.until = earlier(c.until, end)
	}
}

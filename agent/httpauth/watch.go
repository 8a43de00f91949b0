package httpauth

import (
	"errors"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

const (
	firstRetry, lastRetry = 100 * time.Millisecond, 30 * time.Second
	// soon is what no watch that waits takes: an agent that answers faster, and has nothing to say, is not asked in a loop.
	soon = 10 * time.Millisecond
)

// listen starts the listener once there is something to be told about. a.mu is held.
func (a *Agent) listen() {
	w, ok := a.agent.(protocol.Watcher)
	if !ok || a.watching || a.closed {
		return
	}
	a.watching = true
	a.work.Go(func() { a.follow(w) })
}

// follow drops what is kept whenever the agent says that it changed, until Close.
func (a *Agent) follow(w protocol.Watcher) {
	var known uint64
	delay := firstRetry
	for {
		began := time.Now()
		reply, err := w.Watch(a.living, protocol.WatchRequest{Profile: a.profile, Known: known})
		switch {
		case a.living.Err() != nil:
			return
		case err == nil && reply.Version != known:
			a.changed(known != 0)
			known, delay = reply.Version, firstRetry
			continue
		case err == nil && time.Since(began) >= soon:
			continue
		case err != nil:
			known = 0
			a.lost(err)
		}
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-a.living.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, lastRetry)
	}
}

// changed makes what is kept, and what is being asked, void. Where it is not sure that anything changed, because nobody
// listened so far, what is kept is asked for anew, and serves should the agent be gone by then.
func (a *Agent) changed(sure bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	a.watched = true
	if sure {
		clear(a.leases)
	}
	for _, l := range a.leases {
		l.until = time.Time{}
	}
}

// lost bounds what is kept from now on: nobody says any more that it changed. An agent that knows the profile no longer has
// said so.
func (a *Agent) lost(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watched = false
	// An older agent (an internal error) and a restricted socket (denied) never say so.
	if !away(err) && !errors.Is(err, protocol.ErrLocked) && !errors.Is(err, protocol.ErrDenied) &&
		protocol.CodeOf(err) != protocol.CodeInternal {
		a.epoch++
		clear(a.leases)
	}
	end := wall().Add(unwatched)
	for _, l := range a.leases {
		l.until = earlier(l.until, end)
	}
}

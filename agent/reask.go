package agent

import (
	"context"
	"time"

	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// A tool whose token was refused runs its helper again at once, and says nothing of why. So a tool that asks again while its own
// cache should still have what it was given is taken to have been refused, and gets a renewed token. That is a guess, so it is
// made once in a while for each profile. Those who ask have no say in how often.

const (
	// reaskPause is how long after one guess there is no other.
	reaskPause = 4 * time.Minute
	// maxConsumers bounds what is remembered of one profile.
	maxConsumers = 64
)

// reasks is what a profile remembers of those who want a re-ask noticed.
type reasks struct {
	given   map[process.ID]given
	renewed time.Time // when a re-ask was last taken for a refusal
}

// given is the token that a consumer got last.
type given struct {
	at    time.Time
	token protocol.Secret
}

// note remembers what a consumer gets. Of too many, the one who asked longest ago is forgotten.
func (r *reasks) note(consumer process.ID, token protocol.Secret, now time.Time) {
	if r.given == nil {
		r.given = map[process.ID]given{}
	}
	if len(r.given) >= maxConsumers {
		var oldest process.ID
		for c, g := range r.given {
			if o, ok := r.given[oldest]; !ok || g.at.Before(o.at) {
				oldest = c
			}
		}
		delete(r.given, oldest)
	}
	r.given[consumer] = given{now, token}
}

// refused reports whether a consumer that asks at now is to be taken to have been refused the token, and remembers that it was.
func (r *reasks) refused(consumer process.ID, token protocol.Secret, window time.Duration, now time.Time) bool {
	last, known := r.given[consumer]
	if !known || last.token.Reveal() != token.Reveal() || now.Sub(last.at) >= window ||
		now.Sub(r.renewed) < max(window, reaskPause) {
		return false
	}
	r.renewed = now
	return true
}

// reasked answers a request that wants a re-ask noticed.
func (e *entry) reasked(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	consumer, known := process.Consumer(server.PeerOf(ctx).PID)
	now := e.agent.now()
	if known && e.refused(consumer, req.ReaskWindow, now) {
		e.agent.log.Info("asked again for a token that was just given: renewing it", "profile", e.name(), "pid", consumer.PID)
		forced := req
		forced.Force, forced.Since = true, now
		cached, err := e.token(ctx, forced)
		if err != nil { // the guess may be wrong, so the token that lives is given nevertheless
			var t protocol.Token
			if cached, oldErr := e.token(ctx, req); oldErr == nil {
				if t, oldErr = cached.token(); oldErr == nil {
					t.Notice = "asked again so soon, the token was probably refused, and there is no other: " + err.Error()
					return t, nil
				}
			}
			return t, err
		}
		return e.give(consumer, cached)
	}
	cached, err := e.token(ctx, req)
	if err != nil {
		return protocol.Token{}, err
	}
	if !known {
		return cached.token()
	}
	return e.give(consumer, cached)
}

// give returns the token, and remembers that a consumer gets it.
func (e *entry) give(consumer process.ID, cached *cachedToken) (protocol.Token, error) {
	t, err := cached.token()
	if err != nil {
		return t, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reasks.note(consumer, t.Value, e.agent.now())
	return t, nil
}

// refused reports whether a consumer is to be taken to have been refused the cached token, and remembers that it was.
func (e *entry) refused(consumer process.ID, window time.Duration, now time.Time) bool {
	cached := e.cached.Load()
	if cached == nil {
		return false
	}
	t, err := cached.token()
	if err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// So soon after a renewal a forced one would bring the same token. The next refusal is still to come.
	return now.Sub(e.lastRenewal) >= freshRenewal && e.reasks.refused(consumer, t.Value, window, now)
}

package agent

import (
	"context"
	"time"

	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// A tool whose token was refused runs its helper again at once, and says nothing of why. So who asks again while its own cache
// should still hold what it was given is taken to have been refused, and gets a renewed token. That is a guess, so for one
// profile it is made once in a while: how long that is is not for those who ask to say.

// given is what a consumer got last.
type given struct {
	at    time.Time
	token protocol.Secret
}

// reaskWindow is how long after one guess there is no other.
const reaskWindow = 4 * time.Minute

// maxConsumers bounds what is remembered of one profile.
const maxConsumers = 64

// reasked is token for a request that wants a re-ask noticed.
func (e *entry) reasked(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	who, known := process.Consumer(server.PeerOf(ctx).PID)
	now := e.agent.now()
	if known && e.refused(who, req.ReaskWindow, now) {
		e.agent.log.Info("asked again for a token that was just given: renewing it", "profile", e.name(), "pid", who.PID)
		forced := req
		forced.Force, forced.Since = true, now
		h, err := e.token(ctx, forced)
		if err != nil { // a guess must not cost what still lives
			var t protocol.Token
			if h, stale := e.token(ctx, req); stale == nil {
				if t, stale = h.token(); stale == nil {
					t.Notice = "asked again so soon, the token was probably refused, and there is no other: " + err.Error()
					return t, nil
				}
			}
			return t, err
		}
		return e.give(who, h)
	}
	h, err := e.token(ctx, req)
	if err != nil {
		return protocol.Token{}, err
	}
	if !known {
		return h.token()
	}
	return e.give(who, h)
}

// give notes what a consumer gets.
func (e *entry) give(who process.ID, h *hand) (protocol.Token, error) {
	t, err := h.token()
	if err != nil {
		return t, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.given == nil {
		e.given = map[process.ID]given{}
	}
	if len(e.given) >= maxConsumers {
		var oldest process.ID
		for c, g := range e.given {
			if o, ok := e.given[oldest]; !ok || g.at.Before(o.at) {
				oldest = c
			}
		}
		delete(e.given, oldest)
	}
	e.given[who] = given{e.agent.now(), t.Value}
	return t, nil
}

// refused reports whether a consumer's token is to be taken as refused, and notes that it was.
func (e *entry) refused(who process.ID, window time.Duration, now time.Time) bool {
	h := e.hand.Load()
	if h == nil {
		return false
	}
	t, err := h.token()
	if err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	last, ok := e.given[who]
	if now.Sub(e.lastRenewal) < settled { // a forced renewal would bring the same: that is for a refusal to come
		return false
	}
	if !ok || last.token.Reveal() != t.Value.Reveal() || now.Sub(last.at) >= window ||
		now.Sub(e.reaskedAt) < max(window, reaskWindow) {
		return false
	}
	e.reaskedAt = now
	return true
}

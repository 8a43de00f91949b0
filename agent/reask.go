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
type handedOut struct {
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
	if known && e.tokenRefused(who, req.ReaskWindow, now) {
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
		return e.noteHandedOut(who, h)
	}
	h, err := e.token(ctx, req)
	if err != nil {
		return protocol.Token{}, err
	}
	if !known {
		return h.token()
	}
	return e.noteHandedOut(who, h)
}

// give notes what a consumer gets.
func (e *entry) noteHandedOut(who process.ID, h *cachedToken) (protocol.Token, error) {
	t, err := h.token()
	if err != nil {
		return t, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.handedOut == nil {
		e.handedOut = map[process.ID]handedOut{}
	}
	if len(e.handedOut) >= maxConsumers {
		var oldest process.ID
		for c, g := range e.handedOut {
			if o, ok := e.handedOut[oldest]; !ok || g.at.Before(o.at) {
				oldest = c
			}
		}
		delete(e.handedOut, oldest)
	}
	e.handedOut[who] = handedOut{e.agent.now(), t.Value}
	return t, nil
}

// refused reports whether a consumer's token is to be taken as refused, and notes that it was.
func (e *entry) tokenRefused(who process.ID, window time.Duration, now time.Time) bool {
	h := e.cached.Load()
	if h == nil {
		return false
	}
	t, err := h.token()
	if err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	last, ok := e.handedOut[who]
	if now.Sub(e.lastRenewal) < freshRenewal { // a forced renewal would bring the same: that is for a refusal to come
		return false
	}
	if !ok || last.token.Reveal() != t.Value.Reveal() || now.Sub(last.at) >= window ||
		now.Sub(e.reaskedAt) < max(window, reaskWindow) {
		return false
	}
	e.reaskedAt = now
	return true
}

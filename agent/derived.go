package agent

import (
	"bytes"
	"context"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// A derived token is a token of a profile's sign-in that is not its access token. It is in memory alone, and only as long as the
// access token that was cached when it was asked for: so a sign-out, another sign-in and a lock end it too.

const (
	// maxDerived bounds the derived tokens of a profile. The one that was asked for longest ago makes room.
	maxDerived = 16
	// maxDeriving bounds the workers that bring derived tokens of a profile at a time. Whoever asks for one more waits.
	maxDeriving = 4
	// maxDerivePause bounds how long a derived token is not asked for again after a failure.
	maxDerivePause = 30 * time.Second
)

// deriving is what a profile has of derived tokens. Its map is guarded by the entry's mutex.
type deriving struct {
	last  map[protocol.Derived]*derivation
	slots chan struct{} // one for each worker
}

// derivation is one question for a derived token, under way or answered.
type derivation struct {
	want  protocol.Derived
	of    *cachedToken // the access token that was cached when it was asked
	asked time.Time
	used  time.Time // when a request last wanted it

	done chan struct{} // closed when what follows is set
	// The answer, which does not change.
	token     *cachedToken // nil: there is none
	err       *protocol.Error
	renewable bool // another token comes with the next renewal of the profile
	retry     retry
}

// derivedToken answers a request for a derived token.
func (e *entry) derivedToken(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	own, now := protocol.TokenRequest{}, e.agent.now()
	consumer, again := e.derivedAgain(ctx, req, now)
	if again {
		req.Force, req.Since = true, now
	}
	if last := e.lastDerived(req.Derived); last == nil || !last.serves(req, now) {
		e.agent.reloadIfChanged() // what was refused may be allowed by now
	}
	var d *derivation
	for tries := 1; ; tries++ {
		// The profile's own token comes first: it tells which sign-in is in force, and whether there is one.
		if _, err := e.token(ctx, own); err != nil {
			if last := e.lastDerived(req.Derived); last != nil && last.token.alive(e.agent.now()) && !req.Force {
				return e.giveDerived(consumer, last.token, req)
			}
			return protocol.Token{}, err
		}
		var err error
		if d, err = e.derive(req); err != nil {
			return protocol.Token{}, err
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return protocol.Token{}, waitError(ctx, e.name())
		}
		if tries >= 3 {
			break
		}
		if !sameReply(d.of, e.cached.Load()) {
			continue // it is of a token that is not in force any more
		}
		if own.Force || !d.wantsRenewal(req, e.agent.now()) {
			break
		}
		own.Force, own.Since = true, e.agent.now()
	}
	if d.token.alive(e.agent.now()) {
		return e.giveDerived(consumer, d.token, req)
	}
	if d.err != nil {
		return protocol.Token{}, d.err
	}
	return protocol.Token{}, deadToken()
}

// wantsRenewal reports whether a renewal of the profile's own token may bring what d did not: another ID token, or an access
// token that the provider takes.
func (d *derivation) wantsRenewal(req protocol.TokenRequest, now time.Time) bool {
	if d.err != nil {
		return d.renewable
	}
	return d.renewable && !d.serves(req, now)
}

// serves reports whether d's token answers req at now.
func (d *derivation) serves(req protocol.TokenRequest, now time.Time) bool {
	return d.token != nil && d.token.fresh(now, req.MinTTL, req.HalfLife) &&
		(!req.Force || job.IssuedSince(now, d.token.issued, req.Since))
}

// derivedAgain returns for whom req asks, and whether that consumer is to be taken to have been refused the token that it was
// given: see reasks.
func (e *entry) derivedAgain(ctx context.Context, req protocol.TokenRequest, now time.Time) (consumer process.ID, again bool) {
	if req.ReaskWindow <= 0 {
		return process.ID{}, false
	}
	consumer, known := process.Consumer(server.PeerOf(ctx).PID)
	last := e.lastDerived(req.Derived)
	if !known || last == nil || last.token == nil {
		return consumer, false
	}
	t, err := last.token.token()
	if err != nil {
		return consumer, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return consumer, e.reasks.refused(consumer, t.Value, req.ReaskWindow, now)
}

// giveDerived returns the token, with what a person is to know of the sign-in, and remembers that a consumer gets it.
func (e *entry) giveDerived(consumer process.ID, c *cachedToken, req protocol.TokenRequest) (protocol.Token, error) {
	t, err := c.token()
	if err != nil {
		return t, err
	}
	own, now := e.cached.Load(), e.agent.now()
	if own != nil && t.Notice == "" {
		if of, err := own.token(); err == nil {
			t.Notice = of.Notice
		}
	}
	if t.Notice == "" {
		t.Notice = c.shortLifeNotice(e.name(), req.MinTTL, now)
	}
	if own != nil && t.Notice == "" && !req.Quiet {
		t.Notice = e.reminder(own, now)
	}
	if consumer != (process.ID{}) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.reasks.note(consumer, t.Value, now)
	}
	return t, nil
}

// lastDerived returns the last answer to the same question, nil if there is none.
func (e *entry) lastDerived(want protocol.Derived) *derivation {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deriving == nil {
		return nil
	}
	if d := e.deriving.last[want]; d != nil && d.answered() {
		return d
	}
	return nil
}

func (d *derivation) answered() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// derive returns the derivation that answers a request: the last one, the one under way, or a new one.
func (e *entry) derive(req protocol.TokenRequest) (*derivation, error) {
	now := e.agent.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.droppedLocked() {
		return nil, noProfile(e.name())
	}
	own := e.cached.Load()
	if own == nil { // it was dropped meanwhile
		return nil, &protocol.Error{Code: protocol.CodeUnavailable, Hint: "try again",
			Message: "the token of profile " + e.name() + " was just dropped"}
	}
	if e.deriving == nil {
		e.deriving = &deriving{last: map[protocol.Derived]*derivation{}, slots: make(chan struct{}, maxDeriving)}
	}
	last := e.deriving.last[req.Derived]
	if last != nil && !sameReply(last.of, own) {
		last = nil
	}
	if last != nil {
		last.used = now
		pause := !last.answered() || now.Sub(last.asked) < minPause || last.err != nil && !req.Force && now.Before(last.retry.at)
		byRenewal := last.err == nil && last.renewable // only a renewal brings another
		if pause || byRenewal || last.serves(req, now) {
			return last, nil
		}
		if req.Force {
			if next, empty := e.budget.empty(now); empty {
				return nil, e.budgetError(next)
			}
			e.budget.spend(now)
		}
	}
	return e.startDerivingLocked(req.Derived, own, last, now), nil
}

// startDerivingLocked has a worker bring a derived token. last is the answer to the same question before, nil if there was none.
func (e *entry) startDerivingLocked(want protocol.Derived, own *cachedToken, last *derivation, now time.Time) *derivation {
	d := &derivation{want: want, of: own, asked: now, used: now, done: make(chan struct{})}
	if last != nil {
		d.retry.fails = last.retry.fails
	}
	j := e.fillLocked(job.Job{Op: job.Derive, Derived: want})
	if t, err := own.token(); err == nil {
		j.Token = t.Value
	}
	all := e.deriving
	all.last[want] = d
	all.dropOldest()
	e.agent.work.Go(func() {
		all.slots <- struct{}{}
		report, err := e.agent.opts.Runner.Run(context.Background(), j, func(job.Result) {})
		<-all.slots
		if err != nil {
			report.Err = asError(err)
		}
		e.finishDeriving(d, report)
	})
	return d
}

// dropOldest forgets the answer that was wanted longest ago, while there are too many.
func (g *deriving) dropOldest() {
	for len(g.last) > maxDerived {
		var oldest *derivation
		for _, d := range g.last {
			if d.answered() && (oldest == nil || d.used.Before(oldest.used)) {
				oldest = d
			}
		}
		if oldest == nil {
			return // all of them are under way
		}
		delete(g.last, oldest.want)
	}
}

// finishDeriving takes the answer.
func (e *entry) finishDeriving(d *derivation, report job.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, now := report.Result, e.agent.now()
	d.err, d.renewable = report.Err, r.Renewable
	if d.err == nil && !r.Token.Empty() {
		t := protocol.Token{Profile: e.name(), Value: r.Token, Expiry: r.Expiry, Kind: r.Kind, Notice: r.Notice,
			Username: e.profile.Load().Username, Derived: true}
		d.token = &cachedToken{expiry: r.Expiry, issued: r.Issued, kind: interned(r.Kind), notice: t.Notice != "",
			reply: protocol.AppendToken(nil, t)}
	}
	if d.err != nil {
		d.retry.failed(now, maxDerivePause)
		if report.RetryAfter > 0 {
			d.retry.at = now.Add(min(report.RetryAfter, time.Hour))
		}
		e.agent.log.Warn("no derived token", "profile", e.name(), "error", d.err.Message, "code", d.err.Code)
	}
	close(d.done)
	if e.deriving != nil && e.deriving.last[d.want] == d && !sameReply(d.of, e.cached.Load()) {
		delete(e.deriving.last, d.want) // the agent was locked meanwhile, or the sign-in is another one
	}
}

// sameReply reports whether two cached tokens are one and the same; nil is none.
func sameReply(a, b *cachedToken) bool { return a != nil && b != nil && bytes.Equal(a.reply, b.reply) }

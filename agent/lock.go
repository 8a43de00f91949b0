package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// After a wrong passphrase the next is refused for firstRefusal, after each further one for twice as long, up to lastRefusal.
const (
	firstRefusal = time.Second
	lastRefusal  = time.Minute
)

// lockState is whether the agent is locked, and what unlocks it. The lock is on credentials; it has nothing to do with a mutex.
type lockState struct {
	on   atomic.Bool // nothing is served
	keys identityKeys

	commands   sync.Mutex // one lock or unlock at a time; held across a job
	passphrase *verifier  // the one that the agent was locked with; nil: none
	fails      int        // wrong passphrases in a row
	nextTry    time.Time  // no passphrase is taken before
}

// keepsAgent reports whether the agent must not end by itself. The agent that follows it is not locked, and has no keys: so
// whoever locked this one would find it open, and whoever unlocked an identity would find it locked.
func (l *lockState) keepsAgent() bool { return l.on.Load() || l.keys.anyOpen() }

// countWrong counts a wrong passphrase, and returns the error.
func (l *lockState) countWrong(now time.Time, message string) error {
	wait := min(firstRefusal<<min(l.fails, 16), lastRefusal)
	l.fails++
	l.nextTry = now.Add(wait)
	return &protocol.Error{
		Code:    protocol.CodeDenied,
		Message: strings.TrimSuffix(message, "."),
		Hint:    fmt.Sprintf("try again in %s: ccagent unlock", wait),
	}
}

// lockedError is the answer to those who ask a locked agent; nil while it is not locked.
func (a *Agent) lockedError() error {
	if !a.lockState.on.Load() {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeLocked, Message: "the agent is locked", Hint: "unlock it: ccagent unlock"}
}

// Lock does what [protocol.CommandLock] says. It may be called at any time. An agent that is locked already stays as it is, and
// refuses a passphrase (ErrLocked).
func (a *Agent) Lock(passphrase protocol.Secret) error {
	_, err := a.lock(passphrase)
	return err
}

// lock is Lock. It returns a line for the person as well.
func (a *Agent) lock(passphrase protocol.Secret) (string, error) {
	l := &a.lockState
	l.commands.Lock()
	defer l.commands.Unlock()
	if l.on.Load() {
		if passphrase.Empty() {
			return "", nil
		}
		return "", &protocol.Error{Code: protocol.CodeLocked, Message: "the agent is locked already, and keeps what unlocks it",
			Hint: "unlock it first: ccagent unlock"}
	}
	l.passphrase = nil
	if !passphrase.Empty() {
		v, err := newVerifier(passphrase)
		if err != nil {
			return "", err
		}
		l.passphrase = v
	}
	l.on.Store(true) // before tokens are forgotten, so that a job that ends now caches none
	l.keys.lock()
	unsaved := a.forgetSaveKeys()
	for _, e := range a.table.Load().byName {
		e.forgetCredentials()
	}
	a.hideViews(func(e *entry) bool { return e.profile.Load().Shown })
	a.log.Info("locked")
	a.wakeClock()
	if unsaved == nil {
		return "", nil
	}
	return "what opens store encrypted is kept until the record of " + strings.Join(unsaved, ", ") +
		" is saved: see ccagent status", nil
}

// unlock does what [protocol.CommandUnlock] says. It returns a line for the person as well.
func (a *Agent) unlock(ctx context.Context, req protocol.ControlRequest) (string, error) {
	l := &a.lockState
	l.commands.Lock()
	defer l.commands.Unlock()
	now := a.now()
	if wait := l.nextTry.Sub(now); wait > 0 && !req.Passphrase.Empty() {
		wait = (wait + time.Second - 1).Truncate(time.Second)
		return "", &protocol.Error{
			Code: protocol.CodeDenied, Message: "a wrong passphrase was given: the next one is taken in " + wait.String(),
		}
	}
	locked := l.on.Load()
	if locked && l.passphrase != nil {
		if req.Passphrase.Empty() {
			return "", &protocol.Error{Code: protocol.CodeLocked, Message: "the agent is locked with a passphrase",
				Hint: "unlock it: ccagent unlock"}
		}
		if !l.passphrase.matches(req.Passphrase) {
			return "", l.countWrong(now, "the passphrase is not the one that the agent was locked with")
		}
	}
	opened, left := a.openIdentities(ctx, req)
	if left != nil && len(opened) == 0 {
		// The agent's own passphrase ends the lock; identities can be unlocked afterwards. So can those that no passphrase would
		// open at the moment.
		agentAlone := locked && req.NewPassphrase.Empty()
		switch {
		case left.Code == protocol.CodeDenied && !(agentAlone && l.passphrase != nil):
			return "", l.countWrong(now, left.Message)
		case left.Code == protocol.CodeLocked && !(agentAlone && l.passphrase != nil), !agentAlone:
			return "", left
		}
	}
	l.fails, l.nextTry, l.passphrase = 0, time.Time{}, nil
	l.keys.add(opened)
	l.on.Store(false)
	for _, e := range a.table.Load().byName {
		e.retryAfterUnlock()
	}
	a.log.Info("unlocked", "identities", len(opened))
	a.wakeClock()
	switch {
	case left != nil:
		return "store encrypted is still locked: " + left.Message, nil
	case req.For > 0 && len(opened) == 0:
		return "no store of yours needs a passphrase, so there is nothing to be locked again", nil
	}
	return "", nil
}

// forgetCredentials forgets what can be loaded again once the agent, or the identity, is unlocked.
func (e *entry) forgetCredentials() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropTokenLocked()
	e.identity, e.failure, e.renewAt = nil, nil, time.Time{}
	e.saveNowLocked()
	e.bumpVersionLocked()
}

// retryAfterUnlock lets the next request try again what was refused for want of a key.
func (e *entry) retryAfterUnlock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure != nil && e.failure.err.Code == protocol.CodeLocked {
		e.failure = nil
	}
	e.saveNowLocked()
	e.bumpVersionLocked()
}

// saveNowLocked ends the pause before an unsaved record is saved again.
func (e *entry) saveNowLocked() {
	if e.unsaved != nil {
		e.unsaved.at = e.agent.now()
	}
}

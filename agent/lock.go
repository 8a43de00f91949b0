package agent

import (
	"cmp"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// After a wrong passphrase the next is refused for firstRefusal, after each further one for twice as long, up to lastRefusal.
const (
	firstRefusal = time.Second
	lastRefusal  = time.Minute
)

// locking is what is locked, and what was unlocked.
type lockState struct {
	on atomic.Bool // nothing is served

	oneAtATime sync.Mutex // one lock or unlock at a time; held across a job
	own        *verifier  // of the passphrase that Lock was given; nil: none
	fails      int        // wrong passphrases in a row
	nextTry    time.Time  // no other before

	mu       sync.Mutex // guards what follows, and is never held for long
	keys     map[string]unlocked
	saveKeys map[string]protocol.Secret // forgotten, but for the saving of records that no store has yet
}

// unlocked is an identity of store encrypted.
type unlocked struct {
	key   protocol.Secret
	since time.Time
	idle  time.Duration // how long it is kept without a use; 0: no limit
}

// key returns what opens an identity's records to a job of that kind; empty: it is locked, or needs none.
func (l *lockState) keyFor(identity string, op job.Op) protocol.Secret {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u, open := l.keys[identity]; open || op != job.Save && op != job.Spill {
		return u.key
	}
	return l.saveKeys[identity]
}

// holds reports whether an agent that ends would leave things more open, or more closed, than they are.
func (l *lockState) keepsAgent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.on.Load() || len(l.keys) > 0
}

// verifier knows a passphrase again without holding it.
type verifier struct {
	salt [16]byte
	hash []byte
}

func newVerifier(p protocol.Secret) (*verifier, error) {
	v := &verifier{}
	rand.Read(v.salt[:]) // never fails
	var err error
	v.hash, err = v.derive(p)
	return v, err
}

// derive costs some tenths of a second and no memory to speak of: the agent's is small.
func (v *verifier) derive(p protocol.Secret) ([]byte, error) {
	return pbkdf2.Key(sha256.New, p.Reveal(), v.salt[:], 600_000, sha256.Size)
}

func (v *verifier) matches(p protocol.Secret) bool {
	hash, err := v.derive(p)
	return err == nil && subtle.ConstantTimeCompare(hash, v.hash) == 1
}

// refusesLocked is the answer to who asks a locked agent; nil while it is not.
func (a *Agent) lockedError() error {
	if !a.lockState.on.Load() {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeLocked, Message: "the agent is locked", Hint: "unlock it: ccagent unlock"}
}

// Lock does what [protocol.CommandLock] says. It may be called at any time; a locked agent stays as it is, and refuses a
// passphrase (ErrLocked).
func (a *Agent) Lock(passphrase protocol.Secret) error {
	_, err := a.lock(passphrase)
	return err
}

// lock is Lock. What it returns is a line for the person.
func (a *Agent) lock(passphrase protocol.Secret) (string, error) {
	l := &a.lockState
	l.oneAtATime.Lock()
	defer l.oneAtATime.Unlock()
	if l.on.Load() {
		if passphrase.Empty() {
			return "", nil
		}
		return "", &protocol.Error{Code: protocol.CodeLocked, Message: "the agent is locked already, and keeps what unlocks it",
			Hint: "unlock it first: ccagent unlock"}
	}
	l.own = nil
	if !passphrase.Empty() {
		own, err := newVerifier(passphrase)
		if err != nil {
			return "", err
		}
		l.own = own
	}
	l.on.Store(true) // before tokens are forgotten: what lands from here on is not taken in hand
	l.mu.Lock()
	if l.saveKeys == nil {
		l.saveKeys = map[string]protocol.Secret{}
	}
	for identity, u := range l.keys {
		l.saveKeys[identity] = u.key
	}
	l.keys = nil
	l.mu.Unlock()
	unsaved := a.forgetSaveKeys()
	for _, e := range a.table.Load().byName {
		e.forgetForLock()
	}
	a.log.Info("locked")
	a.wakeClock()
	if unsaved == nil {
		return "", nil
	}
	return "what opens store encrypted is kept until the record of " + strings.Join(
		unsaved,
		", ",
	) + " is saved: see ccagent status", nil
}

// forgetKept forgets the kept keys that no record waits for, and returns the names of the profiles whose records do.
func (a *Agent) forgetSaveKeys() (unsaved []string) {
	l := &a.lockState
	l.mu.Lock()
	kept := maps.Clone(l.saveKeys) // see forgetUnused
	l.mu.Unlock()
	for identity := range kept {
		needed := false
		for _, e := range a.table.Load().byName {
			if e.profile.Load().Identity != identity {
				continue
			}
			e.mu.Lock()
			if e.saveRetry != nil {
				unsaved = append(unsaved, e.name())
			}
			needed = needed || e.saveRetry != nil || e.running != nil // which may bring a record that can't be saved
			e.mu.Unlock()
		}
		if !needed {
			l.mu.Lock()
			delete(l.saveKeys, identity)
			l.mu.Unlock()
		}
	}
	return unsaved
}

// lock forgets what can be loaded again.
func (e *entry) forgetForLock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropTokenLocked()
	e.identity, e.failure, e.renewAt = nil, nil, time.Time{}
	if e.saveRetry != nil {
		e.saveRetry.at = e.agent.now()
	}
	e.bumpVersionLocked()
}

// unlock does what [protocol.CommandUnlock] says. What it returns is a line for the person.
func (a *Agent) unlock(ctx context.Context, req protocol.ControlRequest) (string, error) {
	l := &a.lockState
	l.oneAtATime.Lock()
	defer l.oneAtATime.Unlock()
	now := a.now()
	if wait := l.nextTry.Sub(now); wait > 0 && !req.Passphrase.Empty() {
		return "", &protocol.Error{
			Code: protocol.CodeDenied,
			Message: "a wrong passphrase was given: the next one is taken in " + (wait + time.Second - 1).Truncate(time.Second).
				String(),
		}
	}
	locked := l.on.Load()
	switch {
	case !locked || l.own == nil:
	case req.Passphrase.Empty():
		return "", &protocol.Error{
			Code:    protocol.CodeLocked,
			Message: "the agent is locked with a passphrase",
			Hint:    "unlock it: ccagent unlock",
		}
	case !l.own.matches(req.Passphrase):
		return "", l.countWrong(now, "the passphrase is not the one that the agent was locked with")
	}

	opened, left := a.open(ctx, req)
	switch {
	case left == nil, len(opened) > 0:
	case locked && l.own != nil && req.NewPassphrase.Empty(): // enough to end the lock; the rest can be unlocked on its own
	case left.Code == protocol.CodeDenied:
		return "", l.countWrong(now, left.Message)
	case locked && left.Code != protocol.CodeLocked && req.NewPassphrase.Empty(): // nothing that a passphrase would mend
	default:
		return "", left
	}
	l.fails, l.nextTry, l.own = 0, time.Time{}, nil
	l.mu.Lock()
	if l.keys == nil {
		l.keys = map[string]unlocked{}
	}
	maps.Copy(l.keys, opened)
	l.mu.Unlock()
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

// unlock lets the next request try again what was refused for want of a key.
func (e *entry) retryAfterUnlock() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure != nil && e.failure.err.Code == protocol.CodeLocked {
		e.failure = nil
	}
	if e.saveRetry != nil {
		e.saveRetry.at = e.agent.now()
	}
	e.bumpVersionLocked()
}

// open has workers open each identity with the passphrase, and returns those that needed it, and why another stays locked.
func (a *Agent) open(ctx context.Context, req protocol.ControlRequest) (opened map[string]unlocked, left *protocol.Error) {
	byIdentity := map[string]*Profile{}
	for _, e := range a.table.Load().byName {
		// The profile that is known to need it speaks for its identity, and the identity's errors name it.
		if p := e.profile.Load(); p.Identity != "" && (byIdentity[p.Identity] == nil || p.Store == "encrypted") {
			byIdentity[p.Identity] = p
		}
	}
	opened = map[string]unlocked{}
	for _, identity := range slices.Sorted(maps.Keys(byIdentity)) {
		p := byIdentity[identity]
		report, err := a.opts.Runner.Run(context.WithoutCancel(ctx), job.Job{
			Build: a.opts.Build, Op: job.Unlock, Profile: p.Name, Settings: p.Settings,
			Force: req.Force, Passphrase: req.Passphrase, NewPassphrase: req.NewPassphrase,
		}, func(job.Result) {})
		if err == nil && report.Err != nil {
			err = report.Err
		}
		switch {
		case err != nil:
			left = cmp.Or(left, asError(err))
		case !report.Result.Key.Empty():
			opened[identity] = unlocked{key: report.Result.Key, since: a.now(), idle: req.For}
		}
	}
	return opened, left
}

// wrong counts a wrong passphrase.
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

// forgetUnused locks the identities that nothing has needed for as long as they may be kept, and says when to look again
// (zero: no need). One that something unsaved waits for is kept.
func (a *Agent) lockUnusedKeys(now time.Time) (next time.Time) {
	l := &a.lockState
	l.mu.Lock()
	keys := maps.Clone(l.keys) // a job's start asks for a key, with its entry's mutex held
	l.mu.Unlock()
	for identity, u := range keys {
		if u.idle <= 0 {
			continue
		}
		used, needed := u.since, false
		var users []*entry
		for _, e := range a.table.Load().byName {
			if e.profile.Load().Identity != identity || !e.encrypted() {
				continue
			}
			users = append(users, e)
			if at := time.Unix(e.lastUsed.Load(), 0); at.After(used) {
				used = at
			}
			needed = needed || e.aloneHasRecord() || e.busy()
		}
		at := used.Add(u.idle)
		switch {
		case now.Before(at):
		case needed:
			at = now.Add(minPause)
		default:
			l.mu.Lock()
			delete(l.keys, identity)
			l.mu.Unlock()
			for _, e := range users {
				e.forgetForLock()
			}
			a.log.Info("locked an identity that nothing has needed", "for", u.idle)
			continue
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// encrypted reports whether the profile's record rests, or would rest, in store encrypted.
func (e *entry) encrypted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.place.store == "encrypted" || e.place.store == "" && e.profile.Load().Store == "encrypted"
}

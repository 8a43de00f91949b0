package agent

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// identityKeys are the keys that open store encrypted, by the identities that they belong to.
type identityKeys struct {
	mu        sync.Mutex                 // locked with or without an entry's mutex held, so no entry's is locked under it
	open      map[string]unlocked        // of unlocked identities
	forSaving map[string]protocol.Secret // of locked ones, while an unsaved record waits to be encrypted; good for nothing else
}

// unlocked is the key of an unlocked identity.
type unlocked struct {
	key   protocol.Secret
	since time.Time
	idle  time.Duration // it is forgotten after so long without a use; 0: never
}

// of returns the key of an identity for a job of that kind. It is empty where the identity is locked, or needs none.
func (k *identityKeys) of(identity string, op job.Op) protocol.Secret {
	k.mu.Lock()
	defer k.mu.Unlock()
	if u, open := k.open[identity]; open || op != job.Save && op != job.Spill {
		return u.key
	}
	return k.forSaving[identity]
}

func (k *identityKeys) add(opened map[string]unlocked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open == nil {
		k.open = map[string]unlocked{}
	}
	maps.Copy(k.open, opened)
}

// lock locks all identities. Their keys are kept for saving until forgetSaveKeys finds that nobody needs them.
func (k *identityKeys) lock() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.forSaving == nil {
		k.forSaving = map[string]protocol.Secret{}
	}
	for identity, u := range k.open {
		k.forSaving[identity] = u.key
	}
	k.open = nil
}

func (k *identityKeys) anyOpen() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open) > 0
}

// copies returns copies of both maps, for those who go on to lock entries.
func (k *identityKeys) copies() (open map[string]unlocked, forSaving map[string]protocol.Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.open), maps.Clone(k.forSaving)
}

// openIdentities has workers open each identity with the passphrase. It returns those that needed it, and why another stays
// locked.
func (a *Agent) openIdentities(ctx context.Context, req protocol.ControlRequest) (
	opened map[string]unlocked, left *protocol.Error,
) {
	byIdentity := map[string]*Profile{}
	for _, e := range a.table.Load().byName {
		// A profile that is known to need the identity is preferred, because errors name the profile.
		if p := e.profile.Load(); p.Identity != "" && (byIdentity[p.Identity] == nil || p.Store == storeEncrypted) {
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

// forgetSaveKeys forgets the keys for saving that no record waits for, and returns the profiles whose records do.
func (a *Agent) forgetSaveKeys() (unsaved []string) {
	keys := &a.lockState.keys
	_, forSaving := keys.copies()
	for identity := range forSaving {
		needed := false
		for _, e := range a.table.Load().byName {
			if e.profile.Load().Identity != identity {
				continue
			}
			e.mu.Lock()
			if e.unsaved != nil {
				unsaved = append(unsaved, e.name())
			}
			needed = needed || e.unsaved != nil || e.running != nil // a job under way may bring a record that can't be saved
			e.mu.Unlock()
		}
		if !needed {
			keys.mu.Lock()
			delete(keys.forSaving, identity)
			keys.mu.Unlock()
		}
	}
	return unsaved
}

// lockUnusedKeys locks the identities that nothing has used for as long as their keys may be kept, and says when to call it again
// (zero: no need). An identity that an unsaved record waits for stays unlocked.
func (a *Agent) lockUnusedKeys(now time.Time) (next time.Time) {
	keys := &a.lockState.keys
	open, _ := keys.copies()
	for identity, u := range open {
		if u.idle <= 0 {
			continue
		}
		users, used, needed := a.usersOf(identity)
		if used.Before(u.since) {
			used = u.since
		}
		at := used.Add(u.idle)
		if !now.Before(at) && needed {
			at = now.Add(minPause)
		}
		if now.Before(at) {
			next = earliest(next, at)
			continue
		}
		keys.mu.Lock()
		delete(keys.open, identity)
		keys.mu.Unlock()
		for _, e := range users {
			e.forgetCredentials()
		}
		a.log.Info("locked an identity that nothing has needed", "for", u.idle)
	}
	return next
}

// usersOf returns the profiles whose records are encrypted to an identity, when one of them was last asked for, and whether one
// has a record in memory or a job under way.
func (a *Agent) usersOf(identity string) (users []*entry, used time.Time, needed bool) {
	for _, e := range a.table.Load().byName {
		if e.profile.Load().Identity != identity || !e.encrypted() {
			continue
		}
		users = append(users, e)
		used = latest(used, time.Unix(e.lastUsed.Load(), 0))
		needed = needed || e.aloneHasRecord() || e.busy()
	}
	return users, used, needed
}

// encrypted reports whether the profile's record rests in store encrypted, or would be stored there.
func (e *entry) encrypted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.place.store == storeEncrypted || e.place.store == "" && e.profile.Load().Store == storeEncrypted
}

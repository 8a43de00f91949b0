package agent

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

// entry is one profile in the agent.
//
// A request that the cached token answers reads profile, cached, lastUsed and snapshot, without the mutex. All else is guarded by
// mu, which is never held across a job or a look at a file. A method whose name ends in Locked wants mu held.
type entry struct {
	agent    *Agent
	profile  atomic.Pointer[Profile]
	cached   atomic.Pointer[cachedToken] // nil: there is none; changed with mu held
	snapshot atomic.Pointer[snapshot]    // the record's files as they were when base was read; changed with mu held
	lastUsed atomic.Int64                // unix seconds
	reminded atomic.Int64                // when somebody was last told of the sign-in, unix milliseconds; 0: never
	removed  atomic.Bool                 // from the configuration: see droppedLocked
	rests    atomic.Int32                // what of store auto: see undecided

	mu      sync.Mutex
	running *jobRun // the job under way, nil: none

	// The record.
	base    job.Version     // the stored record as a worker last saw it
	lineage string          // which sign-in the cached token is of, as the worker said; "": none is cached
	record  protocol.Secret // the record itself, while no store has it: it is unsaved, or memory is its store
	unsaved *unsaved        // nil: record is not to be saved
	place   place           // what the last job that knew said of the record

	// Views.
	note      string // what the last job found in the files of other programs
	viewRetry *retry // a view is behind: when to write it again; nil: none is
	hides     bool   // views are to be removed, by the next job

	// Renewals.
	failure     *failure  // nil: the last job brought a token
	lastRenewal time.Time // of the sign-in that is in force; zero: never
	budget      budget
	deadTokens  retry     // renewals in a row that brought a token that had expired already
	renewAt     time.Time // when the clock renews; zero: never

	poll poll

	// Who is signed in.
	identifying *jobRun            // the question under way, nil: none
	identity    *protocol.Identity // the last answer, kept here while record is; nil: none

	reasks   reasks
	deriving *deriving // derived tokens; nil: nobody has asked for one
	version  version
}

// unsaved is why and since how many tries a record is not saved yet, and when it is tried again.
type unsaved struct {
	retry
	err *protocol.Error // nil: it was not tried yet
}

// place is where a record is and what it is for, as shown in status.
type place struct {
	store, location, subscription string
	scopes                        []string
}

// failure is why the last job brought no new token.
type failure struct {
	err   *protocol.Error
	at    time.Time
	retry retry
	local bool // nobody but this machine was asked: a request may look again after minPause, whatever retry says
}

func (e *entry) name() string { return e.profile.Load().Name }

// configure gives the profile the settings p. What is known of it stays where they are unchanged. A record that no store has
// stays in any case.
func (e *entry) configure(p *Profile) {
	e.removed.Store(false)
	old := e.profile.Swap(p)
	if old == nil || old.Provider == p.Provider && old.Store == p.Store && old.Username == p.Username &&
		bytes.Equal(old.Settings, p.Settings) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hides = e.hides || old.Shown && !p.Shown // any other job writes and removes views anyway
	e.forgetOldSettingsLocked(old)
}

// forgetOldSettingsLocked forgets what was learned by the settings of old, except a record that no store has.
func (e *entry) forgetOldSettingsLocked(old *Profile) {
	e.failure, e.note = nil, ""
	if e.record.Empty() {
		e.dropTokenLocked()
		e.base, e.place, e.renewAt = job.Version{}, place{}, time.Time{}
		e.rests.Store(restsUnknown)
		e.snapshot.Store(noFiles)
	} else if now := e.profile.Load().Store; now != old.Store && now != e.place.store && now != storeAuto {
		e.base = job.Version{} // it is of the old store: in the new one it would mean a record that has been deleted
	}
}

// aloneHasRecord reports whether no store has this profile's record.
func (e *entry) aloneHasRecord() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.record.Empty()
}

// droppedLocked reports whether the profile was removed from the configuration, and nothing of it is left to be done. A reload
// forgets such an entry, and may make another for the same name: so no job of it may begin any more.
func (e *entry) droppedLocked() bool { return e.removed.Load() && e.running == nil && e.record.Empty() }

// remove notes that the profile was removed from the configuration, and reports whether its entry can be forgotten. Its views
// are removed first.
func (e *entry) remove() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.removed.Swap(true) && e.profile.Load().Shown {
		e.hides = true
	}
	return e.droppedLocked() && !e.hides
}

// busy reports whether a job is under way.
func (e *entry) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running != nil
}

// Where the record of a profile of store auto rests, as far as the last job said so.
const (
	restsUnknown   = iota
	restsInClaude  // in Claude Code's directory
	restsElsewhere // in a store of ours
)

// followsClaudeDir reports whether the environment of Claude Code decides which record this is, or may do so.
func (e *entry) followsClaudeDir() bool {
	p := e.profile.Load()
	return p.Provider == "claude" && p.ConfigDir == "" &&
		(p.Store == storeClaudeCode || p.Store == storeAuto && e.rests.Load() != restsElsewhere)
}

// undecided reports whether a load may find that the record rests in no Claude Code directory.
func (e *entry) undecided() bool {
	return e.profile.Load().Store == storeAuto && e.rests.Load() == restsUnknown
}

// checkHost refuses a token for a host that the profile does not list.
func (e *entry) checkHost(req *protocol.TokenRequest) error {
	p := e.profile.Load()
	if !req.Listed && (req.Host == "" || len(p.Hosts) == 0) {
		return nil
	}
	if hosts.Listed(p.Hosts, req.Host) {
		return nil
	}
	if req.Host == protocol.UnnamedHost {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "profile " + p.Name + " lists hosts, and the tool does not name the one that it asks for",
			Hint:    "have it say so: for kubectl, set provideClusterInfo: true in the exec section of its kubeconfig",
		}
	}
	return &protocol.Error{
		Code:    protocol.CodeDenied,
		Message: "profile " + p.Name + " does not list this host",
		Hint:    "if its token may go there, list it in config.toml, in [profiles." + p.Name + "]: hosts = [\"" + req.Host + "\"]",
	}
}

// interned returns a copy of s that all profiles share: the names of kinds and stores.
func interned[S ~string](s S) S { return S(unique.Make(string(s)).Value()) }

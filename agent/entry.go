package agent

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// entry is one profile in the agent.
//
// What a live token's request needs is read without the mutex: profile, hand, lastUsed and sight. The rest is guarded by mu,
// which is never held across a job.
type entry struct {
	agent    *Agent
	profile  atomic.Pointer[Profile]
	cached   atomic.Pointer[cachedToken]
	lastUsed atomic.Int64             // unix seconds
	removed  atomic.Bool              // from the configuration
	snapshot atomic.Pointer[snapshot] // of the record's files, as they were when base was read; changed under mu

	mu      sync.Mutex
	running *jobRun // the job under way, nil when there is none

	base      job.Version     // the stored record as a worker last saw it
	lineage   string          // which sign-in the token in hand is of, as the worker said; "": none is in hand
	record    protocol.Secret // the record itself, while no store has it: store memory, or unsaved
	saveRetry *retry          // record is unsaved: when to try again; nil for store memory
	saveError *protocol.Error // why it is unsaved
	place     place           // what the last job that knew said of the record
	note      string          // what the last job found in the files of other programs
	viewRetry *retry          // a view is behind: when to write it again; nil: none is

	failure     *failure
	lastRenewal time.Time // of the sign-in that is in force; zero: never
	budget      budget
	deadTokens  retry     // renewals in a row that brought a dead token
	renewAt     time.Time // when the background renews; zero: never
	polling     bool      // somebody is looking at the files
	pollAgain   bool      // the kernel has said since that one was written
	rereadAfter time.Time // the last look could not tell what the files were like: no other before

	identifying *jobRun            // the question under way who is signed in, nil when there is none
	identity    *protocol.Identity // its last answer, kept here while record is; nil: none

	handedOut map[process.ID]handedOut // what programs got that want a re-ask noticed
	reaskedAt time.Time                // when one was last taken for a refusal

	version uint64        // of what a request would be answered with; see Watch
	changed chan struct{} // closed when version changes; nil: nobody waits
}

// hand is a token in hand, immutable. There may be a thousand, so the token is in its reply and nowhere else.
type cachedToken struct {
	expiry, issued time.Time // zero: never, unknown
	kind           protocol.Kind
	notice         bool   // reply holds one
	reply          []byte // the reply frame, encoded once
}

// token is the token itself.
func (h *cachedToken) token() (protocol.Token, error) {
	t, err := protocol.OpenToken(h.reply)
	if err != nil {
		return protocol.Token{}, err
	}
	t.Expiry = h.expiry // the wire has milliseconds
	return t, nil
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
	local bool // nobody but this machine was asked: who asks gets another look after a pause, whatever retry says
}

// retry is an exponential back-off. Its times carry the monotonic clock: a jump of the wall clock does not stretch them.
type retry struct {
	fails int
	at    time.Time // zero: not before something changes
}

func (e *entry) name() string { return e.profile.Load().Name }

// configure takes settings. What is in hand stays if they are what they were; a record that is nowhere else stays anyway.
func (e *entry) configure(p *Profile) {
	e.removed.Store(false)
	old := e.profile.Swap(p)
	if old == nil || old.Provider == p.Provider && old.Store == p.Store && bytes.Equal(old.Settings, p.Settings) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetOldSettingsLocked(old)
}

// unload forgets what was learned by the settings of old, except a record that is nowhere else. e.mu is held.
func (e *entry) forgetOldSettingsLocked(old *Profile) {
	e.failure, e.note = nil, ""
	if e.record.Empty() {
		e.dropTokenLocked()
		e.base, e.place, e.renewAt = job.Version{}, place{}, time.Time{}
		e.snapshot.Store(noFiles)
	} else if now := e.profile.Load().Store; now != old.Store && now != e.place.store && now != "auto" {
		e.base = job.Version{} // of the store before: to the one it is to be saved in now it would read as a record that was deleted
	}
}

// holds reports whether the agent alone has this profile's record.
func (e *entry) aloneHasRecord() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.record.Empty()
}

// busy reports whether a job is under way.
func (e *entry) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running != nil
}

// followsClaudeDir reports whether the environment of Claude Code decides which record this is.
func (e *entry) followsClaudeDir() bool {
	p := e.profile.Load()
	return p.Provider == "claude" && p.ConfigDir == "" && (p.Store == "auto" || p.Store == "claude-code")
}

// checkHost refuses a token for a host that the profile does not list.
func (e *entry) checkHost(req *protocol.TokenRequest) error {
	p := e.profile.Load()
	if !req.Listed && (req.Host == "" || len(p.Hosts) == 0) {
		return nil
	}
	for _, h := range p.Hosts {
		if strings.EqualFold(h, req.Host) {
			return nil
		}
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
		Hint:    "its hosts are in config.toml: hosts = [...] in [profiles." + p.Name + "]",
	}
}

// serves reports whether h answers a request at now.
func (h *cachedToken) fresh(now time.Time, minTTL time.Duration, halfLife bool) bool {
	return !job.Due(now, h.expiry, h.issued, minTTL, halfLife)
}

// alive reports whether h has not expired at now, on the wall clock.
func (h *cachedToken) alive(now time.Time) bool {
	return h != nil && (h.expiry.IsZero() || h.expiry.Round(0).After(now.Round(0)))
}

// drop lets the token in hand go. e.mu is held.
func (e *entry) dropTokenLocked() {
	e.cached.Store(nil)
	e.lineage = ""
}

// take puts a job's token in hand. e.mu is held.
func (e *entry) cacheResultLocked(r job.Result) *cachedToken {
	if !e.agent.lockState.on.Load() {
		e.lineage = r.Lineage
	}
	return e.cacheTokenLocked(protocol.Token{Profile: e.name(), Value: r.Token, Expiry: r.Expiry, Kind: r.Kind}, r.Issued)
}

// keep puts t in hand, with the notice that is due now. e.mu is held.
func (e *entry) cacheTokenLocked(t protocol.Token, issued time.Time) *cachedToken {
	t.Notice = e.noticeLocked(t)
	h := &cachedToken{
		expiry: t.Expiry, issued: issued, notice: t.Notice != "",
		kind:  interned(t.Kind),
		reply: bytes.Clone(protocol.AppendToken(make([]byte, 0, 512), t)),
	}
	if e.agent.lockState.on.Load() {
		return h // for whoever finds out whether it may still be had
	}
	old := e.cached.Swap(h)
	if old == nil || !bytes.Equal(old.reply, h.reply) {
		e.bumpVersionLocked() // after the swap: who is told asks at once
	}
	return h
}

// notice is what a person should know who is given t now, mostly "". e.mu is held.
func (e *entry) noticeLocked(t protocol.Token) string {
	if e.saveRetry != nil && e.saveRetry.fails > 0 {
		return "the renewed sign-in of profile " + t.Profile + " could not be saved yet: see ccagent status"
	}
	if f := e.failure; f == nil || stateOf(f.err) != protocol.StateSignIn || !f.retry.at.IsZero() || t.Expiry.IsZero() {
		return ""
	}
	return "the sign-in of profile " + t.Profile + " can't be renewed; sign in again by " + t.Expiry.Local().
		Format("2006-01-02 15:04") +
		": ccagent login " + t.Profile
}

func (e *entry) status() protocol.ProfileStatus {
	p := e.profile.Load()
	now := e.agent.now()
	h := e.cached.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := protocol.ProfileStatus{
		Name: p.Name, Provider: p.Provider, Store: e.place.store, Location: shorten(e.place.location),
		Subscription: shorten(e.place.subscription), LastRenewal: e.lastRenewal, Note: shorten(e.note),
	}
	if s.Store == "" {
		s.Store = p.Store
	}
	for _, scope := range e.place.scopes[:min(len(e.place.scopes), 32)] {
		s.Scopes = append(s.Scopes, shorten(scope))
	}
	if used := e.lastUsed.Load(); used != 0 {
		s.LastUsed = time.Unix(used, 0)
	}
	if h != nil {
		s.HasToken, s.Expiry, s.Issued, s.Kind = true, h.expiry, h.issued, h.kind
	}
	if e.failure != nil {
		s.LastError, s.LastCode, s.Retry = shorten(e.failure.err.Message), e.failure.err.Code, e.failure.retry.at
	}
	if e.saveRetry != nil && e.saveError != nil {
		s.LastError, s.LastCode, s.Retry = shorten(e.saveError.Message), e.saveError.Code, e.saveRetry.at
	}
	switch {
	case e.agent.lockState.on.Load():
		s.State = protocol.StateLocked
	case e.running != nil && e.running.renews(h, now):
		s.State = protocol.StateRenew
	case e.saveRetry != nil:
		s.State = protocol.StateUnsaved
	case e.failure != nil:
		s.State = stateOf(e.failure.err)
	case h == nil:
		s.State = protocol.StateIdle
	case h.fresh(now, 0, false):
		s.State = protocol.StateLive
	default:
		s.State = protocol.StateDue
	}
	return s
}

func stateOf(err *protocol.Error) protocol.State {
	switch err.Code {
	case protocol.CodeUnavailable:
		return protocol.StateBackoff
	case protocol.CodeLoginRequired, protocol.CodeExpired, protocol.CodeNotFound:
		return protocol.StateSignIn
	case protocol.CodeLocked:
		return protocol.StateLocked
	default:
		return protocol.StateFailed
	}
}

// shared is s, of which all profiles hold one copy: the names of kinds and stores.
func interned[S ~string](s S) S { return S(unique.Make(string(s)).Value()) }

// maxShown bounds each text of a status, so that a page fits a frame.
const maxShown = 1024

// cut shortens s for a status.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown-3], "") + "..."
}

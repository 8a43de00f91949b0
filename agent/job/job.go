// Package job is what an agent and its workers say to each other: the agent sends one [Job], the worker sends [Report]s. It is
// the only thing that the two share; neither imports the other. To the agent a record is an opaque blob beside a token, an expiry
// and the paths worth watching.
//
// The frames are those of package protocol with a larger limit ([MaxFrame]). A report of kind HandOver is sent as soon as a
// provider's answer is parsed and before anything is saved: from then on the rotated record is in two processes.
package job

import (
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// MaxFrame bounds a frame in bytes: a record and what describes it.
const MaxFrame = 1 << 20

// Op is what a worker is to do.
type Op byte

const (
	// Renew brings a token that lives for as long as the job asks: the stored one, or a renewed one if that does not or Force is
	// set.
	Renew Op = iota + 1
	// Save stores the record that the agent holds unsaved (Record), if the store still holds Base.
	Save
	// Put stores a record from outside (an import, `add`, a sign-in), over what is there if that expires earlier or Force is set.
	Put
	// Delete removes what is stored.
	Delete
	// Spill leaves Record where the next load finds it, without touching the store: the agent ends and holds it unsaved.
	Spill
	// Logout revokes the record's tokens at the provider, unless KeepRemote is set, and removes what is stored.
	Logout
	// Identify finds out who is signed in: from what is kept with the record, else (or with Force) from the provider.
	Identify
	// Move takes the record to the store Target. See package worker for the order of what it does.
	Move
	// Restore brings back the earlier sign-in PastID.
	Restore
	// History lists the earlier sign-ins.
	History
	// Guard moves the record from Claude Code's file to the store Target ("": the best), and leaves a view there.
	Guard
	// Show writes the profile's views over whatever is there.
	Show
	// Derive brings the token that Derived asks for. The record stays as it is.
	Derive
	// Rekey renews with another client secret (ClientSecret), and keeps that one with the record from then on.
	Rekey
	// Unlock opens the identity of store encrypted: see [Job.Passphrase].
	Unlock
	// Hide removes the profile's views, until another job writes them. The one in the place of Claude Code's own record stays.
	Hide
)

// Stores reports whether the op, once done, has put another record into force, or the same one into another place.
func (op Op) Stores() bool {
	return op == Put || op == Move || op == Guard || op == Restore || op == Rekey
}

// Renews reports whether the op asks the provider for a new token of the sign-in that is stored.
func (op Op) Renews() bool { return op == Renew || op == Rekey }

// SignsIn reports whether the op, once done, has put a sign-in into force that this agent has not renewed yet.
func (op Op) SignsIn() bool { return op == Put || op == Restore }

// Serves reports whether the op, once done, brings a token to be served.
func (op Op) Serves() bool { return op == Renew || op == Save || op == Show || op.Stores() }

// Removes reports whether the op ends with nothing stored.
func (op Op) Removes() bool { return op == Delete || op == Logout }

// Version is the digest of a stored record as its store last saw it. The zero Version is "nothing stored, or never seen".
type Version [32]byte

// Job is one job. The worker refuses one whose Build is not its own, so that an upgrade on disk can't mix versions.
type Job struct {
	Build    string // version of the binary that asks
	Op       Op
	Profile  string
	Settings []byte // the profile's settings as package worker reads them; opaque to the agent

	// Base is the stored record as the agent last saw it.
	Base Version
	// Lineage is the Result.Lineage of the cached token; "": there is none.
	Lineage string
	// Force makes Renew renew whatever is stored, unless someone else has written it since Base. It makes Identify ask the
	// provider, Unlock make an identity, and every other op write over what it would refuse to replace.
	Force bool
	// Since, where it is set, says that Force needs no renewal where the token was issued then or later.
	Since time.Time
	// SignIn says of a Put that its record is a fresh sign-in: one that can't be saved is handed over instead of refused.
	SignIn bool
	// KeepRemote makes Logout revoke nothing.
	KeepRemote bool
	// Check makes Identify ask the provider whether the token is good.
	Check bool
	// Token is the cached token, for Identify and Derive: a provider's tokens may be stored nowhere.
	Token protocol.Secret
	// MinTTL is how long the token must live; the worker adds the margin (see Due).
	MinTTL time.Duration
	// HalfLife asks for half of the token's lifetime at least.
	HalfLife bool
	// Record is the record that the agent holds: of store memory, unsaved, or to be Put. Opaque to the agent.
	Record protocol.Secret
	// Key is the identity of store encrypted, once it is unlocked.
	Key protocol.Secret
	// Passphrase is what Unlock tries. With NewPassphrase the identity gets that instead, or with Force is made with it.
	Passphrase, NewPassphrase protocol.Secret
	// Target is the kind of store to Move to.
	Target string
	// PastID is the sign-in to Restore.
	PastID string
	// Derived is the token that Derive brings.
	Derived protocol.Derived
	// ClientSecret is the one to Rekey with.
	ClientSecret protocol.Secret
}

// Kind is the kind of a report.
type Kind byte

const (
	Hello    Kind = 1 // the worker has read its job and is of the same build
	Asking   Kind = 2 // a rotating refresh token is about to be sent: from here on the worker must not be killed for being slow
	HandOver Kind = 3 // the provider's answer: Result, with Record
	Done     Kind = 4 // the end: Result and Err
)

// Report is one message of a worker.
type Report struct {
	Kind   Kind
	Result Result
	Err    *protocol.Error // Done only; nil: done
	// RetryAfter is what the provider asked for with a transient Err; 0 when it did not.
	RetryAfter time.Duration
	// Local says that nobody but this machine was asked: to find out whether Err still stands costs nobody else anything.
	Local bool
}

// Result is what a job brought. In a Done with an Err it holds whatever is known nevertheless: a renewal whose save failed
// has Token, Record and Renewed, and not Saved.
type Result struct {
	Token  protocol.Secret
	Kind   protocol.Kind
	Expiry time.Time // zero: never expires
	Issued time.Time // zero: unknown
	// SignInEnds is when the sign-in itself ends, however often its token is renewed; zero: not known, or never. RemindFrom is from
	// when on a person is told; zero: never.
	SignInEnds, RemindFrom time.Time
	// LostScopes are those that the sign-in had, and that a renewal has left out.
	LostScopes []string
	// Lineage names the sign-in that Token is of, without a secret in it: opaque to the agent, who hands it back in Job.Lineage.
	Lineage string

	Record  protocol.Secret // the whole record, opaque: when handed over, when unsaved, and always for store memory
	Version Version         // what the store holds now
	Renewed bool            // the provider was asked and answered
	// Gone says that the cached token is not to be served any more: its owner has signed out, or the store holds another sign-in.
	Gone bool
	// Saved says that nothing is left to be saved: the store has the record of Token, or there is no record.
	Saved bool

	Provider     string
	Store        string // its kind of store as docs/protocol.md names it; "none" where a command keeps nothing
	Location     string
	Watch        []string // files whose change means that someone else wrote the record
	Subscription string
	Scopes       []string
	Notice       string // a line for the person, of a Put or a Logout
	Identity     protocol.Identity
	Note         string // what the job found in the files of other programs: shown in status until the next job
	Behind       bool   // a view could not be written: to be tried again
	Wrote        bool   // a view was written
	Past         []protocol.PastSignIn
	Key          protocol.Secret // what Unlock opened; empty: no passphrase protects it, or there is none
	// Renewable says of the token of a Derive that another comes with the next renewal of the record.
	Renewable bool
}

// Due reports whether a token that expires at expiry (zero: never) must be renewed at now to serve a request for minTTL.
// issued (zero: unknown) shortens the margin of a token that lives less than four margins, and bounds what a request may ask for:
// half of the token's lifetime. A request for more would have the provider asked each time, and never get what it wants.
func Due(now, expiry, issued time.Time, minTTL time.Duration, halfLife bool) bool {
	if expiry.IsZero() {
		return false
	}
	need := protocol.Margin
	if lifetime := expiry.Sub(issued); !issued.IsZero() && lifetime > 0 {
		need, minTTL = protocol.MarginOf(lifetime), min(minTTL, lifetime/2)
		if halfLife {
			need = lifetime / 2
		}
	}
	return expiry.Round(0).Sub(now.Round(0)) <= max(need, minTTL)
}

// IssuedSince reports whether a token that was issued at issued (zero: unknown) was issued at since or later (zero: no token
// was). Times are compared as they are stored, in milliseconds. A token that was issued after now does not count: the clock was
// wrong.
func IssuedSince(now, issued, since time.Time) bool {
	return !issued.IsZero() && !since.IsZero() && !issued.Before(since.Truncate(time.Millisecond)) && !issued.After(now)
}

package protocol

import (
	"context"
	"time"
)

// Agent is what an agent can be asked. [Client] implements it over a socket, the agent itself in-process, and
// protocoltest.Fake in memory; protocoltest.Run is the suite that all of them pass.
//
// Every method may be called concurrently. A method that fails returns an error for which errors.Is finds one of the
// sentinels of this package; its context bounds the caller's wait alone, never the renewal that the call may have
// started.
type Agent interface {
	// Token returns a token for the profile that outlives the agent's own margin and the request's MinTTL, of which half of the
	// token's lifetime can be had, or the one that a renewal just brought, however short it lives.
	Token(ctx context.Context, req TokenRequest) (Token, error)

	// Status returns one page of what the agent knows; Status.Next continues it. It never touches a store or the network.
	Status(ctx context.Context, req StatusRequest) (Status, error)

	// Put hands a record in to be stored for a profile (the end of an import, of `add`, of a sign-in).
	Put(ctx context.Context, req PutRequest) (PutReply, error)

	// Control changes the agent itself, or ends a sign-in: see [ControlRequest].
	Control(ctx context.Context, req ControlRequest) (ControlReply, error)

	// Identify says who is signed in. What is kept with the record answers; where there is none, or on request, the provider
	// is asked. A provider that can't answer is ErrUnavailable, and costs no more than that answer.
	Identify(ctx context.Context, req IdentifyRequest) (Identity, error)
}

// Home names the places that decide whose account a request means (docs/protocol.md, "home"). It is sent on the default
// socket only; the agent refuses a request whose home is not its own. The zero Home says nothing and is never refused.
type Home struct {
	Home            string // $HOME
	XDGConfigHome   string // $XDG_CONFIG_HOME, "" when unset
	ClaudeConfigDir string // the folder of Claude Code's credentials as it is spelled, "" for .claude in Home: see ClaudeDir
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Profile  string        // "" is the agent's default profile
	MinTTL   time.Duration // how long the token must live at least; sent in milliseconds
	Force    bool          // renew first, whatever the token in hand
	HalfLife bool          // at least half of the token's lifetime must be left (for a program that cannot ask again)
	Host     string        // the host the token is meant for, "" when unknown, or UnnamedHost; a profile with hosts refuses others
	Home     Home
	// Since makes a forced request safe to repeat: a token that was issued at that time or later answers it. [Client] fills
	// it in where it is zero, before the first try.
	Since time.Time
	// Listed refuses (ErrDenied) a profile that does not list Host, one that lists none at all included: for tools that send a
	// token to whatever host they are pointed at.
	Listed bool
	// ReaskWindow is how long whoever asks keeps a token at least; sent in milliseconds. The same program (by the kernel's word
	// for who is at the socket) asking sooner is taken to have been refused, and gets a renewed token: once in that time at most,
	// and in the agent's own. 0: not wanted.
	ReaskWindow time.Duration
}

// ForHost reports whether the token is for one host, so that the profile's list of hosts counts.
func (r *TokenRequest) ForHost() bool { return r.Host != "" || r.Listed }

// UnnamedHost is a host that a tool has in mind and does not name. No profile lists it, so one that lists hosts refuses it.
const UnnamedHost = "?"

// Token is what a consumer gets.
type Token struct {
	Profile string // the resolved profile's name
	Value   Secret
	Expiry  time.Time // millisecond precision; zero: never expires
	Kind    Kind
	Notice  string // a line for the person (an unsaved record, a key that can't be renewed); "" is the rule
}

// StatusRequest asks for a page of status.
type StatusRequest struct {
	Profile string // one profile only; "" is all
	After   string // continue after this profile's name; "" starts
	Home    Home
}

// State is what a profile is doing.
type State string

const (
	StateIdle    State = "not loaded"     // never asked for in this agent's life
	StateLive    State = "live"           // a token is in hand and lives beyond the margin
	StateDue     State = "due"            // the next request renews
	StateRenew   State = "renewing"       // a renewal is under way
	StateBackoff State = "backing off"    // a transient failure; no request reaches the provider before ProfileStatus.Retry
	StateSignIn  State = "sign-in needed" // the provider refused for good, or nothing usable is stored
	StateFailed  State = "failed"         // configuration or storage: ProfileStatus.LastError says what
	StateUnsaved State = "unsaved"        // renewed, but the store refused it: held in memory and saved again with back-off
	StateLocked  State = "locked"
)

// Status is one page of status.
type Status struct {
	Agent    AgentStatus
	Profiles []ProfileStatus // sorted by name
	Next     string          // StatusRequest.After of the next page; "" on the last
}

// AgentStatus is what the agent says of itself.
type AgentStatus struct {
	PID            int
	Version        string
	Socket         string
	Started        time.Time
	Requests       uint64 // token requests answered or refused since it started
	Renewals       uint64 // successful renewals at a provider
	Connections    uint32 // open now, this one included
	Memory         uint64 // resident set, bytes; 0 when unknown
	DefaultProfile string
	ConfigError    string // why the config file as it stands was not taken; "" when it was
	Locked         bool   // see CommandLock
}

// ProfileStatus is what the agent says of a profile. Times are zero where there is none, or not known.
type ProfileStatus struct {
	Name         string
	Provider     string
	State        State
	Store        string // its kind of store: docs/protocol.md, section 4.3, lists them
	Location     string // where the record rests, for a person to read
	Kind         Kind
	HasToken     bool      // a token is in hand
	Expiry       time.Time // of the token in hand; zero with HasToken: never expires
	Issued       time.Time // when the token in hand was issued
	LastRenewal  time.Time // when the agent last renewed the sign-in that is in force
	Retry        time.Time // backing off until
	LastUsed     time.Time
	LastError    string
	LastCode     Code
	Subscription string
	Scopes       []string
	Note         string // what else a person should know: a view that somebody else has changed; "" is the rule
}

// PutRequest hands a record in.
type PutRequest struct {
	Profile string
	Record  Secret // as store.Record marshals itself; never logged
	Force   bool   // also over a record that expires later
	Home    Home
	// SignIn says that the record is a fresh sign-in. It replaces whatever is stored; and if it can't be saved, the agent
	// keeps it in memory, serves it and saves it later (PutReply.Notice says so) instead of refusing it.
	SignIn bool
}

// PutReply says what became of it.
type PutReply struct {
	Location string // where the record now rests
	Notice   string // a line for the person, "" when there is nothing to add
}

// Command is what [Agent.Control] does.
type Command uint32

const (
	// CommandReload reads config.toml again; an invalid one is an error and leaves the settings as they were.
	CommandReload Command = 1
	// CommandStop ends the agent once its workers are done. Without Force it is refused (ErrStorage) while memory holds
	// what no store has.
	CommandStop Command = 2
	// CommandRemove deletes a profile's record from its store and from memory.
	CommandRemove Command = 3
	// CommandLogout revokes a profile's tokens at its provider and removes its record as CommandRemove does, both in one hold
	// of the record's lock. A provider that can't be reached does not stop the removal: ControlReply.Notice names what was
	// not revoked.
	CommandLogout Command = 4
	// CommandLock makes the agent forget every token and key that can be loaded again. Until CommandUnlock it serves nothing
	// (ErrLocked), renews nothing, and takes no other command than reload and a forced stop. With NewPassphrase it takes that to
	// unlock it; a locked agent keeps the one that it has. What opens store encrypted is kept for the saving of records that no
	// store has yet, and for nothing else: ControlReply.Notice names their profiles.
	CommandLock Command = 5
	// CommandUnlock ends CommandLock, and opens the identity of store encrypted, which the agent keeps until it is locked, has
	// not been needed For that long, or ends. Passphrase is the one that CommandLock was given, or the identity's; without
	// one where one is needed it fails with ErrLocked, and a wrong one is ErrDenied: after that every other is refused for a
	// time that grows. With NewPassphrase the identity gets that instead of Passphrase, or with Force is made.
	CommandUnlock Command = 6
)

// ControlRequest changes the agent itself.
type ControlRequest struct {
	Command Command
	Profile string // CommandRemove, CommandLogout
	Force   bool   // CommandStop; CommandUnlock: make an identity
	Home    Home
	// KeepRemote makes CommandLogout revoke nothing.
	KeepRemote bool
	// Of CommandLock and CommandUnlock. Neither is logged, or kept longer than the request.
	Passphrase, NewPassphrase Secret
	// For bounds how long an unlocked identity is kept without a request that needs it, in milliseconds on the wire; 0: no limit.
	For time.Duration
}

// ControlReply says what became of it.
type ControlReply struct {
	Notice string // a line for the person, "" when there is nothing to add
}

// IdentifyRequest asks who is signed in.
type IdentifyRequest struct {
	Profile string // "" is the agent's default profile
	Refresh bool   // ask the provider, whatever is kept
	// Check asks the provider whether the token is good, and fails where it is not: ErrExpired or ErrLoginRequired, ErrDenied
	// (naming the scope that is missing, where the provider does), and ErrUnavailable when that can't be found out.
	Check bool
	Home  Home
}

// Identity is who is signed in, as far as the provider says. Its texts come from there: they are cleaned, and bounded.
type Identity struct {
	Profile        string // the resolved profile's name
	Account        string // the account's id
	Email          string
	Name           string
	Organization   string
	OrganizationID string
	Subscription   string
	Scopes         []string
	Fetched        time.Time // when the provider said so; zero: it never did
}

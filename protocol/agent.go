package protocol

import (
	"context"
	"time"
)

// Agent is what an agent can be asked. [Client] implements it over a socket, the agent itself within its process, and
// protocoltest.Fake in memory. protocoltest.Run is the suite that all of them pass.
//
// Every method may be called concurrently. An error is one for which errors.Is finds a sentinel of this package. When a context
// ends, the call returns, but a renewal that it has started goes on.
type Agent interface {
	// Token returns a token for the profile. It outlives the agent's margin (see [Margin]) and the request's MinTTL, of which no
	// more than half of the token's lifetime counts. A token that a renewal has just brought is the answer however short it lives.
	Token(ctx context.Context, req TokenRequest) (Token, error)

	// Status returns one page of what the agent knows; Status.Next leads to the next. It never touches a store or the network.
	Status(ctx context.Context, req StatusRequest) (Status, error)

	// Put gives the agent a record to store for a profile: at the end of an import, of `ccagent add`, or of a sign-in.
	Put(ctx context.Context, req PutRequest) (PutReply, error)

	// Control changes the agent itself, or ends a sign-in: see [Command].
	Control(ctx context.Context, req ControlRequest) (ControlReply, error)

	// Identify returns who is signed in, as it is stored with the record. If nothing is stored, or if the request says so, the
	// provider is asked. The error is ErrUnavailable if the provider can't answer; that has no effect on the profile.
	Identify(ctx context.Context, req IdentifyRequest) (Identity, error)
}

// Watcher is an [Agent] that tells when a profile's token changes, for programs that keep a token in memory. It is an interface
// of its own because an older agent can't do this. If one answers, [Client] fails with CodeInternal.
type Watcher interface {
	// Watch returns as soon as the version of the profile's token differs from req.Known. After half a minute without a change it
	// returns the same version; then ask again. It renews nothing, and does not count as a use of the profile.
	Watch(ctx context.Context, req WatchRequest) (WatchReply, error)
}

// Keeper is an [Agent] that can move a profile's record to another store and bring back an earlier one. It is an interface of its
// own because an agent within a Go program, which uses the program's own stores, can't do this. If one answers, [Client] fails
// with CodeInternal.
type Keeper interface {
	// Keep does what req.Action says. The reply does not contain the record.
	Keep(ctx context.Context, req KeepRequest) (KeepReply, error)
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Profile  string        // "" is the agent's default profile
	MinTTL   time.Duration // how long the token must live at least; sent in milliseconds
	Force    bool          // renew first, whatever token is in memory
	HalfLife bool          // at least half of the token's lifetime must be left, for a program that can't ask again
	Host     string        // the host that the token is for, UnnamedHost, or "" if not known; a profile with hosts refuses others
	Home     Home
	// Since makes it safe to repeat a request with Force: a token that was issued at this time or later answers it. If it is zero,
	// [Client] sets it to the time of the first try.
	Since time.Time
	// Listed makes the agent refuse (ErrDenied) a profile that does not list Host, including one that lists no hosts at all. It is
	// for tools that send a token to whatever host they are pointed at.
	Listed bool
	// ReaskWindow is how long the program that asks keeps a token at least; sent in milliseconds. If the same program asks sooner
	// (the kernel says who is at the socket), its token was probably refused, and it gets a renewed one: at most once in this time,
	// and at most once in a time that the agent sets. 0: it gets the token in memory.
	ReaskWindow time.Duration
	// Username is the user name for which a tool wants the token, "" if it names none. If several profiles list Host and Profile is
	// "", it tells them apart.
	Username string
	// Quiet says that nobody reads Token.Notice. The reminders that an agent gives only once in a while are then kept for others.
	Quiet bool
	// Derived is the token that is wanted in place of the access token. The agent may be too old to know of this, and give the
	// access token nevertheless: [Client] refuses that (CodeInternal).
	Derived Derived
}

// ForHost reports whether the token is for one host, so that the profile's list of hosts counts.
func (r *TokenRequest) ForHost() bool { return r.Host != "" || r.Listed }

// UnnamedHost is the Host of a tool that has a host in mind and does not name it. No profile lists it, so a profile with hosts
// refuses it.
const UnnamedHost = "?"

// Token is the reply to a [TokenRequest].
type Token struct {
	Profile string // the name of the profile that the token is of
	Value   Secret
	Expiry  time.Time // to the millisecond; zero: never
	Kind    Kind
	Notice  string // a line for the person, about a record that is not saved, say; mostly ""
	// Username is the user name that goes with the token where a tool wants one, "" if the profile names none.
	Username string
	// Derived says that this is the token that TokenRequest.Derived asked for, and not the access token.
	Derived bool
}

// StatusRequest asks for a page of status.
type StatusRequest struct {
	Profile string // this profile alone; "" is all
	After   string // begin after the profile of this name; "" begins with the first
	Home    Home
}

// State is what a profile is doing.
type State string

const (
	StateIdle    State = "not loaded"     // nobody has asked for its token since the agent started
	StateLive    State = "live"           // a token is in memory and outlives the margin
	StateDue     State = "due"            // the next request renews the token
	StateRenew   State = "renewing"       // a renewal is under way
	StateBackoff State = "backing off"    // a renewal failed for now; no request reaches the provider before ProfileStatus.Retry
	StateSignIn  State = "sign-in needed" // the provider refused for good, or nothing usable is stored
	StateFailed  State = "failed"         // the configuration or the store is at fault: see ProfileStatus.LastError
	StateUnsaved State = "unsaved"        // renewed, but not saved yet: the agent has the record in memory and tries again
	StateLocked  State = "locked"         // the agent is locked: see CommandLock
)

// Status is one page of status.
type Status struct {
	Agent    AgentStatus
	Profiles []ProfileStatus // sorted by name
	Next     string          // StatusRequest.After of the next page; "" on the last page
}

// AgentStatus is what the agent says of itself.
type AgentStatus struct {
	PID            int
	Version        string
	Socket         string
	Started        time.Time
	Requests       uint64 // requests for a token since the agent started, answered or refused
	Renewals       uint64 // successful renewals at a provider since then
	Connections    uint32 // open now, including this one
	Memory         uint64 // resident set in bytes; 0 if not known
	DefaultProfile string
	Here           string // the profile that a request without one means, if it comes from where this one does (Home)
	ConfigError    string // why the agent does not use config.toml as it is now; "" if it does
	ConfigHint     string // what helps against that, one line for each thing
	Locked         bool   // see CommandLock
	// Environment is what the agent was started with of the variables that decide what it and its workers can reach.
	Environment []Variable
}

// ProfileStatus is what the agent says of a profile. A time is zero if there is none, or if it is not known.
type ProfileStatus struct {
	Name         string
	Provider     string
	State        State
	Store        string // the kind of store: see the table of kinds in package store
	Location     string // where the record is, for a person to read
	Kind         Kind
	HasToken     bool      // a token is in memory
	Expiry       time.Time // of the token in memory; if HasToken, zero means that it never expires
	Issued       time.Time // when the token in memory was issued
	LastRenewal  time.Time
	Retry        time.Time // no request reaches the provider before
	LastUsed     time.Time
	LastError    string
	LastHint     string // what helps against LastError, one line for each thing; "" if nothing is known
	LastCode     Code
	Subscription string
	Scopes       []string
	Note         string // what else a person should know, that another program has changed a view, say; mostly ""
	// SignInEnds is when the sign-in itself ends, however often its token is renewed; zero: not known, or never. From RemindFrom on
	// a person is told of it.
	SignInEnds, RemindFrom time.Time
}

// PutRequest gives the agent a record to store.
type PutRequest struct {
	Profile string
	Record  Secret // JSON, as store.Record marshals itself; never logged
	Force   bool   // replace a stored record that expires later, too
	Home    Home
	// SignIn says that the record is a fresh sign-in. It replaces whatever is stored. If it can't be saved, the agent does not
	// refuse it but keeps it in memory, uses it, and saves it later; PutReply.Notice says so.
	SignIn bool
}

// PutReply says where the record is now.
type PutReply struct {
	Location string // for a person to read
	Notice   string // a line for the person; "" if there is nothing to add
}

// NotSavedYet begins the notice about a sign-in that the agent could only keep in its memory. Why follows.
const NotSavedYet = "it could not be saved yet, and is kept in the agent's memory until it is: "

// Command is what [Agent.Control] does.
type Command uint32

const (
	// CommandReload reads config.toml again. An invalid one is an error, and the settings stay as they were.
	CommandReload Command = 1
	// CommandStop ends the agent once its workers are done. Without Force it is refused (ErrStorage) while a record is in memory
	// that no store has.
	CommandStop Command = 2
	// CommandRemove deletes a profile's record from its store and from memory.
	CommandRemove Command = 3
	// CommandLogout revokes a profile's tokens at its provider and removes its record like CommandRemove, both under one lock of the
	// record. If the provider can't be reached the record is removed all the same, and ControlReply.Notice says what was not
	// revoked.
	CommandLogout Command = 4
	// CommandLock makes the agent forget every token and key that it can load again. Until CommandUnlock it hands out no token
	// (ErrLocked), renews none, and takes no other command than a reload and a stop with Force. If NewPassphrase is set, unlocking
	// needs it; an agent that is locked already keeps the passphrase that it has. While a record is in memory that no store has, the
	// agent keeps the key of store encrypted to save it with, and uses it for nothing else; ControlReply.Notice names the profiles.
	CommandLock Command = 5
	// CommandUnlock ends CommandLock, and opens the identity of store encrypted. The agent keeps the identity until it is locked,
	// has not needed it for the time that the request's For gives, or ends. Passphrase is that of CommandLock, or the identity's. If
	// one is needed and none is given, the error is ErrLocked. A wrong one is ErrDenied; after it, the agent refuses every
	// passphrase for a time that grows with each. With NewPassphrase the identity gets that in place of Passphrase, or with Force is
	// made.
	CommandUnlock Command = 6
)

// ControlRequest changes the agent itself, or ends a sign-in.
type ControlRequest struct {
	Command Command
	Profile string // for CommandRemove and CommandLogout
	Force   bool   // for CommandStop, and for CommandUnlock to make an identity
	Home    Home
	// KeepRemote makes CommandLogout revoke nothing.
	KeepRemote bool
	// For CommandLock and CommandUnlock. They are not logged, and are forgotten when the request is done.
	Passphrase, NewPassphrase Secret
	// For is how long an unlocked identity is kept without a request that needs it; sent in milliseconds. 0: without limit.
	For time.Duration
}

// ControlReply is the answer to a command that was carried out.
type ControlReply struct {
	Notice string // a line for the person; "" if there is nothing to add
}

// IdentifyRequest asks who is signed in.
type IdentifyRequest struct {
	Profile string // "" is the agent's default profile
	Refresh bool   // ask the provider, whatever is stored
	// Check asks the provider whether the token is good, and fails if it is not: with ErrExpired or ErrLoginRequired, or with
	// ErrDenied if a scope is missing, which the message names if the provider does. If the provider can't tell, the error is
	// ErrUnavailable.
	Check bool
	Home  Home
}

// Identity is who is signed in, as far as the provider says. Its texts come from the provider: control characters in them are
// replaced, and their length is bounded.
type Identity struct {
	Profile        string // the name of the profile that was asked about
	Account        string // the account's id
	Email          string
	Name           string
	Organization   string
	OrganizationID string
	Subscription   string
	Scopes         []string
	Fetched        time.Time // when the provider said so; zero: it never did
}

// WatchRequest waits for a change of a profile's token.
type WatchRequest struct {
	Profile string // "" is the agent's default profile
	Known   uint64 // WatchReply.Version of the last reply; 0: there was none
	Home    Home
}

// WatchReply is the version of a profile's token.
type WatchReply struct {
	// Version changes whenever the answer to a request for the token may have changed: there is a new token or none any more,
	// settings have changed, or another agent answers. It is never 0. Of two versions one can tell only whether they are equal.
	Version uint64
}

// KeepAction is what [Keeper.Keep] does.
type KeepAction uint32

const (
	// KeepMove moves the record to another store. The record is written there, read back and compared before the old one is
	// deleted. If the other store can't be used, or holds another sign-in (ErrConfig without Force), nothing changes.
	KeepMove KeepAction = 1
	// KeepHistory lists the earlier sign-ins whose newest record is kept.
	KeepHistory KeepAction = 2
	// KeepRestore brings one of them back. The error is ErrNotFound if there is none of that id, and ErrExpired if nothing in it
	// can be used any more.
	KeepRestore KeepAction = 3
	// KeepShow writes the profile's views anew, whatever another program has made of them.
	KeepShow KeepAction = 4
	// KeepGuard moves the record out of Claude Code's file to another store, and leaves only the access token in that file. Store
	// "" is the keyring if it works, else a file.
	KeepGuard KeepAction = 5
	// KeepSecret renews the record with another client secret, and keeps that one with it from then on. If the provider refuses the
	// secret (ErrConfig) or the sign-in (ErrLoginRequired, ErrExpired), or can't be asked (ErrUnavailable), the record keeps the
	// secret that it had.
	KeepSecret KeepAction = 6
)

// KeepRequest asks for a [KeepAction].
type KeepRequest struct {
	Action  KeepAction
	Profile string // "" is the agent's default profile
	Store   string // for KeepMove and KeepGuard: the kind of store
	SignIn  string // for KeepRestore: PastSignIn.ID
	// Force makes KeepMove and KeepGuard go on if another program loses its sign-in by that, or if another record is replaced.
	Force  bool
	Home   Home
	Secret Secret // for KeepSecret: the client secret
}

// KeepReply says where the record is now, or lists earlier sign-ins.
type KeepReply struct {
	Location string       // for a person to read
	Notice   string       // a line for the person; "" if there is nothing to add
	Past     []PastSignIn // for KeepHistory: the newest first
}

// PastSignIn is a sign-in whose newest record is kept.
type PastSignIn struct {
	ID        string // for KeepRequest.SignIn; no secret
	Saved     time.Time
	Expiry    time.Time // of its access token; zero: never
	Account   string    // who is signed in; "" if not known
	Renewable bool      // it has a refresh token that is not known to be spent
	Current   bool      // it is the one in use
	Problem   string    // why it can't be brought back; "" if it can
}

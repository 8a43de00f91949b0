// Package embed lets a program run an agent within itself, with providers and stores of its own: no socket, no worker
// process, no configuration file.
//
//	runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: provider, Store: place}}}
//	a := agent.New(agent.Options{Runner: runner, Load: func() (agent.Config, error) {
//		return agent.Config{Default: "main", Profiles: []agent.Profile{{Name: "main"}}}, nil
//	}})
//	defer a.Close(ctx)
//	token, err := a.Token(ctx, protocol.TokenRequest{})
//
// What the agent promises holds as it does for `ccagent serve`, and by the same code (package renewal): tokens in memory, one
// renewal at a time ahead of the expiry, back-off, a refresh token that is sent once and only where its successor can be saved, a
// rotated record that is handed over before it is saved, and saved again until the store has it. What is given up is the wall
// between the agent and its workers: the provider's code and its secrets are in the program's own process, and a provider that
// crashes takes the program with it. Nor does the agent hide that process's memory from the user's other programs: begin main
// with harden.Memory of cmd/harden for that. socket.Listen and agent.Agent.Serve put such an agent on a socket for other
// programs.
//
// A [Provider] brings new tokens; store.Store keeps records, and storetest.Run tests an implementation of it.
package embed

import (
	"context"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Provider brings tokens. Its methods are called from one goroutine per profile at a time.
type Provider interface {
	// Renew returns old with a new access token: its expiry, when it was issued, and the refresh token that is good from now
	// on. old is the zero Record where nothing is stored; a provider that can't make a token of nothing answers
	// ErrNotFound or ErrLoginRequired. ctx does not end when whoever asked has gone, for what a provider has rotated must be
	// saved: bound the time yourself.
	//
	// Errors decide what follows: ErrUnavailable is tried again with back-off, ErrLoginRequired, ErrExpired, ErrConfig and
	// ErrDenied only when something changes. An [Answer] says more, and so do the errors of package oauth. A provider that has
	// got a new refresh token, but no access token that can be used, returns the record with that refresh token beside the error.
	// It is saved, because the old one is spent.
	//
	// A program that wants the agent to give out ID tokens (protocol.Derived) sets IDToken, IDTokenExpiry and IDTokenIssued in the
	// record whenever one comes, the last to the record's Issued.
	Renew(ctx context.Context, old store.Record) (store.Record, error)
}

// ProviderFunc is a Provider of one function.
type ProviderFunc func(ctx context.Context, old store.Record) (store.Record, error)

// Renew calls f.
func (f ProviderFunc) Renew(ctx context.Context, old store.Record) (store.Record, error) {
	return f(ctx, old)
}

// Revoker is a Provider that can end a sign-in. What Revoke fails with becomes the notice of the logout, which goes on.
type Revoker interface {
	Revoke(ctx context.Context, r store.Record) error
}

// Identifier is a Provider that can say who is signed in, and in doing so whether the token is good.
type Identifier interface {
	Identify(ctx context.Context, r store.Record) (protocol.Identity, error)
}

// Deriver is a Provider that can bring a token for other scopes, another audience or other resources than the access token's.
// What is wanted is in the form of [protocol.Derived.Normal]. Derive leaves the record r as it is, and must not send its refresh
// token. It may be called while Renew is, and several times at once.
type Deriver interface {
	Derive(ctx context.Context, r store.Record, want protocol.Derived) (protocol.Token, error)
}

// Answer is an error by which a provider has answered.
type Answer struct {
	Err        error         // with a code of package protocol
	RetryAfter time.Duration // for how long the provider wants to be left alone; 0: it did not say
	// TokenRefused says that the provider has refused the very refresh token that was sent, which is never sent again then.
	TokenRefused bool
}

func (a *Answer) Error() string                { return a.Err.Error() }
func (a *Answer) Unwrap() error                { return a.Err }
func (a *Answer) AskAgainAfter() time.Duration { return a.RetryAfter }
func (a *Answer) RefusesToken() bool           { return a.TokenRefused }

// Profile is how one profile gets its tokens and where its record rests.
type Profile struct {
	// Provider renews. It is required.
	Provider Provider
	// Store keeps the record; nil: the agent's memory does, and it is gone with the agent.
	Store store.Store
}

// Runner runs an agent's jobs in the program itself: it is the Runner of agent.Options. Set its fields before the first job.
// Run may be called concurrently.
type Runner struct {
	// Profiles are by name, spelled as in the agent's configuration.
	Profiles map[string]Profile
	// StateDir is a folder of the program's own; "": there is none. It has three uses. A record that was renewed and can't be
	// saved is spilled there; without it the agent alone holds such a record, and it is lost with the agent. Which refresh tokens
	// are spent is remembered there, by digests; without it an old copy of a record, which a backup brings back, is taken for a
	// good one. And it is remembered there which profile has which refresh token: of two that have one, the second does not renew
	// it. The history there has whole records only for the stores of package store. So a program with a store of its own that is
	// killed after the provider has answered and before it has saved needs a new sign-in.
	StateDir string
}

// Run does j, and returns when it is done. It implements agent.Runner.
func (r *Runner) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	p, ok := r.Profiles[j.Profile]
	if !ok || p.Provider == nil {
		return job.Report{Kind: job.Done, Err: &protocol.Error{
			Code: protocol.CodeConfig, Message: "profile " + j.Profile + " has no provider in this program",
		}}, nil
	}
	e := newTask(r, p, j, handOver)
	o := e.do(ctx)
	e.lookAgain(context.WithoutCancel(ctx), &o)
	return o.Report(e.explain(o.Err)), o.Close(true)
}

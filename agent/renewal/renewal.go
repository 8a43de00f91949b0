// Package renewal renews one record: it brings a store and a provider together for one job, and sees to it that no sign-in is
// lost on the way. A worker of ccagent and an agent within a Go program both run on it.
//
// A renewal goes: lock the record, load it, take over what somebody else has written if that serves, otherwise reserve the place
// of the save, ask the provider, hand the new record over to the agent, save it, release the lock. What it promises:
//
//   - A refresh token is sent once. It is not sent while its successor could be saved nowhere, while the lock may be lost, when
//     it is known to be spent, or when it is another profile's.
//   - What a provider answers is in two places before the store is written: the agent has it, and where the store refuses it a
//     spill file has it as well. That holds for a new refresh token whose access token can't be used, too.
//   - Another program's work wins over ours where both have changed the record, and ours can be restored.
//
// The entry points are the methods of [Task] that are called as the jobs are: Renew, Save, Put, Remove, Spill. The others are
// the steps of these, for jobs that a setting has of its own.
package renewal

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Provider is whoever brings new tokens.
type Provider interface {
	// Prepare finds out how r can be renewed. It sends nothing of r to anybody, and may ask where to send it. r is the zero
	// Record where nothing is stored and the Task is [Task.FromNothing]. It fails, mostly with ErrExpired, ErrLoginRequired or
	// ErrConfig, where r can't be renewed.
	Prepare(ctx context.Context, r store.Record) (Request, error)
}

// Request is a renewal that is ready to be sent.
type Request struct {
	// Send asks for the new record. It is called once at most, and ctx does not end before it is done: Send bounds its time
	// itself. What the provider does not say stays as it was. With an error, a record that has another refresh token than before
	// says that the provider has rotated it nevertheless. An error that is an [Answer] came from the provider.
	Send func(ctx context.Context) (store.Record, error)
	// Spends says that a refresh token is sent, which may be good once. The place of its successor is made ready before.
	Spends bool
}

// Revoker is a Provider that can end a sign-in. What Revoke returns is for the person: what was not revoked, and why.
type Revoker interface {
	Revoke(ctx context.Context, r store.Record) (notice string)
}

// Setting is what surrounds a job: the agent, and what is known of the records of other profiles.
type Setting interface {
	// Asking tells the agent that a provider is about to be asked: from here on the job is not to be ended.
	Asking()
	// HandOver gives the agent a new record, before it is saved.
	HandOver(job.Result)
	// Holds looks whether another profile's record is still where it is remembered to be, and of the sign-in of r.
	Holds(ctx context.Context, home store.Home, r store.Record) bool
	// Missing decides what it means that st has no record (ErrNotFound), or one without tokens (ErrLoginRequired; version is that
	// record's). It may put a record there. Where decided is false, the job goes on and takes the lock.
	Missing(ctx context.Context, st store.Store, version store.Version, err error) (o Outcome, decided bool)
	// Rests hears that the profile's record rests in st, or is about to.
	Rests(st store.Store)
}

// Task is one job under way. Its methods are for one goroutine. Every store.Store that they take is nil for store memory.
type Task struct {
	Job      job.Job
	Provider Provider
	Setting  Setting
	// StateDir is where unsaved records and what is remembered of sign-ins are kept; "": nowhere.
	StateDir string

	Name   string        // of the provider, for the agent's status
	Token  protocol.Kind // what a token is that does not say so itself
	Watch  []string      // files besides the store's whose change means that the record is to be read again
	Source string        // of a provider whose tokens are stored nowhere: where they come from
	// FromNothing says that the provider can make a token where nothing is stored.
	FromNothing bool

	// What the job has found out besides its outcome.
	Aside     int   // how many records are set aside in the place of the record, for a person to judge
	TwoHomes  error // another profile has the sign-in that is in force here
	Forgetful error // why the history could not be told of the record

	judgedAgain bool // what another program wrote during the renewal was judged as well
}

// Held is the record that came with the job. ErrNotFound: none did.
func (t *Task) Held() (store.Record, error) {
	if t.Job.Record.Empty() {
		return store.Record{}, &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored for profile " + t.Job.Profile}
	}
	return store.Unmarshal(t.Job.Record)
}

// About is a result that says no more than where the record rests, or would.
func (t *Task) About(st store.Store) job.Result {
	r := job.Result{Provider: t.Name, Store: string(store.KindMemory), Location: "the agent's memory"}
	if st != nil {
		place := st.Place()
		r.Store, r.Location, r.Watch = string(place.Kind), place.Location, place.Watch
	}
	r.Watch = append(r.Watch[:len(r.Watch):len(r.Watch)], t.Watch...)
	return r
}

// Describe is a result about the record r, which is stored in st as v.
func (t *Task) Describe(st store.Store, r store.Record, v store.Version) job.Result {
	result := t.About(st)
	result.Token, result.Kind, result.Expiry, result.Issued = r.AccessToken, t.KindOf(r), r.Expiry, r.Issued
	result.Version, result.Lineage = job.Version(v), r.Lineage().String()
	result.Subscription, result.Scopes = r.Subscription, r.Scopes
	result.SignInEnds, result.RemindFrom = t.ending(r, time.Now())
	result.LostScopes = r.LostScopes
	return result
}

// KindOf is what r's token is: what it says itself, else what the record says, else what its provider hands out.
func (t *Task) KindOf(r store.Record) protocol.Kind {
	return protocol.KindOf(r.AccessToken, cmp.Or(r.Kind, t.Token))
}

// History is what is remembered of the sign-ins of st, nil where nothing is.
func (t *Task) History(st store.Store) *store.History {
	if st == nil || t.StateDir == "" {
		return nil
	}
	return store.NewHistory(t.StateDir, st)
}

// Alive reports whether r has a token that has not expired.
func Alive(r store.Record) bool {
	return !r.AccessToken.Empty() && (r.Expiry.IsZero() || r.Expiry.After(time.Now().Round(0)))
}

// Same reports whether two records are the same sign-in at the same point of its life.
func Same(a, b store.Record) bool {
	return a.AccessToken.Reveal() == b.AccessToken.Reveal() && a.RefreshToken.Reveal() == b.RefreshToken.Reveal()
}

// NewSignIn is the id of a sign-in that begins here. It is a name, not a secret.
func NewSignIn() string {
	var id [8]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// signInAfter is the id that r's sign-in has once r is renewed: the one that it has, or one that is made of its refresh token
// where another program has made the record.
func signInAfter(r store.Record) string {
	return cmp.Or(r.SignIn, store.SignInOf(r.RefreshToken), NewSignIn())
}

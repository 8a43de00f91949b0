package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// This file decides what it means that a sign-in is not in Claude Code's file any more. Claude Code signs out by removing its key
// or the file. A session of it that lost a race for a refresh empties the tokens instead (a stub), and so signs out everybody;
// that is repaired. Where the folder is missing, a home is not mounted.

// Missing decides what it means that the profile's store has no token.
func (t *task) Missing(ctx context.Context, st store.Store, v store.Version, err error) (renewal.Outcome, bool) {
	stub := errors.Is(err, protocol.ErrLoginRequired)
	switch {
	case stub && st.Place().Kind.Traits().Shared:
		return t.repairStub(ctx, st, err), true
	case stub:
		return t.NoRecord(st, v, err), true
	case t.Lost(st):
		return t.afterRemoval(ctx, st)
	}
	o := t.NoRecord(st, v, err)
	if t.wasSignedIn(ctx, st) {
		t.History(st).SignOut(ctx)
		return o.WithError(t.signedOut(st.Place().Location)), true
	}
	if other := t.elsewhere(ctx, st); other != nil {
		return o.WithError(t.leftBehind(st, other)), true
	}
	return o, true
}

// afterRemoval is the outcome when Claude Code's record, which the agent knows, is not there. It declines if it came back.
func (t *task) afterRemoval(ctx context.Context, st store.Store) (renewal.Outcome, bool) {
	o := renewal.Outcome{Result: t.About(st)}
	if err := store.FolderThere(st.Place()); err != nil {
		return o.WithError(err), true // the cached token is served as before
	}
	if renewal.ComesBack(ctx, st, protocol.ErrNotFound) {
		return o, false
	}
	t.History(st).SignOut(ctx)
	o.Finding = renewal.SignedOut
	return o.WithError(t.signedOut(st.Place().Location)), true
}

func (t *task) signedOut(where string) error {
	return &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out: the sign-in was removed from " + where,
		Hint: t.withClaudeCode() + "\nor bring the sign-in back: ccagent restore -p " + t.Job.Profile}
}

// wasSignedIn reports whether somebody has signed in with Claude Code before: then nothing stored means that he has signed out.
func (t *task) wasSignedIn(ctx context.Context, st store.Store) bool {
	if _, view := t.guardedView(); !st.Place().Kind.Traits().Shared && view == nil || store.FolderThere(st.Place()) != nil {
		return false
	}
	past, err := t.History(st).List(ctx)
	return err == nil && len(past) > 0
}

// repairStub puts the newest record of a sign-in back over the stub that somebody has made of it, if the provider accepts it.
func (t *task) repairStub(ctx context.Context, st store.Store, stub error) renewal.Outcome {
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	lock, err := st.Lock(waiting)
	if err != nil {
		return renewal.Outcome{Result: t.About(st), Err: err}
	}
	s := renewal.State{Store: st, Lock: lock}
	emptied, version, err := st.Load(ctx)
	s.Version = version
	if err == nil { // somebody else was faster
		s.Record = emptied
		return s.End(t.Bring(ctx, s))
	}
	if !errors.Is(err, protocol.ErrLoginRequired) {
		return s.End(t.NoRecord(st, version, err))
	}
	last, ok := t.before(ctx, st, emptied, version)
	if !ok {
		return s.End(t.staysSignedOut(st, version, stub))
	}
	if !t.MayRepair() {
		return s.End(t.staysSignedOut(st, version, nil).WithError(&protocol.Error{Code: protocol.CodeLoginRequired,
			Message: fmt.Sprintf("%s is emptied again and again: it was mended %d times in %d minutes, and is left alone now",
				st.Place().Location, renewal.MaxRepairs, renewal.RepairWindow/time.Minute),
			Hint: "find out which program does that, then bring the sign-in back: ccagent restore -p " + t.Job.Profile}))
	}
	s.Record, s.Unsaved = last, true
	return s.End(t.putBack(context.WithoutCancel(ctx), s, stub))
}

// putBack writes the record in s over the stub that is stored, after the provider has accepted its token or has renewed it.
func (t *task) putBack(ctx context.Context, s renewal.State, stub error) renewal.Outcome {
	unchanged := func(err error) renewal.Outcome { return renewal.Outcome{Result: t.About(s.Store), Err: err} }
	client, origin, err := t.client(ctx, s.Record)
	if err != nil {
		return unchanged(err)
	}
	// It may have been another person's sign-in that was emptied. While no agent ran, only what is known to be the same is.
	account, whose := t.claudeAccount(), cmp.Or(s.Record.Identity.Account, t.readNote(s.Record.Version()).Account)
	another := func() bool {
		return account != "" && account != whose && (whose != "" || t.Job.Base == job.Version{})
	}
	if whose != "" && another() {
		return t.notTheirs(s)
	}
	accepted := false
	if renewal.Alive(s.Record) && client.ProfileURL != "" {
		who, err := client.Identify(ctx, s.Record.AccessToken)
		if accepted = err == nil; !accepted && errors.Is(err, protocol.ErrUnavailable) {
			return unchanged(err)
		}
		whose = cmp.Or(who.Account, whose)
	}
	if another() {
		return t.notTheirs(s)
	}
	if err := t.Reserve(ctx, s, !t.asksAgain()); err != nil {
		return unchanged(err)
	}
	t.NoteRepair(s.Store.Place())
	if accepted {
		return t.Keep(ctx, s)
	}
	if err := t.MayRenew(ctx, s); err != nil {
		return unchanged(err)
	}
	last := s.Record
	renewed, err := t.Ask(ctx, &s, signInProvider{t}.renewing(client, last, origin))
	switch {
	case err == nil:
		return t.Deliver(ctx, s, renewed)
	case renewal.Dead(err):
		t.History(s.Store).Refused(ctx, s.Record, time.Now())
		return t.staysSignedOut(s.Store, s.Version, stub)
	case errors.Is(err, protocol.ErrLoginRequired):
		return t.staysSignedOut(s.Store, s.Version, err)
	case !store.SameSignIn(s.Record, last): // rotated nevertheless
		return t.Failed(ctx, s, err)
	}
	return unchanged(err)
}

// notTheirs is the outcome when a stub stays one because it was of another account.
func (t *task) notTheirs(s renewal.State) renewal.Outcome {
	return t.staysSignedOut(s.Store, s.Version, nil).WithError(&protocol.Error{Code: protocol.CodeLoginRequired,
		Message: s.Store.Place().Location + " is signed out, and Claude Code's settings name another account than was signed in before",
		Hint:    t.withClaudeCode() + "\nor bring the earlier sign-in back: ccagent restore -p " + t.Job.Profile})
}

// staysSignedOut is the outcome when a stub stays one, whether or not the agent has seen the sign-in before it.
func (t *task) staysSignedOut(st store.Store, v store.Version, stub error) renewal.Outcome {
	o := t.NoRecord(st, v, stub)
	o.Finding = renewal.SignedOut
	return o
}

// before is the record that a stub was, if it is known for sure: the newest one that was in force, seen by us as the last before
// the stub, which nobody has signed out of.
func (t *task) before(ctx context.Context, st store.Store, stub store.Record, version store.Version) (store.Record, bool) {
	past, err := t.History(st).List(ctx)
	if err != nil || len(past) == 0 {
		return store.Record{}, false
	}
	last := past[0]
	known := t.Job.Base == job.Version{} || t.Job.Base == job.Version(version) || t.Job.Base == job.Version(last.Version())
	same := last.Record.SignIn == "" || last.Record.SignIn == stub.SignIn // what another program has put there has none
	return last.Record, known && same && !last.Out && !last.Spent && !last.Record.RefreshToken.Empty()
}

// claudeAccount is the id of the account that is signed in by what Claude Code keeps in its settings, "" where they say nothing.
func (t *task) claudeAccount() string {
	var newest time.Time
	var account string
	dir := filepath.Clean(t.settings.ConfigDir)
	paths := []string{dir + ".json", filepath.Join(dir, ".claude.json")} // the second with CLAUDE_CONFIG_DIR
	if t.settings.AccountFile != "" {
		paths = []string{t.settings.AccountFile}
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || info.ModTime().Before(newest) {
			continue
		}
		var settings struct {
			Account struct {
				UUID string `json:"accountUuid"`
			} `json:"oauthAccount"`
		}
		if data, err := readBounded(path, store.MaxFile); err == nil && json.Unmarshal(data, &settings) == nil {
			newest, account = info.ModTime(), settings.Account.UUID
		}
	}
	return account
}

// repairNote tells of the last repair for as long as it counts, "" where there was none.
func (t *task) repairNote() string {
	m := t.Repairs()
	if len(m.At) == 0 {
		return ""
	}
	return fmt.Sprintf("%s had been emptied or set back by another program, and was mended at %s",
		m.Last, m.At[len(m.At)-1].Format("15:04:05"))
}

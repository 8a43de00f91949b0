package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// What it means that a sign-in is not in Claude Code's file any more, where it was. Claude Code signs out by removing the key
// or the file. A session of it that lost a race for a refresh empties the tokens instead (a logged-out stub), and signs
// everybody out with it; that is mended. A folder that is gone is an unmounted home.

const (
	// signOutTime is how long a sign-in must be gone to be a sign-out: a program that writes in two steps is no sign-out.
	signOutTime = 2 * time.Second
	// maxMends in mendWindow is how often a stub is mended: whoever goes on emptying the file means it.
	maxMends   = 3
	mendWindow = 10 * time.Minute
)

// lost reports whether a record that is not in st any more is one that the agent knew, of those that another program may remove.
func (e *errand) lost(st store.Store) bool {
	return st.Place().Kind.Traits().Shared && e.job.Base != job.Version{}
}

// restored waits for a record that fails to load to come back, and reports whether it has.
func restored(ctx context.Context, st store.Store, failure error) bool {
	const pause = 100 * time.Millisecond
	for range signOutTime / pause {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
		if _, _, err := st.Load(ctx); !errors.Is(err, failure) {
			return true
		}
	}
	return false
}

// vanished is the outcome when Claude Code's record, which the agent knows, is not there. It declines if it came back.
func (e *errand) vanished(ctx context.Context, st store.Store) (outcome, bool) {
	o := outcome{result: e.about(st)}
	if err := store.FolderThere(st.Place()); err != nil {
		return o.but(err), true // the token in hand is served on
	}
	if restored(ctx, st, protocol.ErrNotFound) {
		return o, false
	}
	store.NewHistory(e.settings.StateDir, st).SignOut(ctx)
	o.result.Gone, o.result.Saved = true, true
	return o.but(e.signedOut(st.Place().Location)), true
}

func (e *errand) signedOut(where string) error {
	return &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out: the sign-in was removed from " + where,
		Hint: "sign in with Claude Code: run claude, then type /login\nor bring the sign-in back: ccagent restore -p " + e.job.Profile}
}

// wasSignedIn reports whether somebody signed in with Claude Code was here, and has not told us to forget that: then nothing
// stored means signed out.
func (e *errand) wasSignedIn(ctx context.Context, st store.Store) bool {
	if _, view := e.guardedView(); !st.Place().Kind.Traits().Shared && view == nil || store.FolderThere(st.Place()) != nil {
		return false
	}
	past, err := store.NewHistory(e.settings.StateDir, st).List(ctx)
	return err == nil && len(past) > 0
}

// mend puts the newest record of a sign-in back over the stub that somebody has made of it, if the provider accepts it.
func (e *errand) mend(ctx context.Context, st store.Store, stub error) outcome {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock, err := st.Lock(waiting)
	if err != nil {
		return outcome{result: e.about(st), err: err}
	}
	s := state{st: st, lock: lock}
	emptied, version, err := st.Load(ctx)
	s.version = version
	if err == nil { // somebody else was faster
		s.record = emptied
		return s.end(e.bring(ctx, s))
	}
	if !errors.Is(err, protocol.ErrLoginRequired) {
		return s.end(e.nothing(st, version, err))
	}
	last, ok := e.before(ctx, st, emptied, version)
	if !ok {
		return s.end(e.empty(st, version, stub))
	}
	if !e.mayMend() {
		return s.end(e.empty(st, version, &protocol.Error{Code: protocol.CodeLoginRequired,
			Message: fmt.Sprintf("%s is emptied again and again: it was mended %d times in %d minutes, and is left alone now",
				st.Place().Location, maxMends, mendWindow/time.Minute),
			Hint: "find out which program does that, then bring the sign-in back: ccagent restore -p " + e.job.Profile}))
	}
	ctx = context.WithoutCancel(ctx)
	s.record, s.unsaved = last, true
	client, origin, err := e.provider(ctx, s.record)
	if err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	// It may have been another person's sign-in that was emptied. While no agent ran, only what is known to be the same is.
	account, whose := e.claudeAccount(), cmp.Or(last.Identity.Account, e.readNote(last.Version()).Account)
	another := func() bool {
		return account != "" && account != whose && (whose != "" || e.job.Base == job.Version{})
	}
	accepted := false
	if whose != "" && another() {
		return s.end(e.notTheirs(st, version))
	}
	if alive(s.record) && client.ProfileURL != "" {
		who, err := client.Identify(ctx, s.record.AccessToken)
		if accepted = err == nil; !accepted && errors.Is(err, protocol.ErrUnavailable) {
			return s.end(outcome{result: e.about(st), err: err})
		}
		whose = cmp.Or(who.Account, whose)
	}
	if another() {
		return s.end(e.notTheirs(st, version))
	}
	if err := e.reserve(ctx, s); err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	e.noteMend(st.Place())
	var o outcome
	if accepted {
		o = e.keep(ctx, s)
	} else {
		if err := e.mayRenew(ctx, st, s.record); err != nil {
			return s.end(outcome{result: e.about(st), err: err})
		}
		reply, err := e.exchange(ctx, client, &s, origin)
		switch {
		case dead(err):
			store.NewHistory(e.settings.StateDir, st).Refused(ctx, s.record, time.Now())
			return s.end(e.empty(st, version, stub))
		case errors.Is(err, protocol.ErrLoginRequired):
			return s.end(e.empty(st, version, err))
		case err != nil && !reply.RefreshToken.Empty():
			return s.end(e.failed(ctx, s, err))
		case err != nil:
			return s.end(outcome{result: e.about(st), err: err})
		}
		o = e.deliver(ctx, s, reply, origin)
	}
	return s.end(o)
}

// notTheirs is the outcome when a stub stays one because it was of another account.
func (e *errand) notTheirs(st store.Store, v store.Version) outcome {
	return e.empty(st, v, &protocol.Error{Code: protocol.CodeLoginRequired,
		Message: st.Place().Location + " is signed out, and Claude Code's settings name another account than was signed in before",
		Hint: "sign in with Claude Code: run claude, then type /login\nor bring the earlier sign-in back: ccagent restore -p " +
			e.job.Profile})
}

// before is the record that a stub was, if it is known for sure: the newest one that was in force, seen by us as the last before
// the stub, which nobody has signed out of.
func (e *errand) before(ctx context.Context, st store.Store, stub store.Record, version store.Version) (store.Record, bool) {
	past, err := store.NewHistory(e.settings.StateDir, st).List(ctx)
	if err != nil || len(past) == 0 {
		return store.Record{}, false
	}
	last := past[0]
	known := e.job.Base == job.Version{} || e.job.Base == job.Version(version) || e.job.Base == job.Version(last.Version())
	same := last.Record.SignIn == "" || last.Record.SignIn == stub.SignIn // what another program has put there has none
	return last.Record, known && same && !last.Out && !last.Spent && !last.Record.RefreshToken.Empty()
}

// claudeAccount is the id of the account that is signed in by what Claude Code keeps in its settings, "" where they say nothing.
func (e *errand) claudeAccount() string {
	var newest time.Time
	var account string
	dir := filepath.Clean(e.settings.ConfigDir)
	paths := []string{dir + ".json", filepath.Join(dir, ".claude.json")} // the second with CLAUDE_CONFIG_DIR
	if e.settings.AccountFile != "" {
		paths = []string{e.settings.AccountFile}
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

// mendNote tells of the last mend for as long as it counts, "" where there was none.
func (e *errand) mendNote() string {
	m := e.recentMends()
	if len(m.At) == 0 {
		return ""
	}
	return fmt.Sprintf("%s had been emptied or set back by another program, and was mended at %s",
		m.Last, m.At[len(m.At)-1].Format("15:04:05"))
}

// empty is the outcome when a stub stays one.
func (e *errand) empty(st store.Store, v store.Version, stub error) outcome {
	o := e.nothing(st, v, stub)
	o.result.Gone = true // seen before or not
	return o
}

// mends is a file with the times of the last mends, so that every agent keeps to the limit.
type mends struct {
	Version int         `json:"version"`
	At      []time.Time `json:"at"`
	Last    string      `json:"last"` // where the last one was
}

func (e *errand) mendPath() string {
	return filepath.Join(e.settings.StateDir, "mended", protocol.FoldProfile(e.settings.Name)+".json")
}

func (e *errand) recentMends() mends {
	m := mends{Version: 1}
	if data, err := readSmall(e.mendPath()); err != nil || json.Unmarshal(data, &m) != nil || m.Version != 1 {
		return mends{Version: 1}
	}
	now := time.Now()
	m.At = slices.DeleteFunc(m.At, func(t time.Time) bool { return t.After(now) || now.Sub(t) > mendWindow })
	return m
}

func (e *errand) mayMend() bool { return len(e.recentMends().At) < maxMends }

func (e *errand) noteMend(at store.Place) {
	m := e.recentMends()
	m.At, m.Last = append(m.At, time.Now().Round(0)), at.Location
	if data, err := json.Marshal(m); err == nil {
		store.ReplaceFile(e.mendPath(), append(data, '\n'))
	}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// move takes the record to another store. Both places are held meanwhile. The order is: write the new record and the history,
// read back, compare, write down where it is now, delete the old one. Killed before it is written down the old record is
// in force, after that the new one, and each is whole; moving once more removes what was left.
func (e *errand) move(ctx context.Context) outcome {
	if e.settings.Provider == "command" {
		return outcome{err: &protocol.Error{Code: protocol.CodeConfig, Message: "a command's tokens rest nowhere"}}
	}
	if !slices.Contains(remembered, e.job.Target) || e.job.Target == "claude-code" && e.settings.Provider != "claude" {
		return outcome{err: &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("a record can't be moved to store %q", e.job.Target),
			Hint: "there are file, keyring and encrypted, and for provider claude claude-code"}}
	}
	if e.settings.Store != "auto" && e.settings.Store != "" && e.settings.Store != e.job.Target {
		return outcome{err: &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml says store = \"" + e.settings.Store + "\"",
			Hint: "ccagent move changes that too"}}
	}
	from, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	to, err := e.openKind(e.job.Target)
	if err != nil {
		return outcome{result: e.about(from), err: err}
	}
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	s, err := e.lockAndSettle(waiting, from)
	if errors.Is(err, protocol.ErrNotFound) && to.Place().Kind == "claude-code" { // guarded no more, and signed out: what can be brought back still can
		store.NewHistory(e.settings.StateDir, from).CopyTo(ctx, store.NewHistory(e.settings.StateDir, to))
	}
	if err != nil {
		return e.unlucky(ctx, s, err)
	}
	ctx = context.WithoutCancel(ctx)
	if from.Place().Kind == to.Place().Kind {
		o := e.keep(ctx, s)
		if o.err == nil {
			e.remember(from)
			o.result.Notice = e.sweep(ctx, from, s.record)
		}
		return s.end(o)
	}
	defer s.release()
	return e.moveTo(ctx, waiting, s, to, func(store.Record) error {
		return s.st.Delete(ctx, s.version)
	})
}

// moveTo moves a settled record. leave is what becomes of its old place.
func (e *errand) moveTo(ctx, waiting context.Context, s state, to store.Store, leave func(store.Record) error) outcome {
	failed := func(err error) outcome { return outcome{result: e.about(s.st), err: err} }
	if e.job.Op == job.Move && s.st.Place().Kind == "claude-code" && !e.job.Force {
		return failed(&protocol.Error{Code: protocol.CodeConfig, Message: "Claude Code itself uses the record in " + s.st.Place().Location + ", and would be signed out",
			Hint: "move it nevertheless with --force"})
	}
	lock, err := to.Lock(waiting)
	if err == nil {
		defer lock.Release()
	} else if !errors.Is(err, protocol.ErrNotFound) { // no folder yet: Save makes it
		return failed(err)
	}
	there, version, err := to.Load(ctx)
	switch {
	case err == nil && !e.job.Force && !same(there, s.record) && (there.SignIn == "" || there.SignIn != s.record.SignIn):
		return failed(&protocol.Error{Code: protocol.CodeConfig, Message: to.Place().Location + " holds another sign-in already",
			Hint: "replace it with --force"})
	case err != nil && !replaceable(err):
		return failed(err)
	}
	e.remember(s.st) // what is undecided would be decided by what is found: from here on there may be two
	if version, err = to.Save(ctx, s.record, version); err != nil {
		return failed(err)
	}
	moved, got, err := to.Load(ctx)
	if err != nil || got != version || !same(moved, s.record) {
		return failed(&protocol.Error{Code: protocol.CodeStorage, Message: to.Place().Location + " does not hold what was written to it; the record stays where it was"})
	}
	// What can't be read can't be taken along.
	store.NewHistory(e.settings.StateDir, s.st).CopyTo(ctx, store.NewHistory(e.settings.StateDir, to))
	if err := e.decide(to.Place().Kind); err != nil {
		to.Delete(ctx, version)
		return failed(err)
	}

	o := outcome{result: e.result(to, moved, version)}
	o.result.Saved = true
	err = store.Forget(ctx, e.settings.StateDir, s.st)
	if err == nil {
		err = leave(moved)
	}
	if claude, ok := to.(*store.ClaudeCode); ok && err == nil {
		err = claude.View(e.settings.StateDir).Forget() // what is there now is no view
	}
	switch {
	case err == nil, errors.Is(err, protocol.ErrNotFound):
	case e.job.Op == job.Guard:
		o.result.Notice, o.result.Behind = fmt.Sprintf("%s could not be made a view yet (%v); that is tried again", s.st.Place().Location, err), true
	default:
		o.result.Notice = fmt.Sprintf("an old copy is left in %s (%v); remove it with: ccagent move %s %s", s.st.Place().Location, err, e.job.Profile, to.Place().Kind)
	}
	return o
}

// sweep deletes copies of the record's sign-in that an interrupted move has left elsewhere, and says which.
func (e *errand) sweep(ctx context.Context, home store.Store, record store.Record) string {
	var removed string
	for _, kind := range []string{"file", "keyring", "encrypted"} {
		st, err := e.openKind(kind)
		if err != nil || kind == home.Place().Kind {
			continue
		}
		if ring, ok := st.(*store.Keyring); ok && !ring.Known() {
			continue
		}
		copied, version, err := st.Load(ctx)
		if err != nil || !same(copied, record) && (copied.SignIn == "" || copied.SignIn != record.SignIn) {
			continue
		}
		if store.Forget(ctx, e.settings.StateDir, st) == nil && st.Delete(ctx, version) == nil {
			removed += ", " + st.Place().Location
		}
	}
	if removed == "" {
		return "it rests there already"
	}
	return "it rests there already; an old copy was removed from " + removed[len(", "):]
}

// history lists the earlier sign-ins.
func (e *errand) history(ctx context.Context) outcome {
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		return outcome{err: noHistory()}
	}
	current, _, _ := st.Load(ctx) // absent, or beyond reading: no entry is it
	past, err := store.NewHistory(e.settings.StateDir, st).List(ctx)
	var o outcome
	o.err = err
	for _, p := range past {
		o.result.Past = append(o.result.Past, e.entry(p, current))
	}
	return o
}

package renewal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// AlreadyStored is the notice of a Put that had nothing to do.
const AlreadyStored = "it is stored there already"

// Save stores the record that the agent holds unsaved, if it is still in force.
func (t *Task) Save(ctx context.Context, st store.Store) Outcome {
	if st == nil {
		record, err := t.Held()
		if err != nil {
			return Outcome{Result: t.About(nil), Err: err}
		}
		return t.keepInMemory(State{Record: record})
	}
	s, err := t.Take(ctx, st)
	if err != nil {
		return t.Unreached(ctx, s, err)
	}
	return s.End(t.Keep(ctx, s))
}

// Put stores a record from outside. A fresh sign-in is handed over first, like a renewal, and kept by the agent where it can't be
// saved: nobody signs in twice because a disk is full. The errors with a Reason are OldCopy, ExpiresFirst, BrokenThere and
// AnotherHome.
func (t *Task) Put(ctx context.Context, st store.Store, record store.Record) Outcome {
	given := record
	record.Kind, record.SignIn = t.KindOf(record), NewSignIn()
	if st == nil {
		return t.keepInMemory(State{Record: record})
	}
	if err := t.OtherHome(ctx, st, given); err != nil {
		return Outcome{Result: t.About(st), Err: err}
	}
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	if t.Job.SignIn {
		return t.signIn(waiting, st, record)
	}
	lock, err := st.Lock(waiting)
	if err != nil && !errors.Is(err, protocol.ErrNotFound) { // no folder yet: Save makes it, and takes the record for itself
		return Outcome{Result: t.About(st), Err: err}
	}
	s := State{Store: st, Lock: lock, Record: record, Unsaved: true}
	defer s.Release()
	return t.putLocked(ctx, s)
}

// putLocked is Put for what is no fresh sign-in, the lock being held.
func (t *Task) putLocked(ctx context.Context, s State) Outcome {
	failed := func(err error) Outcome { return Outcome{Result: t.About(s.Store), Err: err} }
	if t.StateDir != "" {
		if _, err := store.Recover(ctx, t.StateDir, s.Store); err != nil && !errors.Is(err, store.ErrMissing) && !store.Broken(err) {
			return failed(err)
		}
	}
	stored, version, err := s.Store.Load(ctx)
	s.Version = version
	var overwritten *store.Copy
	switch {
	case err == nil && Same(stored, s.Record):
		s.Record, s.Unsaved = stored, false
		o := t.Keep(ctx, s)
		o.Result.Notice = AlreadyStored
		return o
	case err == nil && t.replacedBefore(ctx, s.Store, s.Record):
		return failed(&Problem{Reason: OldCopy, Condition: &protocol.Error{Code: protocol.CodeConfig,
			Message: "it is an old copy, whose refresh token was spent when it was renewed"}})
	case err == nil && !t.Job.Force && stored.Serves(time.Now()) && store.ExpiresBefore(s.Record, stored):
		return failed(&Problem{Reason: ExpiresFirst, Condition: &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("it expires %s, before the one that is stored (%s)", when(s.Record.Expiry), when(stored.Expiry))}})
	case store.Broken(err) && t.Job.Force:
		overwritten = t.Overwrite(s.Store)
	case err != nil && !Replaceable(err):
		return failed(OverBroken(err))
	}
	if err == nil {
		t.backUpReplaced(ctx, s.Store, stored)
	}
	if s.Version, err = s.Store.Save(context.WithoutCancel(ctx), s.Record, version); err != nil {
		return failed(err)
	}
	s.Unsaved = false
	o := t.Keep(ctx, s)
	o.Result.Notice = NoteCopied(pathOf(overwritten))
	return o
}

// Overwrite lets the next save write over a record of st that can't be read, and returns the copy that is made of it then.
// Without [Task.StateDir] there is no place for a copy: it returns nil, and the save fails.
func (t *Task) Overwrite(st store.Store) *store.Copy {
	if t.StateDir == "" {
		return nil
	}
	return store.Overwrite(t.StateDir, st)
}

func pathOf(c *store.Copy) string {
	if c == nil {
		return ""
	}
	return c.Path()
}

// NoteCopied says for a person where the copy of what could not be read is, "" where there is none.
func NoteCopied(path string) string {
	if path == "" {
		return ""
	}
	return "what was there could not be read, and is kept in " + path
}

// OverBroken is err, with the reason BrokenThere where it says that a store holds what can't be read.
func OverBroken(err error) error {
	if !store.Broken(err) {
		return err
	}
	return &Problem{Reason: BrokenThere, Condition: Condition(err)}
}

// signIn is Put for a fresh sign-in.
func (t *Task) signIn(waiting context.Context, st store.Store, record store.Record) Outcome {
	ctx := context.WithoutCancel(waiting)
	// Where the store can't be read now, a later save is to replace what the agent saw there last. Without that version it would
	// count as somebody else's, and win.
	s := State{Store: st, Record: record, Unsaved: true, Version: store.Version(t.Job.Base)}
	overwritten := t.Overwrite(st) // nobody signs in twice because a file is broken
	load := func() (store.Record, error) {
		stored, version, err := st.Load(ctx)
		if err == nil || Replaceable(err) {
			s.Version = version
		}
		return stored, err
	}
	if lock, err := st.Lock(waiting); err == nil {
		s.Lock = lock
		// What was spilled is of an earlier sign-in: brought home it becomes part of the history, and is worth no more than that.
		if t.StateDir != "" {
			store.Recover(ctx, t.StateDir, st)
		}
	} else if !errors.Is(err, protocol.ErrNotFound) { // see Put
		s.Blocked = err
	}
	if stored, err := load(); err == nil { // what can't be loaded can't be replaced either: Save says why
		t.backUpReplaced(ctx, st, stored)
	}
	handOver := t.Describe(st, record, s.Version)
	handOver.Renewed = true
	var err error
	if handOver.Record, err = record.Marshal(); err != nil {
		return s.End(Outcome{Result: t.About(st), Err: err})
	}
	t.Setting.HandOver(handOver)
	for tries := 0; s.Blocked == nil && tries < 3; tries++ { // someone else may write meanwhile; this is newer still
		version, err := st.Save(ctx, record, s.Version)
		if err == nil {
			s.Version, s.Unsaved = version, false
			break
		}
		_, loadErr := load()
		switch conflict := errors.Is(err, store.ErrConflict); {
		case !conflict || tries == 2:
			s.Blocked = err
		case store.Broken(loadErr): // it counts as nothing, see Overwrite
			s.Version = store.Version{}
		}
	}
	o := t.Keep(ctx, s)
	o.Result.Renewed = true
	o.Result.Notice = NoteCopied(pathOf(overwritten))
	if s.Unsaved {
		o.Result.Notice = protocol.NotSavedYet + s.Blocked.Error()
	}
	return s.End(o)
}

// backUpReplaced puts the stored record into the history before another takes its place. No job of ours may have seen it yet,
// because Claude Code has written it. That it can't be kept is no reason to refuse the new one.
func (t *Task) backUpReplaced(ctx context.Context, st store.Store, r store.Record) {
	if history := t.History(st); history != nil {
		history.Keep(ctx, r, true, time.Now())
	}
}

// replacedBefore reports whether the history knows what took the place of r: its refresh token must not be sent again.
func (t *Task) replacedBefore(ctx context.Context, st store.Store, r store.Record) bool {
	history := t.History(st)
	if history == nil {
		return false
	}
	_, spent := history.Replaces(ctx, r.RefreshToken)
	return spent
}

func when(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format(time.RFC3339)
}

// Spill leaves the record that the agent holds unsaved where the next job finds it. It takes no lock: it is the last thing
// that an agent does.
func (t *Task) Spill(_ context.Context, st store.Store) Outcome {
	o := Outcome{Result: t.About(st)}
	record, err := t.Held()
	switch {
	case err != nil:
		return o.WithError(err)
	case st == nil:
		return o.WithError(&protocol.Error{Code: protocol.CodeConfig, Message: "store memory keeps nothing beyond the agent"})
	case t.StateDir == "":
		return o.WithError(&protocol.Error{Code: protocol.CodeStorage, Message: "there is no folder to leave an unsaved record in"})
	}
	if err := store.Spill(t.StateDir, st, store.Version(t.Job.Base), record); err != nil {
		return o.WithError(err)
	}
	o.Finding = Stored
	return o
}

// Current is the record that the agent's token is of, with that token in it. It takes no lock.
func (t *Task) Current(ctx context.Context, st store.Store) (State, error) {
	s := State{Store: st}
	var err error
	switch inMemory := st == nil || !t.Job.Record.Empty(); {
	case t.Source == "" && inMemory:
		s.Record, err = t.Held()
		s.Unsaved = true
		if t.FromNothing && isAbsent(err) {
			err = nil
		}
	case t.Source == "":
		s.Record, s.Version, err = st.Load(ctx)
	}
	// The cached token may be of a sign-in whose place another has taken meanwhile.
	if !t.Job.Token.Empty() && (st == nil || store.ParseLineage(t.Job.Lineage).Same(s.Record.Lineage())) {
		s.Record.AccessToken = t.Job.Token
	}
	return s, err
}

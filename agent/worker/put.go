package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// save stores the record that the agent holds unsaved, if it is still in force.
func (e *errand) save(ctx context.Context) outcome {
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		record, err := e.held()
		if err != nil {
			return outcome{result: e.about(nil), err: err}
		}
		return e.keepInMemory(state{record: record})
	}
	s, err := e.lockAndSettle(ctx, st)
	if err != nil {
		return e.unlucky(ctx, s, err)
	}
	return s.end(e.keep(ctx, s))
}

// put stores a record from outside and binds it to the token endpoint that is configured now. A fresh sign-in is handed over
// first, like a renewal, and kept by the agent where it can't be saved: nobody signs in twice because a disk is full.
func (e *errand) put(ctx context.Context) outcome {
	if !e.traits().Stored {
		return outcome{
			err: &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "profile " + e.job.Profile + " gets its tokens from a command: there is nothing to store",
			},
		}
	}
	record, err := e.held()
	if err != nil {
		return outcome{err: err}
	}
	handed := record
	record.Kind = e.kind(record)
	record.SignIn = newSignIn()
	if record.TokenOrigin, err = e.bind(record); err != nil {
		return outcome{err: err}
	}
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		return e.keepInMemory(state{record: record})
	}
	if err := e.otherHome(ctx, st, handed); err != nil {
		return outcome{result: e.about(st), err: err}
	}

	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if e.job.SignIn {
		return e.signIn(waiting, st, record)
	}
	lock, err := st.Lock(waiting)
	if err != nil && !errors.Is(err, protocol.ErrNotFound) { // no folder yet: Save makes it, and takes the record for itself
		return outcome{result: e.about(st), err: err}
	}
	s := state{st: st, lock: lock, record: record, unsaved: true}
	defer s.release()
	var copied *store.Copy // of what is broken there
	if _, err := store.Recover(ctx, e.settings.StateDir, st); err != nil && !errors.Is(err, store.ErrMissing) &&
		!store.Broken(err) {
		return outcome{result: e.about(st), err: err}
	}
	stored, version, err := st.Load(ctx)
	s.version = version
	switch {
	case err == nil && same(stored, record):
		s.record, s.unsaved = stored, false
		o := e.keep(ctx, s)
		o.result.Notice = "it is stored there already"
		return o
	case err == nil && e.replacedBefore(ctx, st, record):
		return outcome{result: e.about(st), err: &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "it is an old copy, whose refresh token was spent when it was renewed",
			Hint:    "go on with what is stored, or see what can be brought back: ccagent restore -p " + e.job.Profile,
		}}
	case err == nil && !e.job.Force && store.ExpiresBefore(record, stored):
		return outcome{result: e.about(st), err: &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("it expires %s, before the one that is stored (%s)", when(record.Expiry), when(stored.Expiry)),
			Hint:    "store it nevertheless with --force",
		}}
	case store.Broken(err) && e.job.Force:
		copied = store.Overwrite(e.settings.StateDir, st)
	case err != nil && !replaceable(err):
		return outcome{result: e.about(st), err: overBroken(err)}
	}
	if err == nil {
		e.backUpReplaced(ctx, st, stored)
	}
	if s.version, err = st.Save(context.WithoutCancel(ctx), record, version); err != nil {
		return outcome{result: e.about(st), err: err}
	}
	s.unsaved = false
	o := e.keep(ctx, s)
	if copied != nil {
		o.result.Notice = noteCopied(copied.Path())
	}
	if e.traits().ClaudeCode && e.settings.Store != store.KindFile && st.Place().Kind == store.KindFile {
		o.result.Notice = "Claude Code has no sign-in of its own here, so this one is kept in a file of ccagent's"
	}
	return o
}

// overBroken is err with what a person can do where it says that a store holds what can't be read.
func overBroken(err error) error {
	if !store.Broken(err) {
		return err
	}
	hint := strings.TrimPrefix(protocol.HintOf(err)+"\nwrite over it with --force; a copy of what is there is kept", "\n")
	return &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error(), Hint: hint}
}

// replaceable reports whether a store that fails to load with err has no record that a fresh one would destroy.
func replaceable(err error) bool {
	return errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrLoginRequired) || errors.Is(err, store.ErrMissing)
}

// signIn is put for a fresh sign-in.
func (e *errand) signIn(waiting context.Context, st store.Store, record store.Record) outcome {
	ctx := context.WithoutCancel(waiting)
	// Where the store can't be read now, what the agent saw there last is what a later save replaces: it would count as somebody
	// else's.
	s := state{st: st, record: record, unsaved: true, version: store.Version(e.job.Base)}
	copied := store.Overwrite(e.settings.StateDir, st) // nobody signs in twice because a file is broken
	load := func() (store.Record, error) {
		stored, version, err := st.Load(ctx)
		if err == nil || replaceable(err) {
			s.version = version
		}
		return stored, err
	}
	if lock, err := st.Lock(waiting); err == nil {
		s.lock = lock
		// What was spilled is of an earlier sign-in: brought home it becomes part of the history, and is worth no more than that.
		store.Recover(ctx, e.settings.StateDir, st)
	} else if !errors.Is(err, protocol.ErrNotFound) { // see put
		s.blocked = err
	}
	if stored, err := load(); err == nil { // what can't be loaded can't be replaced either: Save says why
		e.backUpReplaced(ctx, st, stored)
	}
	handOver := e.result(st, record, s.version)
	handOver.Renewed = true
	var err error
	if handOver.Record, err = record.Marshal(); err != nil {
		return s.end(outcome{result: e.about(st), err: err})
	}
	e.agent.report(job.Report{Kind: job.HandOver, Result: handOver})
	for tries := 0; s.blocked == nil && tries < 3; tries++ { // someone else may write meanwhile; this is newer still
		version, err := st.Save(ctx, record, s.version)
		if err == nil {
			s.version, s.unsaved = version, false
			break
		}
		_, loadErr := load()
		switch conflict := errors.Is(err, store.ErrConflict); {
		case !conflict || tries == 2:
			s.blocked = err
		case store.Broken(loadErr): // it counts as nothing, see Overwrite
			s.version = store.Version{}
		}
	}
	o := e.keep(ctx, s)
	o.result.Renewed = true
	o.result.Notice = noteCopied(copied.Path())
	if s.unsaved {
		o.result.Notice = "it could not be saved yet, and is kept in the agent's memory until it is: " + s.blocked.Error()
	}
	return s.end(o)
}

// backUpReplaced keeps the record of a sign-in that another takes the place of. It may be one that no job of ours has seen, as
// Claude Code has written it. To fail at it is no reason to refuse a new one.
func (e *errand) backUpReplaced(ctx context.Context, st store.Store, r store.Record) {
	store.NewHistory(e.settings.StateDir, st).Keep(ctx, r, true, time.Now())
}

// replacedBefore reports whether the history knows what took the place of r: its refresh token must not be sent again.
func (e *errand) replacedBefore(ctx context.Context, st store.Store, r store.Record) bool {
	_, spent := store.NewHistory(e.settings.StateDir, st).Replaces(ctx, r.RefreshToken)
	return spent
}

// bind returns the origin that a record's secrets may be sent to. Where the issuer alone is configured it is the one
// that the sign-in found there, or the one that the first renewal will find.
func (e *errand) bind(r store.Record) (string, error) {
	switch {
	case !e.traits().SignsIn:
		return "", nil
	case e.settings.TokenURL == "" && e.settings.Issuer != "" && r.TokenOrigin == "":
		return "", nil
	case e.settings.TokenURL == "" && e.settings.Issuer != "":
		return oauth.Origin(r.TokenOrigin)
	}
	return oauth.Origin(e.settings.TokenURL)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// spill leaves the record that the agent holds unsaved where the next job finds it. It takes no lock: it is the last thing
// that an agent does.
func (e *errand) spill(ctx context.Context) outcome {
	record, err := e.held()
	if err != nil {
		return outcome{err: err}
	}
	st, err := e.open(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if st == nil {
		return outcome{
			result: e.about(nil),
			err:    &protocol.Error{Code: protocol.CodeConfig, Message: "store memory keeps nothing beyond the agent"},
		}
	}
	o := outcome{result: e.about(st), err: store.Spill(e.settings.StateDir, st, store.Version(e.job.Base), record)}
	o.result.Saved = o.err == nil
	return o
}

package renewal

import (
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// State is a record as a job finds it, and later as it leaves it.
type State struct {
	Store   store.Store // nil: store memory
	Lock    store.Lock  // nil: store memory, or no folder to lock
	Record  store.Record
	Version store.Version // what the store holds: the base of the next save
	Unsaved bool          // Record is not what the store holds
	Blocked error         // why Record can't be saved now

	over store.Record // what Record takes the place of in the store; the zero Record: not known
	held bool         // Record is what the agent held
}

// Release lets the record go.
func (s *State) Release() {
	if s.Lock != nil {
		s.Lock.Release() // a lock that was lost is somebody else's now; the save has looked
		s.Lock = nil
	}
}

// End releases the record, unless something is left unsaved: then it is held until o is closed.
func (s *State) End(o Outcome) Outcome {
	if o.spill != nil {
		o.lock, s.Lock = s.Lock, nil
	} else {
		s.Release()
	}
	return o
}

// Take locks the record and finds out which one is in force (see [Task.Settle]). On success [State.End] or [State.Release] must
// be called.
func (t *Task) Take(ctx context.Context, st store.Store) (State, error) {
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	lock, err := st.Lock(waiting)
	if err != nil {
		if ours, heldErr := t.Held(); heldErr == nil && errors.Is(err, protocol.ErrNotFound) {
			return t.reconcile(ctx, st, ours, store.Version(t.Job.Base)) // the folder itself is gone: nothing to lock
		}
		return State{Store: st}, err
	}
	s, err := t.Settle(ctx, st)
	s.Lock = lock
	if err != nil {
		s.Release()
	}
	return s, err
}

// Settle finds the record in force, the lock being held: what spill files bring back, what the store holds, and what the agent
// holds unsaved. With [Task.FromNothing] a store without tokens holds the zero Record.
func (t *Task) Settle(ctx context.Context, st store.Store) (State, error) {
	s, err := t.inForce(ctx, st)
	if t.FromNothing && isAbsent(err) {
		s.Record, err = store.Record{}, nil
	}
	return s, err
}

// inForce is Settle without FromNothing. It makes a spill of what the agent holds, unless there is one, so that what is unsaved
// is judged in one order wherever it comes from.
func (t *Task) inForce(ctx context.Context, st store.Store) (State, error) {
	ours, heldErr := t.Held()
	holding, base := heldErr == nil, store.Version(t.Job.Base)
	if holding && (t.StateDir == "" || store.Spill(t.StateDir, st, base, ours) != nil) {
		return t.reconcile(ctx, st, ours, base) // there is no room for it, but the store may have some
	}
	if t.StateDir != "" {
		spilled, err := store.Recover(ctx, t.StateDir, st)
		switch {
		case spilled != nil:
			return State{Store: st, Record: spilled.Record, Version: spilled.Base, Unsaved: true, Blocked: err}, nil
		case err != nil && holding:
			return State{Store: st, Record: ours, Version: base, Unsaved: true, Blocked: err}, nil
		case err != nil:
			return State{Store: st}, err
		}
	}
	stored, version, err := st.Load(ctx)
	held := err == nil && holding && Same(stored, ours)
	return State{Store: st, Record: stored, Version: version, held: held}, err
}

// reconcile decides between a record of ours that is not saved and what the store holds. No clock decides it. If the store still
// holds base, ours wins. If someone else has written, theirs wins, and ours is set aside so that it can be restored, unless
// theirs is a stub or can't be read. A record that was deleted stays deleted.
func (t *Task) reconcile(ctx context.Context, st store.Store, ours store.Record, base store.Version) (State, error) {
	stored, version, err := st.Load(ctx)
	oursWins := State{Store: st, Record: ours, Version: version, Unsaved: true}
	theirsWins := State{Store: st, Record: stored, Version: version}
	blocked := func(why error) State {
		return State{Store: st, Record: ours, Version: base, Unsaved: true, Blocked: why}
	}
	if err == nil {
		switch {
		case Same(stored, ours):
			return theirsWins, nil
		case version == base:
			oursWins.over = stored
			return oursWins, nil
		}
		return theirsWins, t.setAside(ctx, st, ours, base)
	}
	switch {
	case errors.Is(err, protocol.ErrLoginRequired):
		return oursWins, nil
	case !errors.Is(err, protocol.ErrNotFound):
		return blocked(err), nil
	case t.Lost(st) && store.FolderThere(st.Place()) != nil:
		return blocked(store.FolderThere(st.Place())), nil
	case base == store.Version{}: // there was none before either
		return oursWins, nil
	}
	deleted := State{Store: st, Record: ours, Version: version}
	if asideErr := t.setAside(ctx, st, ours, base); asideErr != nil {
		return deleted, asideErr
	}
	return deleted, err
}

// setAside keeps a record that has lost where a person can find it, if there is such a place. It spills the record and recovers
// the spill: because the store does not hold base any more, that sets it aside.
func (t *Task) setAside(ctx context.Context, st store.Store, ours store.Record, base store.Version) error {
	if t.StateDir == "" {
		return nil
	}
	if err := store.Spill(t.StateDir, st, base, ours); err != nil {
		return err
	}
	_, err := store.Recover(ctx, t.StateDir, st)
	return err
}

// Keep saves what is unsaved, and describes how the record is left.
func (t *Task) Keep(ctx context.Context, s State) Outcome {
	if s.Store == nil {
		return t.keepInMemory(s)
	}
	seenBefore := !s.Unsaved && t.Job.Base == job.Version(s.Version)
	ours, lost := false, false
	for tries := 0; s.Unsaved && s.Blocked == nil && tries < 3; tries++ {
		version, err := s.Store.Save(ctx, s.Record, s.Version)
		switch {
		case err == nil:
			s.Version, s.Unsaved, ours = version, false, true
		case errors.Is(err, store.ErrConflict):
			lock := s.Lock
			if s, err = t.reconcile(ctx, s.Store, s.Record, s.Version); err != nil {
				return t.Unreached(ctx, s, err)
			}
			s.Lock, lost = lock, !s.Unsaved
		default:
			s.Blocked = err
		}
	}
	if t.StateDir != "" {
		t.Aside = store.CountSetAside(t.StateDir, s.Store)
	}
	t.Setting.Rests(s.Store) // also where it is unsaved: it belongs there
	if s.Unsaved {
		return t.unsaved(s)
	}
	o := Outcome{Result: t.Describe(s.Store, s.Record, s.Version), Finding: Stored}
	if t.FromNothing && s.Record.IsStub() {
		return o
	}
	if !seenBefore && !ours {
		t.TwoHomes = t.Claim(ctx, s.Store, s.Record)
	}
	if history := t.History(s.Store); history != nil { // the backup: failing at it is no failure of the job
		switch {
		case ours && s.over.Lineage().Same(s.Record.Lineage()):
			t.Forgetful = history.Renewed(ctx, s.over, s.Record, time.Now())
		case !seenBefore:
			t.Forgetful = history.Keep(ctx, s.Record, !ours && !t.Job.Op.Stores(), time.Now())
		}
	}
	if lost {
		o.theirs = &s
	}
	return o
}

// unsaved is the outcome when the store has refused a record. The agent holds it from here on, but may die before it reads that
// nothing was saved. So the record is spilled as well. The next save that succeeds removes the spill.
func (t *Task) unsaved(s State) Outcome {
	o := Outcome{Result: t.Describe(s.Store, s.Record, s.Version), Finding: Unsaved, Err: CannotSave(s)}
	record, err := s.Record.Marshal()
	if err != nil {
		return o.WithError(err)
	}
	o.Result.Record = record
	if t.StateDir == "" {
		return o
	}
	spill := func() error { return store.Spill(t.StateDir, s.Store, s.Version, s.Record) }
	if spill() != nil {
		o.spill = spill
	}
	return o
}

// keepInMemory hands the record back to the agent, whose memory is its store.
func (t *Task) keepInMemory(s State) Outcome {
	o := Outcome{Result: t.Describe(nil, s.Record, store.Version{}), Finding: Stored}
	if s.Record.IsStub() && t.FromNothing {
		return o
	}
	record, err := s.Record.Marshal()
	if err != nil {
		o.Finding = Unsaved
		return o.WithError(err)
	}
	o.Result.Record = record
	return o
}

// CannotSave is the error that a record could not be saved.
func CannotSave(s State) error {
	err := s.Blocked
	if err == nil {
		err = store.ErrConflict
	}
	message := "the record could not be saved at " + s.Store.Place().Location + ": " + err.Error()
	return &protocol.Error{Code: protocol.CodeStorage, Message: message, Hint: protocol.HintOf(err)}
}

// ComesBack waits for a record that fails to load with failure to be there again, and reports whether it is. A program that
// writes in two steps, or in place, may not have been done.
func ComesBack(ctx context.Context, st store.Store, failure error) bool {
	const pause = 100 * time.Millisecond
	for range ComeBackTime / pause {
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

// ComeBackTime is how long [ComesBack] waits. A record that has been missing for so long counts as removed.
const ComeBackTime = 2 * time.Second

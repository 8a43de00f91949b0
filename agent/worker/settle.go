package worker

import (
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// lockWait bounds the wait for a record that somebody else is renewing.
const lockWait = store.LockWait

// state is a record as a job finds it, and later as it leaves it.
type state struct {
	st      store.Store // nil: store memory
	lock    store.Lock  // nil: store memory, or no folder to lock
	record  store.Record
	over    store.Record  // what record takes the place of in the store; the zero Record: not known
	version store.Version // what the store holds: the base of the next save
	unsaved bool          // record is not what the store holds
	held    bool          // record is what the agent held
	blocked error         // why record can't be saved now
}

// held is the record that came with the job.
func (e *errand) held() (store.Record, error) {
	if e.job.Record.Empty() {
		return store.Record{}, &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored for profile " + e.job.Profile}
	}
	return store.Unmarshal(e.job.Record)
}

// lockAndSettle takes the record and finds out which one is in force. On success s.end must be called.
func (e *errand) lockAndSettle(ctx context.Context, st store.Store) (state, error) {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock, err := st.Lock(waiting)
	if err != nil {
		if ours, heldErr := e.held(); heldErr == nil && errors.Is(err, protocol.ErrNotFound) {
			return e.reconcile(ctx, st, ours, store.Version(e.job.Base)) // the folder itself is gone: nothing to lock
		}
		return state{st: st}, err
	}
	s, err := e.settle(ctx, st)
	s.lock = lock
	if err != nil {
		s.release()
	}
	return s, err
}

func (s *state) release() {
	if s.lock != nil {
		s.lock.Release() // a lock that was lost is somebody else's now; the save has looked
		s.lock = nil
	}
}

// end releases the record, unless something is left unsaved: then it is held until that is safe.
func (s *state) end(o outcome) outcome {
	if o.unsaved != nil {
		o.release = s.release
	} else {
		s.release()
	}
	return o
}

// settle finds the record in force, the lock being held: what spill files bring back, what the store holds, and what the agent
// holds unsaved. The last is made a spill as well unless it is one, so that one order decides among them all.
func (e *errand) settle(ctx context.Context, st store.Store) (state, error) {
	ours, heldErr := e.held()
	base := store.Version(e.job.Base)
	if heldErr == nil {
		if err := store.Spill(e.settings.StateDir, st, base, ours); err != nil {
			return e.reconcile(ctx, st, ours, base) // there is no room for it, but the store may have some
		}
	}
	spilled, err := store.Recover(ctx, e.settings.StateDir, st)
	switch {
	case spilled != nil:
		return state{st: st, record: spilled.Record, version: spilled.Base, unsaved: true, blocked: err}, nil
	case err != nil && heldErr == nil:
		return state{st: st, record: ours, version: base, unsaved: true, blocked: err}, nil
	case err != nil:
		return state{st: st}, err
	}
	stored, version, err := st.Load(ctx)
	return state{st: st, record: stored, version: version, held: err == nil && heldErr == nil && same(stored, ours)}, err
}

// reconcile decides between a record of ours that is not saved and what the store holds. There are no clocks in it: the store
// still holds base, ours wins; someone else has written, theirs wins and ours is set aside restorably, unless theirs is a
// logged-out stub or corrupt. A record that was deleted stays deleted.
func (e *errand) reconcile(ctx context.Context, st store.Store, ours store.Record, base store.Version) (state, error) {
	stored, version, err := st.Load(ctx)
	s := state{st: st, record: ours, version: version, unsaved: true}
	switch {
	case err == nil && same(stored, ours):
		s.record, s.unsaved = stored, false
	case err == nil && version == base:
		s.over = stored
	case errors.Is(err, protocol.ErrLoginRequired):
	case err == nil:
		s.record, s.unsaved = stored, false
		return s, e.setAside(ctx, st, ours, base)
	case errors.Is(err, protocol.ErrNotFound) && e.lost(st) && store.FolderThere(st.Place()) != nil:
		s.version, s.blocked = base, store.FolderThere(st.Place())
	case errors.Is(err, protocol.ErrNotFound) && base == store.Version{}:
	case errors.Is(err, protocol.ErrNotFound):
		s.unsaved = false
		if asideErr := e.setAside(ctx, st, ours, base); asideErr != nil {
			return s, asideErr
		}
		return s, err
	default:
		s.version, s.blocked = base, err
	}
	return s, nil
}

// setAside keeps a record that has lost where a person can find it. The store differs from base, so recovering the spill
// does no more than that.
func (e *errand) setAside(ctx context.Context, st store.Store, ours store.Record, base store.Version) error {
	if err := store.Spill(e.settings.StateDir, st, base, ours); err != nil {
		return err
	}
	_, err := store.Recover(ctx, e.settings.StateDir, st)
	return err
}

// same reports whether two records are the same sign-in at the same point of its life.
func same(a, b store.Record) bool {
	return a.AccessToken.Reveal() == b.AccessToken.Reveal() && a.RefreshToken.Reveal() == b.RefreshToken.Reveal()
}

// keep saves what is unsaved and describes the end: Saved is whether anything is left to be saved.
func (e *errand) keep(ctx context.Context, s state) outcome {
	if s.st == nil {
		return e.keepInMemory(s)
	}
	fresh, ours, lost := s.unsaved || e.job.Base != job.Version(s.version), false, false
	for tries := 0; s.unsaved && s.blocked == nil && tries < 3; tries++ {
		version, err := s.st.Save(ctx, s.record, s.version)
		switch {
		case err == nil:
			s.version, s.unsaved, ours = version, false, true
		case errors.Is(err, store.ErrConflict):
			lock := s.lock
			if s, err = e.reconcile(ctx, s.st, s.record, s.version); err != nil {
				return e.unlucky(ctx, s, err)
			}
			s.lock, lost = lock, !s.unsaved
		default:
			s.blocked = err
		}
	}
	o := outcome{result: e.result(s.st, s.record, s.version)}
	e.aside = store.CountSetAside(e.settings.StateDir, s.st)
	e.remember(s.st) // what is unsaved belongs there too, and nowhere else
	if o.result.Saved = !s.unsaved; o.result.Saved {
		if fresh && !ours {
			e.shared = e.claim(ctx, s.st, s.record)
		}
		switch history := store.NewHistory(e.settings.StateDir, s.st); { // the backup: failing at it is no failure of the job
		case ours && s.over.Lineage().Same(s.record.Lineage()):
			e.forgetful = history.Renewed(ctx, s.over, s.record, time.Now())
		case fresh:
			e.forgetful = history.Keep(ctx, s.record, !ours && !e.job.Op.Stores(), time.Now())
		}
		if lost {
			o.theirs = &s
		}
		return o
	}
	record, err := s.record.Marshal()
	if err != nil {
		return o.but(err)
	}
	o.result.Record = record
	o.err = cannotSave(s)
	// The agent may die before it reads that nothing was saved, so what the store refuses is spilled whoever holds it as well.
	// The save that succeeds brings the spill home.
	o.unsaved = func() error { return store.Spill(e.settings.StateDir, s.st, s.version, s.record) }
	if o.unsaved() == nil {
		o.unsaved = nil
	}
	return o
}

// keepInMemory hands the record back to the agent, whose memory is its store.
func (e *errand) keepInMemory(s state) outcome {
	o := outcome{result: e.result(nil, s.record, store.Version{})}
	record, err := s.record.Marshal()
	if err != nil {
		return o.but(err)
	}
	o.result.Record, o.result.Saved = record, true
	return o
}

func cannotSave(s state) error {
	err := s.blocked
	if err == nil {
		err = store.ErrConflict
	}
	message := "the record could not be saved at " + s.st.Place().Location + ": " + err.Error()
	return &protocol.Error{Code: protocol.CodeStorage, Message: message, Hint: protocol.HintOf(err)}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// move takes the record to another store. Both places are held meanwhile. The order is: write the new record and the history,
// read back, compare, write down where it is now, delete the old one. Killed before it is written down the old record is
// in force, after that the new one, and each is whole; moving once more removes what was left.
func (t *task) move(ctx context.Context) renewal.Outcome {
	if !t.traits().Stored {
		return renewal.Outcome{Err: &protocol.Error{Code: protocol.CodeConfig, Message: "a command's tokens rest nowhere"}}
	}
	target := store.Kind(t.Job.Target)
	if !slices.Contains(store.Kinds(store.Traits.Rests), target) || target.Traits().Shared && !t.traits().ClaudeCode {
		return renewal.Outcome{
			Err: &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("a record can't be moved to store %q", target),
				Hint: "there are " + store.ListKinds(store.Kinds(store.Traits.Ours)) + ", and for provider claude claude-code"},
		}
	}
	if !t.settings.Store.MayBe(target) {
		return renewal.Outcome{
			Err: &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml says store = \"" + string(t.settings.Store) + "\"",
				Hint: "ccagent move changes that too"},
		}
	}
	from, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	to, err := t.openKind(target)
	if err != nil {
		return renewal.Outcome{Result: t.About(from), Err: err}
	}
	waiting, cancel := context.WithTimeout(ctx, store.LockWait)
	defer cancel()
	s, err := t.Take(waiting, from)
	if errors.Is(err, protocol.ErrNotFound) {
		if other := t.elsewhere(ctx, from); other != nil {
			from = other
			s, err = t.Take(waiting, from)
		}
	}
	if errors.Is(err, protocol.ErrNotFound) &&
		to.Place().Kind.Traits().Shared { // guarded no more, and signed out: what can be brought back still can
		store.NewHistory(t.settings.StateDir, to).Take(ctx, store.NewHistory(t.settings.StateDir, from))
	}
	if err != nil {
		return t.Unreached(ctx, s, err)
	}
	ctx = context.WithoutCancel(ctx)
	if from.Place().Kind == to.Place().Kind {
		o := t.Keep(ctx, s)
		if o.Err == nil {
			t.remember(from)
			o.Result.Notice = "it rests there already"
			if copies := t.sweep(ctx, from, func(copied store.Record) bool { return sameSignIn(copied, s.Record) }); copies != "" {
				o.Result.Notice += "; an old copy was removed from " + copies
			}
		}
		return s.End(o)
	}
	defer s.Release()
	return t.moveTo(ctx, waiting, s, to, func(store.Record) error {
		return s.Store.Delete(ctx, s.Version)
	})
}

// moveTo moves a settled record, whole or not at all. leave is what becomes of its old place, which must not hold the refresh
// token after that. Where a step fails, the steps before it are taken back.
func (t *task) moveTo(
	ctx, waiting context.Context, s renewal.State, to store.Store, leave func(store.Record) error,
) renewal.Outcome {
	failed := func(err error) renewal.Outcome {
		var half *halfMoved
		if errors.As(err, &half) {
			return renewal.Outcome{Result: t.About(to), Err: half.is}
		}
		return renewal.Outcome{Result: t.About(s.Store), Err: err}
	}
	if t.Job.Op == job.Move && s.Store.Place().Kind.Traits().Shared && !t.Job.Force && s.Record.Serves(time.Now()) {
		return failed(
			&protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "Claude Code itself uses the record in " + s.Store.Place().Location + ", and would be signed out",
				Hint:    "move it nevertheless with --force",
			},
		)
	}
	if err := t.OtherHome(ctx, s.Store, s.Record); err != nil {
		return failed(err)
	}
	lock, err := to.Lock(waiting)
	if err == nil {
		defer lock.Release()
	} else if !errors.Is(err, protocol.ErrNotFound) { // no folder yet: Save makes it
		return failed(err)
	}
	var copied *store.Copy // of what is broken there
	there, version, err := to.Load(ctx)
	switch {
	case err == nil && !t.Job.Force && there.Serves(time.Now()) && !sameSignIn(there, s.Record):
		return failed(&protocol.Error{Code: protocol.CodeConfig, Message: to.Place().Location + " holds another sign-in already",
			Hint: "replace it with --force"})
	case store.Broken(err) && t.Job.Force:
		copied = store.Overwrite(t.settings.StateDir, to)
	case err != nil && !renewal.Replaceable(err):
		return failed(renewal.OverBroken(err))
	}
	if err == nil && !sameSignIn(there, s.Record) { // with --force: it is replaced, and not lost
		if err := t.History(to).Keep(ctx, there, true, time.Now()); err != nil {
			return failed(err)
		}
	}
	t.remember(s.Store) // where store auto is not decided yet: from here on a record may be found in two places
	arrived := arrival{to: to, occupied: err == nil, there: there, base: version}
	moved, version, err := t.transfer(ctx, s, arrived, leave)
	if err != nil {
		return failed(t.takeBack(ctx, s, arrived, err))
	}
	o := renewal.Outcome{Result: t.Describe(to, moved, version), Finding: renewal.Stored}
	// Neither of these holds the record that is in force, so what is left of them does no harm: the history of a place without a
	// record is looked at by nobody, and is merged again by the next move. A view that is not known of is somebody's own record.
	if err := store.Forget(ctx, t.settings.StateDir, s.Store); err != nil {
		o.Result.Notice = "what is kept of earlier sign-ins could not be cleared: " + err.Error()
	}
	if copied != nil && o.Result.Notice == "" {
		o.Result.Notice = renewal.NoteCopied(copied.Path())
	}
	t.Claim(ctx, to, moved)
	if claude, ok := to.(*store.ClaudeCode); ok {
		claude.View(t.settings.StateDir).Forget() // what is there now is no view
	}
	return o
}

// transfer does the steps of a move that can be taken back, and returns the record as its new place has it.
func (t *task) transfer(
	ctx context.Context, s renewal.State, a arrival, leave func(store.Record) error,
) (moved store.Record, version store.Version, err error) {
	if version, err = a.to.Save(ctx, s.Record, a.base); err != nil {
		return moved, version, err
	}
	moved, got, err := a.to.Load(ctx)
	if err != nil || got != version || !renewal.Same(moved, s.Record) {
		return moved, version, &protocol.Error{Code: protocol.CodeStorage,
			Message: a.to.Place().Location + " does not hold what was written to it; the record stays where it was"}
	}
	if err = t.History(a.to).Take(ctx, t.History(s.Store)); err == nil {
		err = store.CopySetAside(t.settings.StateDir, s.Store, a.to)
	}
	if err == nil {
		err = t.decide(a.to.Place().Kind)
	}
	if err == nil {
		err = t.leave(ctx, s, moved, leave)
	}
	return moved, version, err
}

// leave has do clear the old place of a record that has moved, and then looks whether the refresh token is gone from there.
func (t *task) leave(ctx context.Context, s renewal.State, moved store.Record, do func(store.Record) error) error {
	if err := do(moved); err != nil && !errors.Is(err, protocol.ErrNotFound) {
		return err
	}
	left, _, err := s.Store.Load(ctx)
	switch {
	case errors.Is(err, protocol.ErrInvalid):
		return err
	case err == nil && t.Job.Op == job.Move && renewal.Same(left, moved),
		err == nil && !left.RefreshToken.Empty() && left.RefreshToken.Reveal() == moved.RefreshToken.Reveal():
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: s.Store.Place().Location + " holds what it held before, though it was written without an error",
			Hint:    "find out what writes it back",
		}
	}
	return nil // what somebody else has written there meanwhile is for the next job to judge
}

// arrival is the place that a record moves to, as it was before.
type arrival struct {
	to       store.Store
	occupied bool          // it held a record
	there    store.Record  // that record
	base     store.Version // of what it held
}

// halfMoved is the failure of a move that could not be taken back either: the new place is in force.
type halfMoved struct{ is *protocol.Error }

func (h *halfMoved) Error() string { return h.is.Message }

// takeBack undoes a move because of err, which it returns: the old place holds its record again and is in force, and the new one
// holds what it held. Where that fails as well, both copies stay, and the error is a halfMoved that says what is where.
func (t *task) takeBack(ctx context.Context, s renewal.State, a arrival, err error) error {
	undo := func() error {
		store.Overwrite(t.settings.StateDir, s.Store)
		left, version, loadErr := s.Store.Load(ctx)
		whole := loadErr == nil && renewal.Same(left, s.Record)
		another := loadErr == nil && !left.RefreshToken.Empty() && left.RefreshToken.Reveal() != s.Record.RefreshToken.Reveal()
		if !whole && !another { // the step that failed has done something to it
			if _, err := s.Store.Save(ctx, s.Record, version); err != nil {
				return err
			}
		}
		if err := t.decide(s.Store.Place().Kind); err != nil {
			return err
		}
		copied, version, loadErr := a.to.Load(ctx)
		switch {
		case loadErr != nil || !renewal.Same(copied, s.Record): // it was never written
			return nil
		case a.occupied:
			_, err := a.to.Save(ctx, a.there, version)
			return err
		}
		if err := a.to.Delete(ctx, version); err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return err
		}
		store.Forget(ctx, t.settings.StateDir, a.to) // a history without its record is looked at by nobody
		return nil
	}
	undoErr := undo()
	if undoErr == nil {
		return err
	}
	again := "ccagent move " + t.Job.Profile + " " + string(a.to.Place().Kind)
	if t.Job.Op == job.Guard {
		again = "ccagent guard claude-code -p " + t.Job.Profile
	}
	return &halfMoved{&protocol.Error{Code: protocol.CodeStorage,
		Message: fmt.Sprintf("%v; and that could not be taken back (%v): the record is in %s, and may still be in %s as well", err,
			undoErr, a.to.Place().Location, s.Store.Place().Location),
		Hint: strings.TrimPrefix(protocol.HintOf(err)+"\nonce that is put right, finish it with: "+again, "\n")}}
}

// elsewhere returns where the profile's record rests when the store that it should rest in has never held one: store was changed
// in config.toml alone. Nil: nowhere. What lies beside a store that has been used is what an interrupted move left, and may be
// spent.
func (t *task) elsewhere(ctx context.Context, home store.Store) store.Store {
	if past, err := store.NewHistory(t.settings.StateDir, home).List(ctx); err != nil || len(past) > 0 || !t.Job.Record.Empty() {
		return nil
	}
	for st := range t.others(home) {
		if _, _, err := st.Load(ctx); !errors.Is(err, protocol.ErrNotFound) {
			return st
		}
	}
	return nil
}

// leftBehind is the error of a request for it.
func (t *task) leftBehind(home, other store.Store) error {
	return &protocol.Error{
		Code:    protocol.CodeNotFound,
		Message: "nothing is stored in " + home.Place().Location + ": the record is still in " + other.Place().Location,
		Hint:    "bring it along: ccagent move " + t.Job.Profile + " " + string(home.Place().Kind),
	}
}

// others are the stores of our own that a copy of the record may be left in. A keyring that is not known to hold one is not
// asked.
func (t *task) others(home store.Store) iter.Seq[store.Store] {
	return func(yield func(store.Store) bool) {
		for _, kind := range store.Kinds(store.Traits.Ours) {
			st, err := t.openKind(kind)
			if err != nil || kind == home.Place().Kind {
				continue
			}
			if ring, ok := st.(*store.Keyring); ok && !ring.Known() {
				continue
			}
			if !yield(st) {
				return
			}
		}
	}
}

// sameSignIn reports whether two records are of one sign-in, at whatever point of its life.
func sameSignIn(a, b store.Record) bool {
	return renewal.Same(a, b) || a.SignIn != "" && a.SignIn == b.SignIn
}

// sweep deletes copies of the record that an interrupted move has left elsewhere, and says where they were.
func (t *task) sweep(ctx context.Context, home store.Store, isCopy func(store.Record) bool) string {
	var removed []string
	for st := range t.others(home) {
		copied, version, err := st.Load(ctx)
		if err != nil || !isCopy(copied) {
			continue
		}
		if store.Forget(ctx, t.settings.StateDir, st) == nil && st.Delete(ctx, version) == nil {
			removed = append(removed, st.Place().Location)
		}
	}
	return strings.Join(removed, ", ")
}

// history lists the earlier sign-ins.
func (t *task) history(ctx context.Context) renewal.Outcome {
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	if st == nil {
		return renewal.Outcome{Err: noHistory()}
	}
	history := store.NewHistory(t.settings.StateDir, st)
	current, _, err := st.Load(ctx) // where there is none, or one that can't be read, no entry of the list is the current one
	if err == nil {
		history.Keep(ctx, current, true, time.Now()) // so that it is listed; where that fails, the others are listed all the same
	}
	past, err := t.past(ctx, st)
	var o renewal.Outcome
	o.Err = err
	for _, p := range past {
		o.Result.Past = append(o.Result.Past, t.entry(p, current))
	}
	return o
}

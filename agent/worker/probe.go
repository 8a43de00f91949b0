package worker

import (
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Answer is what one store said about a profile.
type Answer struct {
	Kind     store.Kind
	Location string
	// Err is nil where the store holds the profile's record. ErrNotFound: it answers, and holds none.
	Err error
	// Hindrance is what a look tells that will keep that record from being renewed, nil for nothing.
	Hindrance error
	Took      time.Duration
	InForce   bool // it is the profile's store, as configured, remembered or found
	Earlier   int  // how many sign-ins are kept that could be restored, where it is in force and holds no record that can be read
	Kept      int  // how many records were set aside there because another program's had taken their place
}

// Probe asks every store that could hold a profile's record whether it does, and changes nothing; a keyring that holds none is
// asked to take a test value and to forget it. key is what opens store encrypted, empty for none.
func Probe(ctx context.Context, s Settings, key protocol.Secret) []Answer {
	t := newTask(s, job.Job{Op: job.Renew, Key: key})
	var home store.Kind
	if st, err := t.open(ctx); err == nil && st != nil {
		home = st.Place().Kind
	}
	var answers []Answer
	for _, kind := range store.Kinds(store.Traits.Rests) {
		if kind.Traits().Shared && !t.usesClaudeCode() {
			continue
		}
		a := t.probe(ctx, kind, home)
		if errors.Is(a.Err, protocol.ErrNotFound) {
			began := time.Now()
			if probed := kind.Probe(ctx); probed != nil {
				a.Err = probed
			}
			a.Took += time.Since(began)
		}
		answers = append(answers, a)
	}
	return answers
}

// ProbeHome asks the profile's own store alone whether it holds the record. It writes nothing anywhere.
func ProbeHome(ctx context.Context, s Settings) Answer {
	t := newTask(s, job.Job{Op: job.Renew})
	st, err := t.open(ctx)
	if err != nil || st == nil {
		return Answer{Kind: s.Store, InForce: true, Err: err}
	}
	kind := st.Place().Kind
	return t.probe(ctx, kind, kind)
}

// ViewFound is what has become of one view of a profile since it was last written.
type ViewFound struct {
	Location string
	Guards   bool // it is in the place of Claude Code's own record: what Claude Code makes of it, the next renewal judges
	State    store.ViewState
	Err      error // why nobody can tell, or can't write there; nil for nothing
}

// LookAtViews looks at each of the profile's views, and changes nothing.
func LookAtViews(ctx context.Context, s Settings) []ViewFound {
	t := newTask(s, job.Job{})
	var found []ViewFound
	for _, v := range t.views() {
		f := ViewFound{Location: v.Place().Location, Guards: v.guards}
		f.State, f.Err = v.Look(ctx)
		found = append(found, f)
	}
	return found
}

// probe asks one kind of store; home is the kind that is in force.
func (t *task) probe(ctx context.Context, kind, home store.Kind) Answer {
	began := time.Now()
	a := Answer{Kind: kind, InForce: kind == home}
	st, err := t.openKind(kind)
	if err == nil {
		a.Location = st.Place().Location
		_, _, err = st.Load(ctx)
	}
	if a.InForce && st != nil && (errors.Is(err, protocol.ErrNotFound) || store.Broken(err)) {
		past, _ := t.past(ctx, st)
		a.Earlier = len(past)
	}
	if a.InForce && st != nil {
		a.Kept = store.CountSetAside(t.settings.StateDir, st)
	}
	a.Err, a.Took = err, time.Since(began)
	if err == nil && a.InForce && t.traits().Renewable {
		a.Hindrance = hindered(st)
	}
	return a
}

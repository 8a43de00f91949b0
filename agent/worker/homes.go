package worker

import (
	"context"
	"errors"
	"strings"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// A sign-in that rotates has one home: see package renewal. Here is what ccagent can look up about the homes of its profiles.

// LeaveHome forgets where a profile's record was, as the job that deletes it does.
func LeaveHome(s Settings) error { return store.NewHomes(s.StateDir).Leave(s.Name) }

// Holds looks whether another profile's record is still in its home. A home that can't be looked into is believed.
func (t *task) Holds(ctx context.Context, home store.Home, r store.Record) bool {
	s := t.settings
	s.Name, s.ConfigDir, s.Identity = home.Profile, home.ConfigDir, ""
	st, err := newTask(s, job.Job{Profile: s.Name, Key: t.Job.Key}).openKind(home.Kind)
	if err != nil || st == nil {
		return true
	}
	there, _, err := st.Load(ctx)
	if err != nil {
		return !renewal.Replaceable(err) && !errors.Is(err, protocol.ErrInvalid)
	}
	return store.SameSignIn(there, r) || r.SignIn != "" && there.SignIn == r.SignIn && !there.RefreshToken.Empty()
}

// anotherHome is the error that home has a sign-in already which another profile is to have.
func anotherHome(home store.Home) *protocol.Error {
	hint := "use that profile, or first do: ccagent remove " + home.Profile
	if home.Kind.Traits().Shared {
		hint = "use it together with Claude Code: " + protocol.ShellLine("ccagent", "import", home.Location)
	}
	return &protocol.Error{Code: protocol.CodeConfig, Hint: hint, Message: renewal.SecondHome(home)}
}

// copyOf is the error that me has a copy of the sign-in at home.
func copyOf(home, me store.Home) *protocol.Error {
	err := anotherHome(home)
	err.Hint = "sign in anew for profile " + me.Profile +
		", so that it has a sign-in of its own, or do without it: ccagent remove " +
		me.Profile
	if home.Kind == store.KindFile && me.Kind == store.KindFile { // a profile that was renamed in config.toml, and its record copied
		move := protocol.ShellLine("mv", home.Location, me.Location)
		err.Hint += "\nor, if " + me.Profile + " is the new name of " + home.Profile + ": " + move
	}
	return err
}

// OtherHome fails if another of the profiles than own has the refresh token of r, or has spent it. Besides what is remembered it
// looks into the files of those that were never used. at is the place that r has or is to have, nil where that is not known.
func OtherHome(ctx context.Context, own Settings, at store.Store, r store.Record, all []Settings) error {
	if r.RefreshToken.Empty() {
		return nil
	}
	t := newTask(own, job.Job{})
	if at == nil {
		at = store.NewFile(own.DataDir, own.Name)
	}
	var problem *renewal.Problem
	if err := t.OtherHome(ctx, at, r); errors.As(err, &problem) {
		return anotherHome(problem.Home)
	}
	if store.Reusable(store.NewHomes(own.StateDir).All(), r) {
		return nil
	}
	me := store.HomeOf(at, own.Name, r)
	for _, other := range all {
		if strings.EqualFold(other.Name, own.Name) {
			continue
		}
		for _, st := range filesOf(other) {
			there, _, err := st.Load(ctx)
			if err != nil || !store.SameSignIn(there, r) {
				continue
			}
			if home := store.HomeOf(st, other.Name, there); home.Location != me.Location {
				return anotherHome(home)
			}
		}
	}
	return nil
}

// filesOf are the files that a profile's record may rest in, as far as anybody may look into them.
func filesOf(s Settings) []store.Store {
	var stores []store.Store
	t := newTask(s, job.Job{})
	for _, kind := range store.Kinds(func(k store.Traits) bool { return k.Plain }) {
		if !s.Store.MayBe(kind) || kind.Traits().Shared && !t.usesClaudeCode() {
			continue
		}
		if st, err := t.openKind(kind); err == nil {
			stores = append(stores, st)
		}
	}
	return stores
}

// SoleHome is OtherHome for the record that the profile of own has, as far as it can be read without a key. It writes nothing.
func SoleHome(ctx context.Context, own Settings, all []Settings) error {
	t := newTask(own, job.Job{Op: job.Renew})
	st, err := t.open(ctx)
	if err != nil || st == nil {
		return nil
	}
	r, _, err := st.Load(ctx)
	if err != nil {
		return nil
	}
	return OtherHome(ctx, own, st, r, all)
}

// Shared is a sign-in that two profiles hold.
type Shared struct {
	Profile string // the one that is not to
	Err     error  // says who has it
}

// SharedSignIns finds the profiles that hold a sign-in of another one, as far as their records can be read without a key. It
// writes nothing.
func SharedSignIns(ctx context.Context, all []Settings) []Shared {
	var found []Shared
	first := map[string]store.Home{} // by digest
	known := map[string][]store.Home{}
	for _, s := range all {
		t := newTask(s, job.Job{Op: job.Renew})
		st, err := t.open(ctx)
		if err != nil || st == nil {
			continue
		}
		r, _, err := st.Load(ctx)
		if err != nil || r.RefreshToken.Empty() {
			continue
		}
		if _, ok := known[s.StateDir]; !ok {
			known[s.StateDir] = store.NewHomes(s.StateDir).All()
		}
		me := store.HomeOf(st, s.Name, r)
		other := me.Other(known[s.StateDir], r, func(home store.Home) bool { return t.Holds(ctx, home, r) })
		if earlier, ok := first[me.Digest]; ok && other == nil && !store.Reusable(known[s.StateDir], r) {
			other = &earlier
		}
		if other == nil {
			first[me.Digest] = me
			continue
		}
		found = append(found, Shared{s.Name, copyOf(*other, me)})
	}
	return found
}

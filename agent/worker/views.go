package worker

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// viewTime bounds the writing of one view: another program may hold its lock, and the token is there already.
const viewTime = store.WriteWait + 5*time.Second

// askTime bounds the question whose view it is.
const askTime = 2500 * time.Millisecond

// view is a file that another program reads the token from.
type view struct {
	*store.View
	claude *store.ClaudeCode // of kind claude-code: what else may be there; nil: of another kind
	guards bool              // see [store.ViewPlace.Guards]
}

// views are the profile's views.
func (t *task) views() []view {
	var views []view
	for _, at := range t.settings.Views {
		v := view{View: at.Open(t.settings.StateDir, t.settings.Name, t.settings.ConfigDir), guards: at.Guards()}
		if at.Kind == store.ViewClaude {
			v.claude = store.NewClaudeCode(cmp.Or(at.Dir, t.settings.ConfigDir))
		}
		views = append(views, v)
	}
	return views
}

// show writes the token that a job brought into the views, or removes them with the record. A view that somebody else has changed
// is left alone, and the note says so. Views that the profile has no more are removed. The outcome of the job does not depend on
// any of this.
func (t *task) show(ctx context.Context, o *renewal.Outcome) {
	var notes []string
	for _, v := range store.FormerViews(t.settings.StateDir, t.settings.Name, t.settings.Views) {
		ctx, cancel := context.WithTimeout(ctx, viewTime)
		if err := v.Remove(ctx); err != nil {
			notes = append(notes, "the former view "+v.Place().Location+" could not be removed: "+withHint(err))
		}
		cancel()
	}
	for _, v := range t.views() {
		ctx, cancel := context.WithTimeout(ctx, viewTime)
		switch err := t.showIn(ctx, v, o); {
		case errors.Is(err, store.ErrConflict):
			notes = append(
				notes,
				v.Place().Location+" was changed by something else, and is not kept fresh; "+
					"write it anew with: ccagent restore --views -p "+t.Job.Profile,
			)
		case err != nil:
			notes = append(notes, "the view "+v.Place().Location+" could not be written: "+withHint(err))
			o.Result.Behind = o.Result.Behind || protocol.CodeOf(err) != protocol.CodeConfig // which only a person mends
		}
		o.Result.Wrote = o.Result.Wrote || v.Wrote()
		cancel()
	}
	if t.Aside > 0 {
		notes = append(notes,
			"a renewed record was set aside because another program's took its place; see: ccagent restore -p "+t.Job.Profile)
	}
	if t.copied != "" {
		notes = append(notes, t.copied)
	}
	if t.TwoHomes != nil {
		notes = append(notes, t.TwoHomes.Error())
	}
	if lost := o.Result.LostScopes; len(lost) > 0 {
		notes = append(notes, "the provider left out scopes at a renewal: "+strings.Join(lost, " ")+
			"; where a service misses them, sign in again with: ccagent login "+t.Job.Profile)
	}
	if mended := t.repairNote(); mended != "" {
		notes = append(notes, mended)
	}
	if hindered := t.hindrance(ctx, o); hindered != nil {
		notes = append(notes, hindered.Error())
	}
	if t.Forgetful != nil {
		notes = append(notes, "earlier sign-ins and spent refresh tokens can't be remembered: "+t.Forgetful.Error())
	}
	o.Result.Note = strings.Join(notes, "; ")
}

// withHint is what an error says, with its hint, for a note.
func withHint(err error) string {
	if hint := protocol.HintOf(err); hint != "" {
		return err.Error() + " (" + strings.ReplaceAll(hint, "\n", "; ") + ")"
	}
	return err.Error()
}

// hindrance is what will keep the record from being renewed, as far as that can be told now: somebody should hear of it while the
// cached token is good.
func (t *task) hindrance(ctx context.Context, o *renewal.Outcome) error {
	if o.Err != nil || o.Result.Token.Empty() || o.Result.Expiry.IsZero() || !t.traits().SignsIn {
		return nil
	}
	st, err := t.open(ctx)
	if err != nil || st == nil {
		return nil // the job has said so
	}
	return hindered(st)
}

func hindered(st store.Store) error {
	err := store.Hindrance(st)
	if err == nil {
		return nil
	}
	message := "the next token can't be saved: " + err.Error() // a spill takes it
	if st.Place().Kind.Traits().Shared {
		message = "the next token can't be saved, so this one is the last: " + err.Error()
	}
	return &protocol.Error{Code: protocol.CodeStorage, Message: message, Hint: protocol.HintOf(err)}
}

func (t *task) showIn(ctx context.Context, v view, o *renewal.Outcome) error {
	guarded, shared := v.guards, store.Kind(o.Result.Store).Traits().Shared
	switch {
	case t.Job.Op == job.Show, t.Job.Op == job.Guard:
		return nil
	case t.Job.Op == job.Hide && guarded: // that would sign Claude Code out
		return nil
	case t.Job.Op == job.Hide:
		return v.Remove(ctx)
	case guarded && shared && o.Result.Token.Empty(), guarded && t.Job.Op == job.Move:
		return nil
	case guarded && shared:
		return t.ownPlace()
	case t.Job.Op.Removes() && o.Err == nil,
		o.Gone() && !guarded,
		t.stranger: // signed out, here or in Claude Code, or somebody else has signed in
		return v.Remove(ctx)
	case t.Job.Op.Removes(), o.Result.Token.Empty():
		return nil
	}
	write := v.WriteAgain
	if guarded { // somebody who has removed it has signed out
		write = v.Write
	}
	err := write(ctx, visible(o.Result))
	switch {
	case v.claude != nil && errors.Is(err, store.ErrConflict):
		return t.reguard(ctx, v, o)
	case v.claude != nil && store.Broken(err) && v.Known():
		return t.rewrite(ctx, v, o)
	}
	return err
}

// visible is what a view may show of a result.
func visible(r job.Result) store.Record {
	return store.Record{Kind: r.Kind, AccessToken: r.Token, Expiry: r.Expiry, Scopes: r.Scopes, Subscription: r.Subscription}
}

// ownPlace is the error that a view would be written over the very record whose token it shows.
func (t *task) ownPlace() error {
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "the record itself is there; move it away with: ccagent guard claude-code -p " + t.Job.Profile,
	}
}

// restoreViews writes the views over whatever is there. A sign-in of Claude Code's was adopted before (see guarded).
func (t *task) restoreViews(ctx context.Context) renewal.Outcome {
	views := t.views()
	if len(views) == 0 {
		return renewal.Outcome{Err: &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + t.Job.Profile + " has no views",
			Hint: `name them in config.toml: views = [{ kind = "token", path = "~/.run/token" }]`}}
	}
	o := t.inStore(ctx, t.Renew)
	if o.Err != nil || o.Result.Token.Empty() {
		return o
	}
	var written []string
	for _, v := range views {
		if v.guards && store.Kind(o.Result.Store).Traits().Shared {
			return o.WithError(t.ownPlace())
		}
		if err := t.mayRestore(ctx, v); err != nil {
			return o.WithError(err)
		}
		if err := v.Restore(ctx, visible(o.Result)); err != nil {
			return o.WithError(err)
		}
		o.Result.Wrote = o.Result.Wrote || v.Wrote()
		written = append(written, v.Place().Location)
		if said := renewal.NoteCopied(v.Copied()); said != "" {
			written = append(written, said)
		}
	}
	o.Result.Notice = strings.Join(written, ", ")
	return o
}

// mayRestore fails if a sign-in would be lost with what a view is written over.
func (t *task) mayRestore(ctx context.Context, v view) error {
	if v.claude == nil || v.guards { // there it was adopted before
		return nil
	}
	if r, _, err := v.claude.Load(ctx); err != nil || r.RefreshToken.Empty() {
		return nil
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "somebody has signed in in " + v.Place().Location + ", so no view is written there",
		Hint:    "sign out there (run claude in that directory, then type /logout), or take the view out of config.toml",
	}
}

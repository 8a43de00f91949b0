package renewal

import (
	"context"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// A sign-in that rotates has one home. A record whose refresh token another profile has is refused wherever a record comes in.
// Where two profiles have it all the same, because a file was copied, the first of them renews and the other does not.

// OtherHome fails (AnotherHome) if another profile has the refresh token of r, which is st's or about to be, or has spent it.
func (t *Task) OtherHome(ctx context.Context, st store.Store, r store.Record) error {
	if st == nil || t.StateDir == "" {
		return nil
	}
	me := store.HomeOf(st, t.Job.Profile, r)
	if other := store.NewHomes(t.StateDir).Other(me, r, t.holds(ctx, r)); other != nil {
		return secondHome(AnotherHome, protocol.CodeConfig, *other, me)
	}
	return nil
}

// Claim makes st the home of r, and fails (CopyOfAnother) as OtherHome does.
func (t *Task) Claim(ctx context.Context, st store.Store, r store.Record) error {
	if st == nil || t.StateDir == "" {
		return nil
	}
	me := store.HomeOf(st, t.Job.Profile, r)
	if other := store.NewHomes(t.StateDir).Claim(ctx, me, r, t.holds(ctx, r)); other != nil {
		return secondHome(CopyOfAnother, protocol.CodeConfig, *other, me)
	}
	return nil
}

// MayRenew fails (CopyOfAnother, ErrLoginRequired) if the refresh token in s is another profile's to spend, or was spent by it.
func (t *Task) MayRenew(ctx context.Context, s State) error {
	return SignInAnew(t.Claim(ctx, s.Store, s.Record))
}

// MayAdopt fails as MayRenew if r, which another program has written for st, is a copy of the sign-in of another profile.
func (t *Task) MayAdopt(ctx context.Context, st store.Store, r store.Record) error {
	err := t.OtherHome(ctx, st, r)
	if p, ok := err.(*Problem); ok {
		p.Reason = CopyOfAnother
	}
	return SignInAnew(err)
}

// SignInAnew is err for those who ask for a token. It gives a [Problem] the code ErrLoginRequired, because only a new sign-in
// helps.
func SignInAnew(err error) error {
	if p, ok := err.(*Problem); ok {
		p.Condition.Code = protocol.CodeLoginRequired
	}
	return err
}

func (t *Task) holds(ctx context.Context, r store.Record) func(store.Home) bool {
	return func(home store.Home) bool { return t.Setting.Holds(ctx, home, r) }
}

// secondHome is the error that home has a sign-in already which another profile has, or is to have.
func secondHome(reason Reason, code protocol.Code, home, me store.Home) *Problem {
	return &Problem{Reason: reason, Home: home, Me: me, Condition: &protocol.Error{Code: code, Message: SecondHome(home)}}
}

// SecondHome says that home has a sign-in already.
func SecondHome(home store.Home) string {
	who := "profile " + home.Profile + " has"
	if home.Kind.Traits().Shared {
		who = "Claude Code uses"
	}
	if home.Account != "" {
		who += " (as " + home.Account + ")"
	}
	return who + " this sign-in already, in " + home.Location + ": a second home would end it for both at the first renewal"
}

package renewal

import (
	"slices"
	"time"

	"github.com/ccagent/ccagent/store"
)

// reminder is how long before the end of a sign-in a person is told at most. Of one that lasts shorter it is the last quarter.
const reminder = 3 * 24 * time.Hour

// sameEnd is how far apart two statements of one moment may be, because providers state lifetimes in seconds, and answers take
// their time.
const sameEnd = time.Minute

// ending returns when r's sign-in itself ends, however often its token is renewed, and from when on a person is told. The zero
// time means that this is not known, or never.
func (t *Task) ending(r store.Record, now time.Time) (end, remind time.Time) {
	end, since := r.GrantExpiry, r.GrantSince
	if r.RefreshToken.Empty() {
		if t.FromNothing {
			return time.Time{}, time.Time{} // another token is there for the asking
		}
		end, since = r.Expiry, r.Issued // nothing renews it
	}
	issued := r.Issued
	if issued.IsZero() { // as in Claude Code's file, where an old end may stay beside new tokens
		issued = now
	}
	if end.IsZero() || end.Before(issued) { // a token that was issued after the end shows that it was none
		return time.Time{}, time.Time{}
	}
	before := reminder
	if life := end.Sub(since); !since.IsZero() && life > 0 {
		before = min(before, life/4)
	}
	return end, end.Add(-before)
}

// carryGrant completes a renewed record with what is known of its sign-in from before. A provider that names the same end again
// has named it since the first time. One that moves the end with each renewal has a sign-in that lasts while it is used, and the
// time to tell a person begins anew. An end that this renewal has outlived was none.
func carryGrant(old store.Record, renewed *store.Record) {
	switch apart := renewed.GrantExpiry.Sub(old.GrantExpiry).Abs(); {
	case renewed.GrantExpiry.IsZero(), renewed.GrantExpiry.Before(renewed.Issued):
		renewed.GrantExpiry, renewed.GrantSince = time.Time{}, time.Time{}
	case old.GrantExpiry.IsZero() || apart > sameEnd:
		renewed.GrantSince = renewed.Issued
	default:
		renewed.GrantSince = old.GrantSince
	}
	renewed.LostScopes = lostScopes(old, *renewed)
}

// quietScopes are those of OpenID Connect. Many providers leave them out of their answers, and no service asks for them.
var quietScopes = []string{"openid", "offline_access", "profile", "email", "address", "phone"}

// lostScopes are the scopes that a sign-in had before, and that its renewed token has not.
func lostScopes(old, renewed store.Record) []string {
	if len(renewed.Scopes) == 0 { // nobody says what it has
		return old.LostScopes
	}
	var lost []string
	for _, scope := range slices.Concat(old.Scopes, old.LostScopes) {
		if !slices.Contains(renewed.Scopes, scope) && !slices.Contains(quietScopes, scope) && !slices.Contains(lost, scope) {
			lost = append(lost, scope)
		}
	}
	return lost
}

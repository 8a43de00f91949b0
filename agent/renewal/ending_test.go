package renewal

import (
	"slices"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

const day = 24 * time.Hour

// A person is told of the end of a sign-in in its last days or, where it does not last for days, in its last quarter.
func TestEnding(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1767225600123)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	refresh := protocol.NewSecret("fake-refresh")
	for _, tt := range []struct {
		name        string
		r           store.Record
		fromNothing bool
		end, remind time.Time
	}{
		{"not known", store.Record{RefreshToken: refresh, Expiry: in(time.Hour)}, false, time.Time{}, time.Time{}},
		{"30 days", store.Record{RefreshToken: refresh, Issued: now, GrantSince: in(-day), GrantExpiry: in(29 * day)}, false,
			in(29 * day), in(26 * day)},
		{"since when is not known", store.Record{RefreshToken: refresh, GrantExpiry: in(29 * day)}, false, in(29 * day), in(26 * day)},
		{"30 minutes that move", store.Record{RefreshToken: refresh, Issued: now, GrantSince: now, GrantExpiry: in(30 * time.Minute)},
			false, in(30 * time.Minute), in(22*time.Minute + 30*time.Second)},
		{"a token is newer", store.Record{RefreshToken: refresh, Issued: now, GrantExpiry: in(-time.Hour)}, false,
			time.Time{}, time.Time{}},
		{"it has passed, and the token's age is not known", store.Record{RefreshToken: refresh, GrantExpiry: in(-time.Hour)}, false,
			time.Time{}, time.Time{}},
		{"no refresh token", store.Record{Issued: now, Expiry: in(time.Hour), GrantExpiry: in(day)}, false,
			in(time.Hour), in(45 * time.Minute)},
		{"a key", store.Record{}, false, time.Time{}, time.Time{}},
		{"a machine", store.Record{Issued: now, Expiry: in(time.Hour)}, true, time.Time{}, time.Time{}},
	} {
		task := Task{FromNothing: tt.fromNothing}
		if end, remind := task.ending(tt.r, now); !end.Equal(tt.end) || !remind.Equal(tt.remind) {
			t.Errorf("%s: %v, told from %v; want %v, %v", tt.name, end, remind, tt.end, tt.remind)
		}
	}
}

// A renewal tells an end that stays from one that moves, and finds out which scopes are gone.
func TestCarryGrant(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1767225600123)
	since := now.Add(-day)
	old := store.Record{
		GrantExpiry: now.Add(9 * day), GrantSince: since, Scopes: []string{"a", "b", "openid"}, LostScopes: []string{"c"},
	}
	near := old.GrantExpiry.Add(-time.Second)
	for _, tt := range []struct {
		name        string
		end         time.Time
		scopes      []string
		want, since time.Time
		lost        []string
	}{
		{"the same end", near, []string{"a", "b"}, near, since, []string{"c"}},
		{"it moves", now.Add(10 * day), []string{"a", "b", "c"}, now.Add(10 * day), now, nil},
		{"it has none", time.Time{}, nil, time.Time{}, time.Time{}, []string{"c"}},
		{"it was none", now.Add(-time.Hour), []string{"a"}, time.Time{}, time.Time{}, []string{"b", "c"}},
	} {
		renewed := store.Record{Issued: now, GrantExpiry: tt.end, GrantSince: since, Scopes: tt.scopes}
		carryGrant(old, &renewed)
		if !renewed.GrantExpiry.Equal(tt.want) || !renewed.GrantSince.Equal(tt.since) || !slices.Equal(renewed.LostScopes, tt.lost) {
			t.Errorf("%s: %v since %v, lost %q", tt.name, renewed.GrantExpiry, renewed.GrantSince, renewed.LostScopes)
		}
	}
}

package protocol

import (
	"testing"
	"time"
)

func TestPrompt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	in := func(d time.Duration) ProfileStatus {
		return ProfileStatus{Name: "work", State: StateLive, HasToken: true, Expiry: now.Add(d)}
	}
	ending := func(p ProfileStatus, left, before time.Duration) ProfileStatus {
		p.SignInEnds, p.RemindFrom = now.Add(left), now.Add(left-before)
		return p
	}
	for _, test := range []struct {
		status ProfileStatus
		want   string
	}{
		{in(50 * time.Hour), "work 2d"},
		{in(5*time.Hour + 59*time.Minute), "work 5h"},
		{in(42 * time.Minute), "work 42m"},
		{in(-time.Second), "work expired"},
		{ProfileStatus{Name: "work", State: StateLive, HasToken: true}, "work"},
		{ending(in(5*time.Hour), 50*time.Hour, 72*time.Hour), "work 5h (sign-in 2d)"},
		{ending(in(5*time.Hour), 50*time.Hour, 49*time.Hour), "work 5h"},
		{ending(in(5*time.Hour), -time.Hour, time.Hour), "work 5h (sign-in 0m)"},
		{ending(ProfileStatus{Name: "work", State: StateLive, HasToken: true}, time.Hour, 2*time.Hour), "work (sign-in 1h)"},
		{ProfileStatus{Name: "work", State: StateIdle}, ""},
		{ProfileStatus{Name: "work", State: StateSignIn}, "work ✗ sign in"},
		{ProfileStatus{Name: "work", State: StateUnsaved, HasToken: true, Expiry: now.Add(time.Hour)}, "work ✗ unsaved"},
		{ProfileStatus{Name: "a\x1b[31m", State: StateSignIn}, ""},
	} {
		if got := test.status.Prompt(now); got != test.want {
			t.Errorf("%s: %q, want %q", test.status.State, got, test.want)
		}
	}
}

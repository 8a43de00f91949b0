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

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 42 * time.Second: "42s", 5 * time.Minute: "5m", 90 * time.Second: "1m30s", 8 * time.Hour: "8h",
		8*time.Hour + time.Minute: "8h1m", 30*time.Minute - time.Millisecond: "30m",
		time.Hour - time.Millisecond: "1h", 10*time.Hour + time.Second: "10h0m1s",
	} {
		if got := Brief(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

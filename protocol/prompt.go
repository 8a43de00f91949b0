//go:build unix

package protocol

import (
	"context"
	"strconv"
	"time"
)

// PromptTime is how long a shell's prompt may wait for [Prompt] at most.
const PromptTime = 100 * time.Millisecond

// Prompt returns a profile in a few words for a shell's prompt: see [ProfileStatus.Prompt]. profile "" is the one that the agent
// chooses for this place. It asks this environment's agent and starts none. It returns "" if the agent does not answer before ctx
// ends, or if anything else fails: a prompt is not the place for messages.
func Prompt(ctx context.Context, profile string) string {
	client, err := ClientFromEnv(false)
	if err != nil {
		return ""
	}
	defer client.Close()
	status, err := StatusAll(ctx, client, StatusRequest{Profile: profile})
	if err != nil {
		return ""
	}
	for _, p := range status.Profiles {
		if profile != "" || FoldProfile(p.Name) == FoldProfile(status.Agent.Here) {
			return p.Prompt(time.Now())
		}
	}
	return ""
}

// Prompt returns the profile's name and how long its token lives on at now, or what is wrong. If the sign-in itself ends soon,
// that is added. It is "" for a profile that nobody
// has used yet.
func (p ProfileStatus) Prompt(now time.Time) string {
	if CheckProfile(p.Name) != nil {
		return ""
	}
	switch p.State {
	case StateSignIn:
		return p.Name + " ✗ sign in"
	case StateFailed, StateUnsaved, StateLocked:
		return p.Name + " ✗ " + string(p.State)
	}
	if !p.HasToken {
		return ""
	}
	text := p.Name
	if !p.Expiry.IsZero() {
		left := p.Expiry.Sub(now)
		if left <= 0 {
			return p.Name + " expired"
		}
		text += " " + roughly(left)
	}
	if p.SignInEndsSoon(now) {
		text += " (sign-in " + roughly(max(0, p.SignInEnds.Sub(now))) + ")"
	}
	return text
}

// SignInEndsSoon reports whether a person is to be told at now that the sign-in itself ends.
func (p ProfileStatus) SignInEndsSoon(now time.Time) bool {
	return !p.RemindFrom.IsZero() && !now.Before(p.RemindFrom)
}

// roughly is a duration in its largest unit.
func roughly(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	case d >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/time.Minute)) + "m"
}

// Brief formats d as a person writes it, to the second: 5m, not 5m0s.
func Brief(d time.Duration) string {
	d = d.Round(time.Second)
	s := d.String()
	if d >= time.Minute && s[len(s)-3:] == "m0s" {
		s = s[:len(s)-2]
	}
	if d >= time.Hour && s[len(s)-3:] == "h0m" {
		s = s[:len(s)-2]
	}
	return s
}

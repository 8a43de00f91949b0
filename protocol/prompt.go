//go:build unix

package protocol

import (
	"context"
	"strconv"
	"time"
)

// PromptTime is how long a shell's prompt may wait for [Prompt] at most.
const PromptTime = 100 * time.Millisecond

// Prompt returns a profile in a few words for a shell's prompt: see [ProfileStatus.Prompt]. profile "" is the agent's default
// one. It asks this environment's agent and starts none. It returns "" if the agent does not answer before ctx ends, or if
// anything else fails: a prompt is not the place for messages.
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
		if profile != "" || FoldProfile(p.Name) == FoldProfile(status.Agent.DefaultProfile) {
			return p.Prompt(time.Now())
		}
	}
	return ""
}

// Prompt returns the profile's name and how long its token lives on at now, or what is wrong. It is "" for a profile that nobody
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
	switch left := p.Expiry.Sub(now); {
	case !p.HasToken:
		return ""
	case p.Expiry.IsZero():
		return p.Name
	case left <= 0:
		return p.Name + " expired"
	case left >= 24*time.Hour:
		return p.Name + " " + strconv.Itoa(int(left/(24*time.Hour))) + "d"
	case left >= time.Hour:
		return p.Name + " " + strconv.Itoa(int(left/time.Hour)) + "h"
	default:
		return p.Name + " " + strconv.Itoa(int(left/time.Minute)) + "m"
	}
}

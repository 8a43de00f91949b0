package protocol

import (
	"strconv"
	"time"
)

// Brief is a profile in a few words, for a shell's prompt: its name, and the life that its token has left at now, or what is
// wrong. A profile that nobody has used yet is "".
func (p ProfileStatus) Brief(now time.Time) string {
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

// BriefTime bounds what a shell's prompt may wait for.
const BriefTime = 100 * time.Millisecond

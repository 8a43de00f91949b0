package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// promptTime bounds what a shell prompt may wait for.
const promptTime = 100 * time.Millisecond

// prompt is `ccagent status --prompt [-p PROFILE]`, run before the command tree is built: a shell runs it for each prompt.
// ok is false for any other command line, which goes the ordinary way.
func prompt(args []string) (profile string, ok bool) {
	if len(args) < 3 || args[1] != "status" || args[2] != "--prompt" {
		return "", false
	}
	switch rest := args[3:]; {
	case len(rest) == 0:
		return getenv("CCAGENT_PROFILE"), true
	case len(rest) == 2 && (rest[0] == "-p" || rest[0] == "--profile"):
		return rest[1], protocol.CheckProfile(rest[1]) == nil
	}
	return "", false
}

// writePrompt prints the profile's segment, or nothing: without an agent, or with one that is too slow, a prompt is no place
// to say so. It starts no agent.
func writePrompt(ctx context.Context, w io.Writer, profile string) {
	client, err := protocol.ClientFromEnv(false)
	if err != nil {
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, promptTime)
	defer cancel()
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{Profile: profile})
	if err != nil {
		return
	}
	for _, p := range status.Profiles {
		if profile != "" || strings.EqualFold(p.Name, status.Agent.DefaultProfile) {
			if text := promptOf(time.Now(), p); text != "" {
				io.WriteString(w, text+"\n")
			}
			return
		}
	}
}

// promptOf is a profile's segment: its name, and the life its token has left or what is wrong. A profile that nobody has
// used yet has none.
func promptOf(now time.Time, p protocol.ProfileStatus) string {
	name := sanitize(p.Name)
	switch p.State {
	case protocol.StateSignIn:
		return name + " ✗ sign in"
	case protocol.StateFailed, protocol.StateUnsaved, protocol.StateLocked:
		return name + " ✗ " + string(p.State)
	}
	switch left := p.Expiry.Sub(now); {
	case !p.HasToken:
		return ""
	case p.Expiry.IsZero():
		return name
	case left <= 0:
		return name + " expired"
	case left >= 24*time.Hour:
		return name + " " + strconv.Itoa(int(left/(24*time.Hour))) + "d"
	case left >= time.Hour:
		return name + " " + strconv.Itoa(int(left/time.Hour)) + "h"
	default:
		return name + " " + strconv.Itoa(int(left/time.Minute)) + "m"
	}
}

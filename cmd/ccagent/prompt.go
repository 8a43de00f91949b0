package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

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
	ctx, cancel := context.WithTimeout(ctx, protocol.BriefTime)
	defer cancel()
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{Profile: profile})
	if err != nil {
		return
	}
	for _, p := range status.Profiles {
		if profile != "" || strings.EqualFold(p.Name, status.Agent.DefaultProfile) {
			if text := p.Brief(time.Now()); text != "" {
				io.WriteString(w, text+"\n")
			}
			return
		}
	}
}

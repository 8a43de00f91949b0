package main

import (
	"context"
	"io"

	"github.com/ccagent/ccagent/protocol"
)

// prompt recognizes `ccagent status --prompt [-p PROFILE]`. That runs before the tree of commands is built, because a shell runs
// it for each prompt. ok is false for every other command line.
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

// writePrompt prints the state of the profile in a few words, or nothing: see [protocol.Prompt].
func writePrompt(ctx context.Context, w io.Writer, profile string) {
	ctx, cancel := context.WithTimeout(ctx, protocol.PromptTime)
	defer cancel()
	if text := protocol.Prompt(ctx, profile); text != "" {
		io.WriteString(w, text+"\n")
	}
}

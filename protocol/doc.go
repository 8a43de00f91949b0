// Package protocol is what an agent and its callers say to each other: the frames, their codec, the client, and who is at
// the other end. docs/protocol.md is normative; constants cite its sections.
//
// A program that wants a token starts here:
//
//	client, err := protocol.ClientFromEnv(true)
//	token, err := client.Token(ctx, protocol.TokenRequest{Profile: "claude"})
//
// A server reads a frame with [ReadFrame], answers it with [Handle], and writes what that appended.
//
// The package is linked into a helper whose whole life is two milliseconds. It therefore speaks to the socket in plain
// system calls, and imports neither net, nor encoding/json, log/slog, os/exec or anything of crypto.
package protocol

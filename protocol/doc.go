// Package protocol is what an agent and its callers say to each other: the frames, their codec, the client, and the kernel's word
// on who is at the other end. docs/protocol.md defines the protocol; a § in a comment is a section of it.
//
// A program that wants a token starts here:
//
//	client, err := protocol.ClientFromEnv(true)
//	token, err := client.Token(ctx, protocol.TokenRequest{Profile: "claude"})
//
// A server reads a frame with [ReadFrame], answers it with [Handle], and writes the reply that Handle appended.
//
// The package is linked into a helper that runs for two milliseconds. Therefore it uses plain system calls for the socket, and
// does not import net, encoding/json, log/slog, os/exec or any package of crypto.
package protocol

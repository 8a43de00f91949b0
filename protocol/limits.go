package protocol

import "time"

// Limits and deadlines of docs/protocol.md §6. Those of a server are here for the agent and its tests to share.
const (
	MaxToken = 16384 // bytes of a token
	maxText  = 2048  // bytes of a message, hint or notice; the rest is cut off
	maxPath  = 4096  // bytes of a location

	MaxConnections = 1024             // open at a time; over that the longest idle is closed
	FrameTimeout   = 5 * time.Second  // from a frame's first byte to its last
	IdleTimeout    = 60 * time.Second // without a frame
)

// CheckToken refuses, as ErrInvalid, a token that could break out of the line, header or variable it is put into: one that is
// empty, longer than MaxToken, or holds anything but printable ASCII other than the space.
func CheckToken(t Secret) error {
	s := t.Reveal()
	if s == "" {
		return &Error{Code: CodeInvalid, Message: "the token is empty"}
	}
	if len(s) > MaxToken {
		return &Error{Code: CodeInvalid, Message: "the token is longer than 16384 bytes"}
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return &Error{Code: CodeInvalid, Message: "the token holds a space, a control character or a character outside ASCII"}
		}
	}
	return nil
}

package protocol

import (
	"strconv"
	"time"
)

// Limits and deadlines of docs/protocol.md §6. Those of a server are here for the agent and its tests to share.
const (
	MaxToken = 16384 // bytes of a token
	maxText  = 2048  // bytes of a message, hint or notice; the rest is cut off
	maxPath  = 4096  // bytes of a location

	MaxConnections = 1024             // open at a time; over that the longest idle is closed
	FrameTimeout   = 5 * time.Second  // from a frame's first byte to its last
	IdleTimeout    = 60 * time.Second // without a frame
)

// DefaultReask is the [TokenRequest.ReaskWindow] of cchelper when its user names none. It is less than the five minutes for which
// Claude Code keeps a token.
const DefaultReask = 4 * time.Minute

// TokenByte reports whether c may stand in a token: printable ASCII other than the space (docs/protocol.md §4.2).
func TokenByte(c byte) bool { return c > ' ' && c <= '~' }

// CheckToken refuses, as ErrInvalid, a token that could break out of the line, header or variable it is put into: one that is
// empty, longer than [MaxToken], or holds anything but printable ASCII other than the space.
func CheckToken(t Secret) error {
	s := t.Reveal()
	if s == "" {
		return &Error{Code: CodeInvalid, Message: "the token is empty"}
	}
	if len(s) > MaxToken {
		return &Error{Code: CodeInvalid, Message: "the token is longer than " + strconv.Itoa(MaxToken) + " bytes"}
	}
	for i := range len(s) {
		if !TokenByte(s[i]) {
			return &Error{Code: CodeInvalid, Message: "the token holds a space, a control character or a character outside ASCII"}
		}
	}
	return nil
}

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

// Margin is how long before its expiry an agent renews a token. It is longer than the five minutes for which the callers of a
// helper keep one. See [MarginOf].
const Margin = 6 * time.Minute

// MarginOf is the margin of a token that lives so long: [Margin], or a quarter of its lifetime if that is less.
func MarginOf(lifetime time.Duration) time.Duration { return min(Margin, lifetime/4) }

// TokenByte reports whether c may stand in a token: printable ASCII other than the space (docs/protocol.md §4.2).
func TokenByte(c byte) bool { return c > ' ' && c <= '~' }

// TokenForm says in words what [IsToken] asks for, for a message like "the key is not ...".
const TokenForm = "one word of printable ASCII, of 16384 characters at most"

// IsToken reports whether s can be put into a line, a header or a variable without breaking out of it: it has a byte at least and
// [MaxToken] at most, and [TokenByte] holds for each.
func IsToken(s string) bool {
	for i := range len(s) {
		if !TokenByte(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= MaxToken
}

// CheckToken refuses, as ErrInvalid, what is not [IsToken], and says what is wrong with it.
func CheckToken(t Secret) error {
	switch s := t.Reveal(); {
	case IsToken(s):
		return nil
	case s == "":
		return &Error{Code: CodeInvalid, Message: "the token is empty"}
	case len(s) > MaxToken:
		return &Error{Code: CodeInvalid, Message: "the token is longer than " + strconv.Itoa(MaxToken) + " bytes"}
	}
	return &Error{Code: CodeInvalid, Message: "the token holds a space, a control character or a character outside ASCII"}
}

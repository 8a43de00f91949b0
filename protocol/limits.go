package protocol

import "time"

// Limits and deadlines of docs/protocol.md §6. Those of a server are here for the agent and its tests to share.
const (
	maxText = 2048 // bytes of a message, a hint or a notice; the rest is cut off
	maxPath = 4096 // bytes of a location

	MaxConnections = 1024             // open at a time; for one more, the agent closes the one that has been idle the longest
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

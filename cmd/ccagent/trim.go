package main

import (
	"log/slog"
	"runtime/debug"

	"github.com/ccagent/ccagent/agent"
)

// trimmer gives memory back that only starting and renewing need.
type trimmer struct {
	log     *slog.Logger
	reexec  func(*agent.Agent) error
	code    [][]byte // see readOnlyMappings
	needed  uint64   // bytes of anonymous memory of an image that has just started; 0: to be measured at the next rest
	left    uint64   // the same after the last collection; 0: there was none
	percent int      // GOGC and GOMEMLIMIT, for when there is something to do
	limit   int64
}

// newTrimmer is for an agent that has not loaded its configuration yet: what that leaves is given back. What it leaves in an agent that has been
// re-executed is what that agent needs, or it would re-execute itself for ever. reexec returns only where it fails.
func newTrimmer(log *slog.Logger, reexecuted bool, reexec func(*agent.Agent) error) *trimmer {
	t := &trimmer{log: log, reexec: reexec, code: readOnlyMappings()}
	if !reexecuted {
		t.needed = anonymous()
	}
	return t
}

// rest is for an agent that comes to rest, or has something to do again.
func (t *trimmer) rest(a *agent.Agent, resting bool) {
	if !resting {
		debug.SetMemoryLimit(t.limit)
		debug.SetGCPercent(t.percent)
		return
	}
	// A re-execution takes some milliseconds, and about as much memory as an hour's renewals. A collection leaves up to a megabyte of lists of
	// spans, sparsely used and never given back, so it is for an agent that can't be re-executed now.
	const reexecWorthwhile, collectWorthwhile = 1 << 19, 1 << 20
	if t.needed == 0 {
		t.needed = anonymous()
	}
	if anonymous() > t.needed+reexecWorthwhile {
		t.log.Debug("not re-executed to give memory back", "reason", t.reexec(a))
		if anonymous() > max(t.needed, t.left)+collectWorthwhile {
			debug.FreeOSMemory()
			t.left = anonymous()
		}
	}
	// The runtime would collect every two minutes, for nothing, and touch most of what is given back here.
	t.percent = debug.SetGCPercent(-1)
	t.limit = debug.SetMemoryLimit(32 << 20) // for the half minute before the agent is told that it has something to do
	forget(t.code)
}

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
	had     uint64   // bytes of anonymous memory when there was nothing to give back; 0: that is at the first rest
	percent int      // GOGC and GOMEMLIMIT, for when there is something to do
	limit   int64
}

// newTrimmer is for an agent that is about to load its configuration, or to take over what the image before it knew: what it needs for that is what
// it needs, or it would begin anew again and again. reexec begins it anew; it returns where that does not come about.
func newTrimmer(log *slog.Logger, inherited bool, reexec func(*agent.Agent) error) *trimmer {
	t := &trimmer{log: log, reexec: reexec, code: readOnlyMappings()}
	if !inherited {
		t.had = anonymous()
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
	// To begin anew takes some milliseconds, and about as much memory as an hour's renewals. To collect leaves up to a megabyte of lists of
	// spans, sparsely used and never given back, so it is for an agent that can't begin anew.
	const reexecWorthwhile, collectWorthwhile = 1 << 19, 1 << 20
	if t.had != 0 && anonymous() > t.had+reexecWorthwhile {
		t.log.Debug("memory is not given back by beginning anew", "reason", t.reexec(a))
		if anonymous() > t.had+collectWorthwhile {
			debug.FreeOSMemory()
			t.had = 0
		}
	}
	if t.had == 0 {
		t.had = anonymous()
	}
	// The runtime would collect every two minutes, for nothing, and touch most of what is given back here.
	t.percent = debug.SetGCPercent(-1)
	t.limit = debug.SetMemoryLimit(32 << 20) // for the half minute before the agent is told that it has something to do
	forget(t.code)
}

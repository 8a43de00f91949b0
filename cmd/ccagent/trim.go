package main

import "runtime/debug"

// trimmer gives memory back that only starting and renewing need.
type trimmer struct {
	code    [][]byte // see readOnlyMappings
	had     uint64   // bytes of anonymous memory after the last collection
	percent int      // GOGC and GOMEMLIMIT, for when there is something to do
	limit   int64
}

// newTrimmer is for an agent that has started.
func newTrimmer() *trimmer { return &trimmer{code: readOnlyMappings(), had: anonymous()} }

// rest is for an agent that comes to rest, or has something to do again. It collects garbage only where there is more than a collection costs: the
// collector's lists of spans take up to a megabyte, sparsely used and never given back, and an ordinary day's renewals leave less.
func (t *trimmer) rest(resting bool) {
	if !resting {
		debug.SetMemoryLimit(t.limit)
		debug.SetGCPercent(t.percent)
		return
	}
	const worthwhile = 1 << 20
	if anonymous() > t.had+worthwhile {
		debug.FreeOSMemory()
		t.had = anonymous()
	}
	// The runtime would collect every two minutes, for nothing, and touch most of what is given back here.
	t.percent = debug.SetGCPercent(-1)
	t.limit = debug.SetMemoryLimit(32 << 20) // for the half minute before the agent is told that it has something to do
	forget(t.code)
}

package main

import "runtime/debug"

// trimmer gives memory back that only starting and renewing need.
type trimmer struct {
	code [][]byte // see readOnlyMappings
	had  uint64   // bytes of anonymous memory after the last collection
}

// newTrimmer is for an agent that has started.
func newTrimmer() *trimmer { return &trimmer{readOnlyMappings(), anonymous()} }

// trim is for an agent at rest. It collects garbage only where there is more than a collection costs: the collector's lists of spans take up
// to a megabyte, sparsely used and never given back, and an ordinary day's renewals leave less.
func (t *trimmer) trim() {
	const worthwhile = 1 << 20
	if anonymous() > t.had+worthwhile {
		debug.FreeOSMemory()
		t.had = anonymous()
	}
	forget(t.code)
}

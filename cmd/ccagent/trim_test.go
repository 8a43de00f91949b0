package main

import (
	"log/slog"
	"testing"

	"github.com/ccagent/ccagent/agent"
)

// TestTrimmer: an agent that has grown is re-executed, at each rest until that comes about; one that can't be collects, once.
func TestTrimmer(t *testing.T) {
	for name, tc := range map[string]struct {
		needed     uint64
		reexecutes int
		collects   bool
	}{
		"grown":           {needed: 1, reexecutes: 2, collects: true},
		"not grown":       {needed: 1 << 40},
		"just reexecuted": {needed: 0},
	} {
		n := 0
		m := newTrimmer(slog.New(slog.DiscardHandler), true, func(*agent.Agent) error {
			n++
			return agent.ErrBusy
		})
		if m.needed != 0 {
			t.Errorf("%s: what a new image needs is measured before it has it", name)
		}
		m.needed = tc.needed
		for range 2 {
			m.rest(nil, true)
			m.rest(nil, false)
		}
		if n != tc.reexecutes || (m.left != 0) != tc.collects || m.needed == 0 {
			t.Errorf("%s: re-executed %d times, %d bytes left after a collection, %d needed", name, n, m.left, m.needed)
		}
	}
	if m := newTrimmer(slog.New(slog.DiscardHandler), false, nil); m.needed == 0 {
		t.Error("what loading leaves in a first image would count as needed")
	}
}

// TestTrimmerCollects: what a collection would not be worth is left.
func TestTrimmerCollects(t *testing.T) {
	m := newTrimmer(slog.New(slog.DiscardHandler), true, func(*agent.Agent) error { return agent.ErrBusy })
	m.needed = anonymous() - 3<<18
	m.rest(nil, true)
	m.rest(nil, false)
	if m.left != 0 {
		t.Error("collected after three quarters of a megabyte")
	}
}

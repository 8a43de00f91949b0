package main

import (
	"log/slog"
	"testing"

	"github.com/ccagent/ccagent/agent"
)

// TestTrimmer: an agent that has grown is re-executed, one that can't be collects, and one that just was measures itself first.
func TestTrimmer(t *testing.T) {
	for name, tc := range map[string]struct {
		had        uint64
		reexecutes int
		measured   bool
	}{
		"grown":       {had: 1, reexecutes: 1, measured: true},
		"not grown":   {had: 1 << 40},
		"re-executed": {had: 0, measured: true},
	} {
		n := 0
		m := newTrimmer(slog.New(slog.DiscardHandler), true, func(*agent.Agent) error {
			n++
			return agent.ErrBusy
		})
		if m.had != 0 {
			t.Errorf("%s: what a new image needs is measured before it has it", name)
		}
		m.had = tc.had
		m.rest(nil, true)
		m.rest(nil, false)
		if n != tc.reexecutes || (m.had != tc.had) != tc.measured {
			t.Errorf("%s: re-executed %d times, %d bytes are normal from now on", name, n, m.had)
		}
	}
	if m := newTrimmer(slog.New(slog.DiscardHandler), false, nil); m.had == 0 {
		t.Error("what loading leaves in a first image would count as needed")
	}
}

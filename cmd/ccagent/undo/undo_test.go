package undo

import (
	"context"
	"errors"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// A step can be a command with several steps itself. If it has changed nothing, the error says so once for the whole. If it has
// left something, the error does not say so, and the steps before it stay.
func TestStepsOfSteps(t *testing.T) {
	fault := &protocol.Error{Code: protocol.CodeStorage, Message: "the disk is broken", Hint: "mend it"}
	stuck := Step{Back: func(context.Context) error { return errors.New("stuck") }, Left: "half is done", Mend: "ccagent finish"}
	for _, tt := range []struct {
		name  string
		inner Steps
		want  string
		back  bool
	}{
		{"nothing left", Steps{}, "the disk is broken; nothing was changed", true},
		{"something left", Steps{done: []Step{stuck}},
			"the disk is broken; and it could not all be taken back (stuck): half is done", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			back := false
			outer := Steps{done: []Step{{Back: func(context.Context) error { back = true; return nil }}}}
			err := outer.Fail(t.Context(), tt.inner.Fail(t.Context(), fault))
			if err.Error() != tt.want || back != tt.back {
				t.Errorf("%v, taken back %v", err, back)
			}
			if protocol.CodeOf(err) != protocol.CodeStorage || protocol.HintOf(err) == "" {
				t.Errorf("code %d, hint %q", protocol.CodeOf(err), protocol.HintOf(err))
			}
		})
	}
}

// What was done before is spoken of where something was done before.
func TestNothingToTakeBack(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	fault := &protocol.Error{Code: protocol.CodeUnavailable, Message: "no answer"}
	var none, some Steps
	some.Did(Step{})
	for want, err := range map[string]error{
		"no answer; the agent may still do it":                            none.FailAt(ctx, "gw", fault),
		"no answer; the agent may still do it, so nothing was taken back": some.FailAt(ctx, "gw", fault),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

// The error of a command that is interrupted between its steps says what has become of them.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	waited := &protocol.Error{Code: protocol.CodeUnavailable, Message: "interrupted while waiting for the agent"}
	var done Steps
	for _, tt := range []struct {
		name string
		err  error
		told bool
	}{
		{"before the first step", waited, false},
		{"everything is taken back", done.Fail(ctx, waited), true},
		{"the agent may still do it", done.FailAt(ctx, "gw", waited), true},
	} {
		if told := Told(tt.err); told != tt.told {
			t.Errorf("%s: told %v: %v", tt.name, told, tt.err)
		}
	}
}

package protocol_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestLate(t *testing.T) {
	t.Parallel()
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "Work"}, protocoltest.Profile{Name: "other", Err: &protocol.Error{
		Code: protocol.CodeStorage, Message: "the disk is full",
	}})
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	gone, stop := context.WithCancel(t.Context())
	stop()
	late := &protocol.Error{Code: protocol.CodeUnavailable, Message: "too late", Hint: "try again"}
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		profile string
		err     error
		want    string
	}{
		{"default profile", over, "", late, "too late: profile Work is live, its record is at memory"},
		{"by its name", over, "work", late, "too late: profile Work is live, its record is at memory"},
		{"with an error", over, "other", late,
			"too late: profile other is failed, its record is at memory, and its last error was: the disk is full"},
		{"unknown profile", over, "none", late, "too late"},
		{"interrupted", gone, "work", late, "too late"},
		{"in time", t.Context(), "work", late, "too late"},
		{"another error", over, "work", protocol.ErrDenied, "denied"},
	} {
		got := protocol.Late(tt.ctx, fake, tt.profile, tt.err)
		if got.Error() != tt.want || protocol.CodeOf(got) != protocol.CodeOf(tt.err) ||
			protocol.HintOf(got) != protocol.HintOf(tt.err) {
			t.Errorf("%s: %q (%s), want %q", tt.name, got, protocol.HintOf(got), tt.want)
		}
	}
}

// Of an agent that does not answer at all, nothing more is said, and it is not waited for.
func TestLateOfSilentAgent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	client := protocol.NewClient(silent(t))
	_, err := client.Token(ctx, protocol.TokenRequest{})
	if got := protocol.Late(ctx, client, "", err); got != err || !errors.Is(got, protocol.ErrUnavailable) {
		t.Errorf("%v became %v", err, got)
	}
}

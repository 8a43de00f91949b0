package main

import (
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

func TestPromptOf(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	in := func(d time.Duration) protocol.ProfileStatus {
		return protocol.ProfileStatus{Name: "work", State: protocol.StateLive, HasToken: true, Expiry: now.Add(d)}
	}
	for _, test := range []struct {
		status protocol.ProfileStatus
		want   string
	}{
		{in(50 * time.Hour), "work 2d"},
		{in(5*time.Hour + 59*time.Minute), "work 5h"},
		{in(42 * time.Minute), "work 42m"},
		{in(-time.Second), "work expired"},
		{protocol.ProfileStatus{Name: "work", State: protocol.StateLive, HasToken: true}, "work"},
		{protocol.ProfileStatus{Name: "work", State: protocol.StateIdle}, ""},
		{protocol.ProfileStatus{Name: "work", State: protocol.StateSignIn}, "work ✗ sign in"},
		{protocol.ProfileStatus{Name: "work", State: protocol.StateUnsaved, HasToken: true, Expiry: now.Add(time.Hour)}, "work ✗ unsaved"},
		{protocol.ProfileStatus{Name: "a\x1b[31m", State: protocol.StateSignIn}, `a\x1b[31m ✗ sign in`},
	} {
		if got := promptOf(now, test.status); got != test.want {
			t.Errorf("%s: %q, want %q", test.status.State, got, test.want)
		}
	}
}

func TestPromptArguments(t *testing.T) {
	for _, test := range []struct {
		args    []string
		profile string
		ok      bool
	}{
		{[]string{"ccagent", "status", "--prompt"}, "", true},
		{[]string{"ccagent", "status", "--prompt", "-p", "work"}, "work", true},
		{[]string{"ccagent", "status", "--prompt", "-p", "../x"}, "../x", false},
		{[]string{"ccagent", "status", "--prompt", "--json"}, "", false},
		{[]string{"ccagent", "status"}, "", false},
	} {
		t.Setenv("CCAGENT_PROFILE", "")
		if profile, ok := prompt(test.args); profile != test.profile || ok != test.ok {
			t.Errorf("%q: %q, %v", test.args, profile, ok)
		}
	}
}

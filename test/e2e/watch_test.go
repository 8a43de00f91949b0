//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStatusWatch watches in a real terminal: in place, with bars and colours where there is room and wish for them, until
// Ctrl-C.
func TestStatusWatch(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.serve()
	h.ccagent("refresh").must(t) // from here it is known how long a token lives
	tt := h.terminal(100, program("ccagent"), "status", "--watch")
	tt.shows("claude *  live")
	tt.until("the time to go on in place", func(screen string) bool {
		return strings.Count(screen, "PROFILE") == 1 && strings.Contains(screen, "up 3s")
	})
	if screen := tt.screen(); !strings.ContainsRune(screen, '█') {
		t.Errorf("no bar of the time left:\n%s", screen)
	}
	if painted := tt.painted(); !strings.Contains(painted, "\x1b[32mlive") {
		t.Errorf("live is not green:\n%q", painted)
	}

	tt.resize(40)
	tt.until("a table of 40 columns, no line of it broken in two", func(screen string) bool {
		screen = screen[max(0, strings.LastIndex(screen, "agent ")):] // what the terminal itself broke has scrolled away
		lines := strings.Count(strings.TrimRight(screen, "\n"), "\n") + 1
		return lines == 5 && strings.Contains(screen, "PROFILE") && !strings.ContainsRune(screen, '█') &&
			strings.Contains(screen, "\nclaude *  live")
	})

	tt.resize(100)
	pid := h.status().Agent.PID
	syscall.Kill(pid, syscall.SIGSTOP) // it hangs: what is shown must not be taken for how it is
	tt.shows("does not answer")
	syscall.Kill(pid, syscall.SIGCONT)
	tt.shows("claude *  live")

	provider.RevokeGrant(readStored(t, h.credentialsFile()).AccessToken)
	h.ccagent("refresh").fails(t, 4, "")
	tt.shows("sign-in needed")
	h.ccagent("stop").must(t)
	tt.shows("no agent")
	tt.press("C-c")
	if code := tt.exit(); code != 130 {
		t.Errorf("exit code %d after Ctrl-C, want 130", code)
	}
}

// What a terminal can't or its owner won't show stays away.
func TestStatusWatchPlainly(t *testing.T) {
	for _, variable := range []string{"NO_COLOR=1", "TERM=dumb"} {
		t.Run(variable, func(t *testing.T) {
			h, _ := newSignedIn(t, time.Hour)
			h.serve()
			h.token()
			tt := h.terminal(100, "/usr/bin/env", variable, program("ccagent"), "status", "--watch")
			tt.until("two rounds", func(screen string) bool {
				return strings.Contains(screen, "up 2s") || strings.Contains(screen, "up 3s")
			})
			if painted := tt.painted(); strings.Contains(painted, "\x1b[3") {
				t.Errorf("colours with %s: %q", variable, painted)
			}
			if rounds := strings.Count(tt.screen(), "PROFILE"); (rounds > 1) != (variable == "TERM=dumb") {
				t.Errorf("%d tables on the screen", rounds)
			}
			tt.press("C-c")
			if code := tt.exit(); code != 130 {
				t.Errorf("exit code %d after Ctrl-C, want 130", code)
			}
		})
	}
}

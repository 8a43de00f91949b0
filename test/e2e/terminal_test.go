//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// terminal is a program in a real terminal: what it shows is what tmux would show a person.
type terminal struct {
	t      *testing.T
	owner  *syscall.Credential // nil: whoever tests
	socket string
	target string
}

// terminal runs a program of this home in a terminal of so many columns and 40 lines.
func (h *home) terminal(columns int, name string, args ...string) *terminal {
	h.t.Helper()
	h.terminals++
	tt := &terminal{h.t, h.owner, fmt.Sprintf("%s/tmux%d", h.root, h.terminals), "t:0.0"}
	h.write("tmux.conf", `set -g status off
set -g escape-time 0
set -g default-terminal "tmux-256color"
set -g update-environment ""
`)
	argv := append(
		[]string{
			"-S",
			tt.socket,
			"-f",
			h.path("tmux.conf"),
			"new-session",
			"-d",
			"-s",
			"t",
			"-x",
			fmt.Sprint(columns),
			"-y",
			"40",
			"--",
			"/bin/sh",
			"-c",
			`trap : INT; "$@"; printf '\n[exit %d]\n' $?; sleep 600`,
			"sh",
			name,
		},
		args...)
	cmd := h.command(need(h.t, "tmux"), argv...)
	finish(h.t, cmd).must(h.t)
	h.t.Cleanup(func() { tt.tmux("kill-server") })
	return tt
}

func (tt *terminal) tmux(args ...string) (string, error) {
	cmd := exec.Command("tmux", append([]string{"-S", tt.socket}, args...)...)
	if tt.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: tt.owner}
	}
	out, err := cmd.Output()
	return string(out), err
}

func (tt *terminal) must(args ...string) string {
	tt.t.Helper()
	out, err := tt.tmux(args...)
	if err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		tt.t.Fatalf("tmux %v: %v", args, err)
	}
	return out
}

// screen is what is to be seen, with what has scrolled away above it, without blanks at the ends of lines.
func (tt *terminal) screen() string {
	tt.t.Helper()
	return tt.must("capture-pane", "-p", "-S", "-1000", "-t", tt.target)
}

// joined is the screen with the lines whole that the terminal broke.
func (tt *terminal) joined() string {
	tt.t.Helper()
	return tt.must("capture-pane", "-p", "-J", "-S", "-1000", "-t", tt.target)
}

// painted is the screen with its colours and attributes as escape sequences.
func (tt *terminal) painted() string {
	tt.t.Helper()
	return tt.must("capture-pane", "-p", "-e", "-S", "-1000", "-t", tt.target)
}

// types types a text, press a key by tmux's name for it: Enter, Tab, C-c.
func (tt *terminal) types(text string) {
	tt.t.Helper()
	tt.must("send-keys", "-l", "-t", tt.target, text)
}

func (tt *terminal) press(key string) {
	tt.t.Helper()
	tt.must("send-keys", "-t", tt.target, key)
}

func (tt *terminal) resize(columns int) {
	tt.t.Helper()
	tt.must("resize-window", "-t", tt.target, "-x", fmt.Sprint(columns))
}

// shows waits until a text is to be seen.
func (tt *terminal) shows(text string) {
	tt.t.Helper()
	tt.until(fmt.Sprintf("%q to be seen", text), func(string) bool { return strings.Contains(tt.joined(), text) })
}

// until waits for what a person would see, and shows what there was instead.
func (tt *terminal) until(what string, done func(screen string) bool) {
	tt.t.Helper()
	last := ""
	shown := false
	defer func() {
		if !shown {
			tt.t.Logf("the screen:\n%s", strings.TrimRight(last, "\n"))
		}
	}()
	wait(tt.t, what, func() bool { last = tt.screen(); shown = done(last); return shown })
}

// exit waits for the program's end and returns its exit code.
func (tt *terminal) exit() (code int) {
	tt.t.Helper()
	tt.until("the program's end", func(screen string) bool {
		i := strings.LastIndex(screen, "\n[exit ")
		if i < 0 {
			return false
		}
		_, err := fmt.Sscanf(screen[i:], "\n[exit %d]", &code)
		return err == nil
	})
	return code
}

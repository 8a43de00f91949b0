//go:build e2e

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// activate has systemd-socket-activate hold the default socket and start an agent at the first connection, then again
// whenever there is a connection and no agent.
func (h *home) activate(args ...string) *agent {
	h.t.Helper()
	mkdir(h.t, filepath.Dir(h.socket()), 0o700)
	name := need(h.t, "systemd-socket-activate")
	args = append(
		[]string{"-l", h.socket(), "-E", "HOME", "-E", "XDG_RUNTIME_DIR", "-E", "TMPDIR", "-E", "PATH", program("ccagent")},
		h.serveArgs(args...)...)
	cmd := h.command("/bin/sh", append([]string{"-c", `umask 077; exec "$@"`, "sh", name}, args...)...)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	a := &agent{t: h.t, cmd: cmd, socket: h.socket(), done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(a.done)
	}()
	h.t.Cleanup(a.kill)
	wait(h.t, "the socket", func() bool { return exists(h.socket()) })
	return a
}

func TestSocketActivation(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	a := h.activate()
	if len(h.agents()) != 0 {
		t.Fatal("an agent runs before anyone asked")
	}
	if token := h.token(); !provider.Live(token) {
		t.Errorf("token %s is not live", token)
	}
	// systemd-socket-activate replaces itself by the agent.
	if s := h.status(); s.Agent.PID != a.pid() || s.Agent.Socket != h.socket() {
		t.Errorf("status %+v, want pid %d on %s", s.Agent, a.pid(), h.socket())
	}
	h.ccagent("stop").must(t)
	<-a.done
	if !exists(h.socket()) {
		t.Error("the agent removed a socket that is not its own")
	}
}

// Whoever made the socket does not look whether it is there: the agent does, and makes it again.
func TestActivatedSocketIsMadeAgain(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	a := h.activate()
	h.token()
	for _, gone := range []string{h.socket(), h.runtime + "/ccagent"} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		wait(t, "the socket", func() bool { return exists(h.socket()) })
		if token := h.token(); !provider.Live(token) {
			t.Errorf("token %s is not live", token)
		}
		if s := h.status(); s.Agent.PID != a.pid() {
			t.Errorf("agent %d answers, want %d", s.Agent.PID, a.pid())
		}
	}
	h.ccagent("stop").must(t)
	<-a.done
	if exists(h.socket()) {
		t.Error("the socket is left behind, and nobody listens on it")
	}
}

// An idle agent ends, and a connection that arrives at that very moment is answered by its successor. Each round asks around the
// time-out, a bit earlier or later.
func TestIdleExitLosesNoConnection(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	const idle = 300 * time.Millisecond
	mkdir(t, filepath.Dir(h.socket()), 0o700)
	// Like systemd, this test keeps the listening socket and starts an agent for it whenever none runs.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(h.socket(), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stop := make(chan struct{})
	var all sync.WaitGroup
	starts := 0
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// LISTEN_PID must name the process that serves.
			cmd := h.command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", program("ccagent")},
				h.serveArgs("--idle-timeout", idle.String())...)...)
			cmd.ExtraFiles = []*os.File{file}
			starts++
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("the agent: %v %s", err, out)
				return
			}
		}
	})
	want := h.token()
	for i := range 40 {
		time.Sleep(idle + time.Duration(i-20)*3*time.Millisecond) // a moment around the time-out, a different one each round
		if token := h.token("--no-start"); token != want {
			t.Errorf("token %s, want %s", token, want)
		}
	}
	close(stop)
	all.Wait()
	t.Logf("%d agents", starts)
	if starts < 3 {
		t.Error("the agents did not end when idle")
	}
}

func TestIdleAgentStaysWhileItHoldsWhatNoStoreHas(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	a := h.serve("--idle-timeout", "1s")
	h.token()
	token := h.renewUnsaved(provider)
	select {
	case <-a.done:
		t.Fatalf("the agent ended and took an unsaved record with it")
	case <-time.After(3 * time.Second): // three time-outs
	}
	h.open()
	<-a.done // once it is saved nothing holds it any more
	if s := readStored(t, h.credentialsFile()); s.AccessToken != token {
		t.Errorf("stored %s, want %s", s.AccessToken, token)
	}
	checkSignIn(t, h.credentialsFile(), provider)
}

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// agent is a `ccagent serve` that this test is the parent of.
type agent struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	done   chan struct{}
}

// serve starts an agent on the default socket and waits until it answers.
func (h *home) serve(args ...string) *agent {
	h.t.Helper()
	return h.serveOn(h.socket(), h.command(program("ccagent"), h.serveArgs(args...)...))
}

func (h *home) serveArgs(args ...string) []string {
	return append([]string{"serve", "--log-file", h.logFile(), "--log-level", "debug"}, args...)
}

// serveOn starts cmd, which is to make an agent that listens on socket.
func (h *home) serveOn(socket string, cmd *exec.Cmd) *agent {
	h.t.Helper()
	var stderr bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	a := &agent{t: h.t, cmd: cmd, socket: socket, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(a.done)
	}()
	h.t.Cleanup(a.kill)
	wait(h.t, "the agent's socket", func() bool {
		select {
		case <-a.done:
			h.t.Fatalf("the agent ended: %v\n%s", cmd.ProcessState, stderr.Bytes())
		default:
		}
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return a
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

// kill ends the agent as `kill -9` does.
func (a *agent) kill() { a.end(syscall.SIGKILL) }

// end sends a signal and waits for the agent's end.
func (a *agent) end(sig syscall.Signal) {
	a.cmd.Process.Signal(sig)
	<-a.done
}

// status is what `ccagent status --json` prints, as far as the tests look at it.
type status struct {
	Agent struct {
		PID      int    `json:"pid"`
		Socket   string `json:"socket"`
		Renewals int    `json:"renewals"`
	} `json:"agent"`
	Profiles []profileStatus `json:"profiles"`
}

type profileStatus struct {
	Name      string `json:"name"`
	State     string `json:"state"`
	Location  string `json:"location"`
	LastError string `json:"last_error"`
}

func (h *home) status() status {
	h.t.Helper()
	r := h.ccagent("status", "--json").must(h.t)
	var s status
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		h.t.Fatalf("status --json: %v\n%s", err, r.stdout)
	}
	return s
}

func (h *home) profile(name string) profileStatus {
	h.t.Helper()
	for _, p := range h.status().Profiles {
		if p.Name == name {
			return p
		}
	}
	h.t.Fatalf("status knows no profile %s", name)
	return profileStatus{}
}

// process is one row of /proc.
type process struct {
	pid     int
	ppid    int
	session int
	args    []string
}

// processes lists those whose environment holds the variable, NAME=value, be they dumpable or not: the reader is root.
func processes(t *testing.T, variable string) []process {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var list []process
	for _, dir := range dirs {
		environ, err := os.ReadFile(dir + "/environ")
		if err != nil || !bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[0] == "Z" {
			continue
		}
		p := process{args: strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")}
		p.pid, _ = strconv.Atoi(filepath.Base(dir))
		p.ppid, _ = strconv.Atoi(fields[1])
		p.session, _ = strconv.Atoi(fields[3])
		list = append(list, p)
	}
	return list
}

// killAll ends what a test left running in its home.
func killAll(t *testing.T, variable string) {
	for _, p := range processes(t, variable) {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
	wait(t, "processes to end", func() bool { return len(processes(t, variable)) == 0 })
}

func (h *home) processes() []process { return processes(h.t, "HOME="+h.dir) }

// agents are the processes of this home that are agents. A worker looks like its agent until it has come to its execve.
func (h *home) agents() []process {
	var list []process
	for _, p := range h.processes() {
		if len(p.args) > 1 && p.args[1] == "serve" {
			list = append(list, p)
		}
	}
	return slices.DeleteFunc(slices.Clone(list), func(p process) bool {
		return slices.ContainsFunc(list, func(parent process) bool { return parent.pid == p.ppid })
	})
}

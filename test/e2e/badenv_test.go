//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestSocketPathTooLong(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	long := "/tmp/" + strings.Repeat("x", 195)
	for _, program := range [][]string{{program("cchelper")}, {program("ccagent"), "status"},
		append([]string{program("ccagent")}, h.serveArgs()...), {program("ccagent"), "env"}} {
		cmd := h.command(program[0], program[1:]...)
		cmd.Env = append(cmd.Env, "CCAGENT_SOCK="+long)
		r := finish(t, cmd)
		r.fails(t, 2, "$CCAGENT_SOCK has 200 bytes")
		if !strings.Contains(r.stderr, long[:50]) || strings.Contains(r.stderr, "invalid argument") {
			t.Errorf("%v: stderr %q does not say what is wrong", program, r.stderr)
		}
	}
}

func TestHomeUnset(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.unset = []string{"HOME"}
	// What needs no home works, and what needs one says so.
	h.ccagent("version").must(t)
	h.ccagent("stop").must(t)
	h.ccagent("status").fails(t, 5, "no agent")
	h.helper("--no-start").fails(t, 5, "no agent")
	h.ccagent("list").fails(t, 2, "HOME")
	h.helper().fails(t, 2, "HOME")
	t.Cleanup(func() { h.ccagent("stop", "--force") }) // processes are told by their HOME, which this agent does not have
}

// With no runtime directory the socket is in the temporary one, in a folder that carries the user's id.
func TestRuntimeDirUnset(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.unset = []string{"XDG_RUNTIME_DIR"}
	if token := h.token(); token == "" {
		t.Error("no token")
	}
	socket := h.tmp + "/ccagent-0/agent.sock"
	if s := h.status(); s.Agent.Socket != socket {
		t.Errorf("socket %s, want %s", s.Agent.Socket, socket)
	}
	checkMode(t, h.tmp+"/ccagent-0", os.ModeDir|0o700)
	checkMode(t, socket, os.ModeSocket|0o600)
}

func checkMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if info.Mode() != want {
		t.Errorf("%s is %v, want %v", path, info.Mode(), want)
	}
}

// Files and sockets that we make are for their owner alone, whatever the umask.
func TestModes(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.signIn(expired(provider.Issue()))
	h.run("/bin/sh", "-c", `umask 000; cchelper && printf fake-key | ccagent add robot --provider static --store file`).must(t)
	checkMode(t, h.runtime+"/ccagent", os.ModeDir|0o700)
	checkMode(t, h.socket(), os.ModeSocket|0o600)
	checkMode(t, h.socket()+".lock", 0o600)
	checkMode(t, h.credentialsFile(), 0o600)
	checkMode(t, h.path(".claude/.ccagent.lock"), 0o600)
	checkMode(t, h.path(".config/ccagent/config.toml"), 0o600)
	out, err := exec.Command("find", h.dir, "-path", h.path(".claude"), "-prune", "-o", "-perm", "/077", "-newer", h.path(".config"),
		"-print").
		Output()
	if err != nil || len(out) > 0 {
		t.Errorf("open to others: %s %v", out, err)
	}
}

// Nobody reads what is printed: that is a failure, and no crash.
func TestStdoutThatTakesNothing(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.serve()
	h.token()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"cchelper"}, {"cchelper", "-f", "json"}, {"ccagent", "token"}, {"ccagent", "status"}, {"ccagent", "status", "--json"},
		{"ccagent", "list"}, {"ccagent", "env"}, {"ccagent", "version"}, {"ccagent", "completion", "bash"},
	} {
		cmd := h.command(program(args[0]), args[1:]...)
		cmd.Stdout = full
		if r := finish(t, cmd); r.exit != 1 || !strings.Contains(r.stderr, "no space left on device") ||
			strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v > /dev/full: exit %d, stderr %q", args, r.exit, r.stderr)
		}
		// Go opens /dev/null in the place of a closed one, so that no socket or file ends up being written to by mistake. The
		// helper looks before that.
		closed := h.command("/bin/sh", append([]string{"-c", `exec "$@" >&-`, "sh", program(args[0])}, args[1:]...)...)
		exit, stderr := 0, ""
		if args[0] == "cchelper" {
			exit, stderr = 1, "ccagent: can't write the answer: standard output is closed\n"
		}
		if r := finish(t, closed); r.exit != exit || r.stderr != stderr {
			t.Errorf("%v >&-: exit %d, stderr %q", args, r.exit, r.stderr)
		}
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		reader.Close()
		broken := h.command(program(args[0]), args[1:]...)
		broken.Stdout = writer
		r := finish(t, broken)
		writer.Close()
		if r.exit == 0 || strings.Contains(r.stderr, "goroutine") {
			t.Errorf("%v | nobody: exit %d, stderr %q", args, r.exit, r.stderr)
		}
	}
	// The agent is started with whatever is closed, and keeps its own files apart from it.
	h.ccagent("stop").must(t)
	h.run("/bin/sh", "-c", "cchelper <&- >&- 2>&-; exec cchelper").must(t)
}

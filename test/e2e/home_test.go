//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// home is one person's machine: a HOME, a runtime directory, and the environment that names them. Its paths are short, for a
// socket path has 108 bytes.
type home struct {
	t       *testing.T
	root    string // what holds the rest
	dir     string // HOME
	runtime string // XDG_RUNTIME_DIR
	tmp     string // TMPDIR
	unset   []string
	vars    []string            // more of the environment
	owner   *syscall.Credential // whose programs they are; nil: ours

	terminals int // made so far
}

// newHome makes a home. When the test ends, its agents are stopped and whatever process still carries its HOME is killed.
func newHome(t *testing.T) *home {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "cce")
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, root: root, dir: root + "/h", runtime: root + "/r", tmp: root + "/t"}
	for _, dir := range []string{h.dir, h.runtime, h.tmp} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		killAll(t, "HOME="+h.dir)
		if t.Failed() {
			t.Logf("log of the agent:\n%s", h.log())
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	return h
}

// env is the environment of a program in this home, extra last.
func (h *home) env(extra ...string) []string {
	var env []string
	for _, pair := range []string{"HOME=" + h.dir, "XDG_RUNTIME_DIR=" + h.runtime, "TMPDIR=" + h.tmp,
		"PATH=" + binDir + ":/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8"} {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.Contains(h.unset, name) {
			env = append(env, pair)
		}
	}
	return append(append(env, h.vars...), extra...)
}

// socket is the default socket.
func (h *home) socket() string { return h.runtime + "/ccagent/agent.sock" }

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// credentialsFile is Claude Code's.
func (h *home) credentialsFile() string { return h.path(".claude/.credentials.json") }

// write writes a file of this home, 0600 in a folder made 0700.
func (h *home) write(name, content string) {
	h.t.Helper()
	path := h.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if h.owner != nil {
		if err := os.Lchown(path, int(h.owner.Uid), int(h.owner.Gid)); err != nil {
			h.t.Fatal(err)
		}
	}
}

// config writes config.toml.
func (h *home) config(toml string) { h.write(".config/ccagent/config.toml", toml) }

func (h *home) read(name string) string {
	h.t.Helper()
	data, err := os.ReadFile(h.path(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// logFile is where the agents that serve starts log to.
func (h *home) logFile() string { return h.root + "/agent.log" }

func (h *home) log() string {
	data, err := os.ReadFile(h.logFile())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// result is what a finished program left.
type result struct {
	stdout, stderr string
	exit           int
}

// command is a program in this home, as cmd.Dir and environment go. It is killed after five minutes.
func (h *home) command(name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	h.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.dir
	cmd.Env = h.env()
	cmd.WaitDelay = 10 * time.Second
	if h.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.owner}
	}
	return cmd
}

// run runs a program to its end. A program that leaves its output open to somebody else fails the test.
func (h *home) run(name string, args ...string) result {
	h.t.Helper()
	return finish(h.t, h.command(name, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, stdout.Bytes(), stderr.Bytes())
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func (h *home) helper(args ...string) result {
	h.t.Helper()
	return h.run(program("cchelper"), args...)
}

func (h *home) ccagent(args ...string) result {
	h.t.Helper()
	return h.run(program("ccagent"), args...)
}

// token is what cchelper prints, without its newline; a failure ends the test.
func (h *home) token(args ...string) string {
	h.t.Helper()
	r := h.helper(args...)
	if r.exit != 0 {
		h.t.Fatalf("cchelper %v: exit %d\n%s", args, r.exit, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// must ends the test unless the program was content.
func (r result) must(t *testing.T) result {
	t.Helper()
	if r.exit != 0 {
		t.Fatalf("exit %d\n%s%s", r.exit, r.stdout, r.stderr)
	}
	return r
}

// fails checks that a program failed as docs/errors.md has it: this exit code, an empty stdout, and one line on stderr that
// contains what, with nothing but hints after it.
func (r result) fails(t *testing.T, exit int, what string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if r.exit != exit || r.stdout != "" || !strings.HasPrefix(lines[0], "ccagent: ") || !strings.Contains(lines[0], what) {
		t.Errorf("exit %d, stdout %.200q, stderr %.500q; want exit %d, nothing, and a line with %q", r.exit, r.stdout, r.stderr, exit,
			what)
		return
	}
	for _, line := range lines[1:] {
		if !strings.HasPrefix(line, "hint: ") {
			t.Errorf("stderr %.500q: a line that is neither the error nor a hint", r.stderr)
		}
	}
}

// wait polls until done says so.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func mkdir(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

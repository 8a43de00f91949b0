package main

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // the tests' folders are not open to others, who may not write configuration
	testscript.Main(noTerminal{m}, programs)
}

// programs are those that tests find on PATH.
var programs = map[string]func(){
	"ccagent":     main,
	"fakebrowser": fakeBrowser,
	"fetch":       fetch,
}

// noTerminal runs the tests away from the terminal that `make test` was typed at: what asks a person there would wait for ever.
// Scripts that want a terminal make one.
type noTerminal struct{ *testing.M }

func (m noTerminal) Run() int {
	if tty, err := os.Open("/dev/tty"); err == nil {
		unix.IoctlSetInt(int(tty.Fd()), unix.TIOCNOTTY, 0)
		tty.Close()
	}
	return m.M.Run()
}

// TestScripts runs the program as its users do, each script with a home and, where it starts one, an agent of its own.
func TestScripts(t *testing.T) {
	root, err := os.MkdirTemp("/tmp", "cc") // short: a socket's path has about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		WorkdirRoot:         root,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_RUNTIME_DIR", filepath.Join(e.WorkDir, "run"))
			e.Setenv("SHELL", "/bin/sh")
			// For programs that were built with the race detector.
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(e.WorkDir, "none")) // nobody's keyring is touched
			e.Setenv("CONFIG", filepath.Join(e.WorkDir, "home/.config/ccagent/config.toml"))
			for _, dir := range []string{"home", "run"} {
				if err := os.MkdirAll(filepath.Join(e.WorkDir, dir), 0o700); err != nil {
					return err
				}
			}
			e.Defer(func() { endAgent(filepath.Join(e.WorkDir, "run/ccagent/agent.sock")) })
			return nil
		},
		Cmds: scriptCommands(),
	})
}

func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	commands := maps.Clone(loginCommands)
	commands["exits"] = exits
	commands["documented"] = documented
	commands["earlier"] = earlier
	commands["identity"] = identity
	commands["becomes"] = becomes
	commands["until"] = until
	commands["edit"] = editText
	commands["shows"] = shows
	commands["mended"] = mended
	maps.Copy(commands, hintCommands)
	commands["service"] = fakeService
	commands["bus"] = bus
	maps.Copy(commands, terminalCommands)
	return commands
}

// terminalCommands need a pseudo-terminal, which is made on Linux alone.
var terminalCommands = map[string]func(*testscript.TestScript, bool, []string){}

// scriptEnv is the environment of programs that a script's command starts itself.
func scriptEnv(ts *testscript.TestScript) (env []string) {
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "SHELL", "PATH", "DBUS_SESSION_BUS_ADDRESS", "CCAGENT_SOCK"} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// exits runs a program that must end with the exit code: exits CODE PROGRAM [ARGUMENTS].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENTS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// earlier sets ID to that of the first sign-in that ccagent restore lists and that is not in force: earlier [ARGUMENTS].
func earlier(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Exec("ccagent", append([]string{"restore"}, args...)...))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if id, rest, _ := strings.Cut(line, " "); id != "ID" && !strings.Contains(rest, "in force") {
			ts.Setenv("ID", id)
			return
		}
	}
	ts.Fatalf("none is listed")
}

// identity makes an age identity in the file, and sets RECIPIENT to whom it opens: identity FILE.
func identity(ts *testscript.TestScript, neg bool, args []string) {
	i, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(i.String()+"\n"), 0o600))
	ts.Setenv("RECIPIENT", i.Recipient().String())
}

// endAgent stops the agent of a script, if it started one.
func endAgent(socket string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client := protocol.NewClient(socket)
	defer client.Close()
	client.Control(ctx, protocol.ControlRequest{Command: protocol.CommandStop, Force: true})
}

// becomes waits for a file to hold what the agent or a browser writes to it unasked: becomes FILE REGEXP.
func becomes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: becomes FILE REGEXP")
	}
	re := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && re.Match(data) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s is %s, %v; want %s in it", args[0], data, err, args[1])
		}
	}
}

// until runs a program again and again, for something that happens in the background: until CODE PROGRAM [ARGUMENTS].
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until CODE PROGRAM [ARGUMENTS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := 0
		err := ts.Exec(args[1], args[2:]...)
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			got = exit.ExitCode()
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("exit code %d to the end, want %d", got, want)
		}
	}
}

// editText replaces a text in a file, as a person would: edit FILE OLD NEW.
func editText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	path := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("there is no %q in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

// shows runs a program until it prints what happens in the background: shows REGEXP PROGRAM [ARGUMENTS].
func shows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: shows REGEXP PROGRAM [ARGUMENTS]")
	}
	re := regexp.MustCompile(args[0])
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		ts.Exec(args[1], args[2:]...) // it may fail until then
		if re.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no %s to the end", args[0])
		}
	}
}

// bus makes a session bus, where systemd has it, that ends each connection.
func bus(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("unix", filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "bus"))
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
}

// mended runs what the last output says would mend it: mended COMMAND.
func mended(ts *testscript.TestScript, neg bool, args []string) {
	m := regexp.MustCompile(`(?m)^      mend it: (`+args[0]+` .*)$`).FindAllStringSubmatch(ts.ReadFile("stdout"), -1)
	if m == nil {
		ts.Fatalf("nothing is mended by %s", args[0])
	}
	ts.Check(ts.Exec("sh", "-c", m[len(m)-1][1]))
}

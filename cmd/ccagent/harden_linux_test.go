package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
)

// TestEveryCommandIsHardened looks at commands that wait for a secret on standard input.
func TestEveryCommandIsHardened(t *testing.T) {
	t.Parallel()
	for _, command := range []string{
		"add key --provider static", "import - -p work", "unlock --passphrase-stdin", "unlock --change --passphrase-stdin",
		"lock --passphrase-stdin", "worker",
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			cmd := exec.Command("ccagent", strings.Fields(command)...)
			cmd.Env = append(os.Environ(), "HOME="+home, "XDG_RUNTIME_DIR="+home)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer stdin.Close()
			missing := ""
			for range 1000 {
				if missing = unhardened(cmd.Process.Pid); missing == "" {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("it waits for a secret, and %s", missing)
		})
	}
}

// unhardened says what a process has not done yet, "" where nothing is missing.
func unhardened(pid int) string {
	dir := fmt.Sprintf("/proc/%d/", pid)
	limits, err1 := os.ReadFile(dir + "limits")
	status, err2 := os.ReadFile(dir + "status")
	memory, err3 := os.Stat(dir + "mem")
	switch {
	case err1 != nil || err2 != nil || err3 != nil:
		return "it has ended"
	case !regexp.MustCompile(`Max core file size +0 `).Match(limits):
		return "core dumps are on"
	case !strings.Contains(string(status), "\nUmask:\t0077\n"):
		return "its files are open to others"
	}
	if owner, ok := files.Owner(memory); ok && owner != 0 {
		return "its memory is open to others"
	}
	return ""
}

// TestGivenBack: the programs that a person has us start are given what we were given.
func TestGivenBack(t *testing.T) {
	const program = `umask; ulimit -Sc; ulimit -Hc; stat -Lc %u /proc/self/mem`
	shell := func(script string, args ...string) []string {
		t.Helper()
		cmd := exec.Command("sh", append([]string{"-c", "umask 022; ulimit -Sc 8; " + script, "sh"}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Fields(string(out))
	}
	want := shell(program)
	if len(want) != 4 || want[0] != "0022" || want[1] != "8" {
		t.Fatalf("the shell alone has %q", want)
	}
	got := shell(`exec givesback "$@"`, "sh", "-c", program)
	if !slices.Equal(got, slices.Concat(want, want)) {
		t.Errorf("the program that is started and the one that it becomes have %q, want %q twice", got, want)
	}
}

func init() { programs["givesback"] = givesBack }

// givesBack hardens itself, starts the program that its arguments name, and becomes it then. It fails unless it is hardened in
// between.
func givesBack() {
	fail := func(err any) {
		fmt.Fprintln(os.Stderr, "givesback:", err)
		os.Exit(1)
	}
	if err := limits.Harden(os.Args); err != nil {
		fail(err)
	}
	started := exec.Command(os.Args[1], os.Args[2:]...)
	var out strings.Builder
	started.Stdout = &out
	if err := limits.RunAsGiven(started); err != nil {
		fail(err)
	}
	if missing := unhardened(os.Getpid()); missing != "" {
		fail(missing)
	}
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		fail(err)
	}
	os.Stdout.WriteString(out.String())
	fail(limits.AsGiven(func() error { return syscall.Exec(path, os.Args[1:], os.Environ()) }))
}

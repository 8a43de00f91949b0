//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// proc reads what /proc says of a process.
func proc(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// checkHardened checks what serve and worker do first: no core dumps, not dumpable (the kernel gives such a process's /proc
// entries to root), nothing they make is open to others.
func checkHardened(t *testing.T, pid int) {
	t.Helper()
	if limits := proc(t, pid, "limits"); !regexp.MustCompile(`Max core file size +0 +0 `).MatchString(limits) {
		t.Errorf("core dumps are on:\n%s", limits)
	}
	if status := proc(t, pid, "status"); !strings.Contains(status, "\nUmask:\t0077\n") {
		t.Errorf("umask is not 077:\n%s", status)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
		t.Errorf("/proc/%d/mem belongs to uid %d: the process is dumpable", pid, uid)
	}
}

// The helper as it is shipped has the token before Go's runtime would have started, which speaks when it does.
func TestHelperNeedsNoRuntime(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.serve()
	h.token()
	arm64, err := filepath.Abs("../../dist/linux/arm64/cchelper") // of `make dist`
	if err != nil {
		t.Fatal(err)
	}
	for _, helper := range [][]string{{program("cchelper")}, {program("cchelper"), "--on-reask=renew"},
		{need(t, "qemu-aarch64-static"), arm64}} {
		cmd := h.command(helper[0], helper[1:]...)
		cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
		if r := finish(t, cmd); r.exit != 0 || r.stdout != h.token()+"\n" || r.stderr != "" {
			t.Errorf("%s: exit %d, %q", helper, r.exit, r.stderr)
		}
	}
}

func TestHardened(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	alice := credential(t, "ccagent-alice")
	h.giveTo(alice)
	a := h.serve()
	h.token()
	checkHardened(t, a.pid())

	provider.SetFault(oauthtest.Fault{Delay: 2 * time.Second})
	refresh := h.command(program("ccagent"), "refresh")
	if err := refresh.Start(); err != nil {
		t.Fatal(err)
	}
	defer refresh.Wait()
	wait(t, "the worker to ask the provider", func() bool { return provider.Counts().Requests == 1 })
	workers := 0
	for _, p := range h.processes() {
		if len(p.args) > 1 && p.args[1] == "worker" {
			workers++
			checkHardened(t, p.pid)
			if p.session != p.pid {
				t.Error("the worker is not in a session of its own")
			}
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid)); err != nil || exe != program("ccagent") {
				t.Errorf("the worker runs %s, %v", exe, err)
			}
		}
	}
	if workers != 1 {
		t.Errorf("%d workers, want 1", workers)
	}
}

// What the user's own programs get from `exec` is what they would have had without us.
func TestExecGivesLimitsBack(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	cmd := h.command("/bin/sh", "-c", `umask 027; ulimit -c 0; ulimit -Sc 0; exec "$@"`, "sh", program("ccagent"), "exec", "--",
		"/bin/sh", "-c", "umask; ulimit -c; echo $PPID")
	r := finish(t, cmd).must(t)
	if want := fmt.Sprintf("0027\n0\n%d\n", os.Getpid()); r.stdout != want {
		t.Errorf("printed %q, want %q: umask, core limit, and no parent in between", r.stdout, want)
	}
	if r := h.ccagent("exec", "--", "/bin/sh", "-c", "kill -TERM $$"); r.exit != -1 {
		t.Errorf("exit %d, want the program's own death by a signal", r.exit)
	}
	if r := h.ccagent("exec", "--", "/bin/sh", "-c", "exit 42"); r.exit != 42 {
		t.Errorf("exit %d, want 42", r.exit)
	}
}

// `$(cchelper)` with no agent: the one that it starts must not hold on to the shell's pipe, terminal, folder or session.
func TestDetachedStart(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	marker := h.path("open")
	script := fmt.Sprintf(`exec 7>%s; x=$(cchelper) && echo "got $x"`, marker)
	start := time.Now()
	r := h.run("/bin/sh", "-c", script).must(t)
	if !strings.HasPrefix(r.stdout, "got fake-access-") {
		t.Errorf("printed %q", r.stdout)
	}
	t.Logf("%v with the start of the agent", time.Since(start))
	agents := h.agents()
	if len(agents) != 1 {
		t.Fatalf("%d agents", len(agents))
	}
	p := agents[0]
	if p.session != p.pid {
		t.Errorf("session %d of process %d: not its own", p.session, p.pid)
	}
	if p.ppid != 1 && slices.ContainsFunc(h.processes(), func(q process) bool { return q.pid == p.ppid }) {
		t.Errorf("its parent %d is one of ours", p.ppid)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.pid)); err != nil || cwd != "/" {
		t.Errorf("working directory %s, %v", cwd, err)
	}
	// A worker that looks at the file once more has pipes to the agent, which go with it; what stays is what is judged.
	wait(t, "the workers' pipes to be closed", func() bool {
		return !slices.ContainsFunc(descriptors(t, p.pid), func(target string) bool { return strings.HasPrefix(target, "pipe:") })
	})
	for n, target := range descriptors(t, p.pid) {
		if target == "" {
			continue
		}
		ours := strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "anon_inode:") ||
			strings.HasPrefix(target, filepath.Dir(h.socket())) ||
			strings.HasSuffix(target, ".log") ||
			strings.HasPrefix(target, "/sys/fs/cgroup/") // Go's runtime watches its CPU limit
		if standard := n <= 2; standard && target != "/dev/null" && !strings.HasSuffix(target, ".log") || !standard && !ours {
			t.Errorf("descriptor %d is %s", n, target)
		}
	}
}

// descriptors lists what a process has open, by number; "" is a number not in use.
func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(links) == 0 {
		t.Fatal("no descriptors to look at", err)
	}
	var list []string
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // closed meanwhile
		}
		n, err := strconv.Atoi(filepath.Base(link))
		if err != nil {
			t.Fatal(err)
		}
		for len(list) <= n {
			list = append(list, "")
		}
		list[n] = target
	}
	return list
}

// No token is ever in an argument or a variable of any process, but the variable that `exec` is asked to set.
func TestNoSecretInArgumentsOrEnvironment(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.signIn(expired(provider.Issue()))
	h.config(claudeProfile("claude", h.path(".claude"), provider) +
		"[profiles.cmd]\nprovider = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo fake-\\\"command-token\\\"\"]\nttl = \"30m\"\n")
	trace := h.root + "/trace"
	script := `set -e
printf fake-static-key | ccagent add robot --provider static
cchelper >/dev/null; ccagent refresh >/dev/null; cchelper -p robot >/dev/null; cchelper -p cmd >/dev/null
printf '{"claudeAiOauth":{"accessToken":"fake-import","refreshToken":"fake-import-r","expiresAt":null}}' | ccagent import --force - >/dev/null
ccagent token >/dev/null; ccagent validate >/dev/null; ccagent status >/dev/null; ccagent stop --force`
	h.run(need(t, "strace"), "-f", "-qq", "-v", "-s", "100000", "-e", "trace=execve,execveat", "-o", trace, "/bin/sh", "-ec",
		script).
		must(t)
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	record := string(data)
	// The script itself names two of them in an argument: it is the only line that may.
	script0, rest, _ := strings.Cut(record, "\n")
	if !strings.Contains(script0, "fake-static-key") || strings.Count(rest, "execve(") < 8 || !strings.Contains(rest, `"worker"`) {
		t.Fatalf("the record of strace is not what it should be:\n%.2000s", record)
	}
	if i := strings.Index(rest, "fake-access"); i >= 0 {
		t.Errorf("an access token: %.300q", rest[i:])
	}
	for _, secret := range []string{"fake-refresh", "fake-static", "fake-import", "fake-command"} {
		if i := strings.Index(rest, secret); i >= 0 {
			t.Errorf("%s: %.300q", secret, rest[i:])
		}
	}
}

// The log at its most talkative, over successes and every kind of failure, and what is printed on failure.
func TestNoSecretInLogsAndErrors(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.config(claudeProfile("claude", h.path(".claude"), provider) +
		"[profiles.broken]\nprovider = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo fake-command-token; exit 3\"]\n")
	a := h.serve()
	var printed strings.Builder
	note := func(r result) { printed.WriteString(r.stderr) }
	h.token()
	faults := []oauthtest.Fault{
		{Status: 500, Body: "fake-secret-body"},
		{Status: 400, Body: `{"error":"invalid_request","error_description":"bad token REFRESH"}`},
		{Body: "<html>fake-secret-body</html>"},
		{Status: 302, Header: map[string]string{"Location": "http://127.0.0.1:1/fake-secret-path"}},
		{Truncate: true},
		{Drop: true},
		{Edit: func(m map[string]any) { m["access_token"] = map[string]any{"fake-secret-body": 1} }, Status: 0},
	}
	for _, fault := range faults {
		provider.SetFault(oauthtest.Fault{})
		signIn := provider.Issue()
		fault.Body = strings.ReplaceAll(fault.Body, "REFRESH", signIn.RefreshToken)
		h.signIn(signIn)
		wait(
			t,
			"the new sign-in to be adopted, which ends what the last fault left",
			func() bool { return h.helper().stdout == signIn.AccessToken+"\n" },
		)
		requests := provider.Counts().Requests
		provider.SetFault(fault)
		note(h.ccagent("refresh"))
		if provider.Counts().Requests == requests {
			t.Errorf("%+v: the provider was not asked", fault)
		}
	}
	provider.SetFault(oauthtest.Fault{})
	note(h.helper("-p", "broken"))
	note(h.helper("-p", "nobody"))
	h.write(".claude/.credentials.json", `{"claudeAiOauth":{"accessToken":"fake-secret-body`)
	note(h.ccagent("refresh"))
	a.end(syscall.SIGTERM)
	if len(h.log()) < 500 || strings.Count(printed.String(), "ccagent: ") < 8 {
		t.Fatalf("too little to judge:\n%s\n%s", h.log(), printed.String())
	}
	for what, text := range map[string]string{"the log": h.log(), "an error": printed.String()} {
		if m := regexp.MustCompile(`.*fake-(access|refresh|command|secret).*`).FindString(text); m != "" {
			t.Errorf("a secret in %s: %s", what, m)
		}
	}
}

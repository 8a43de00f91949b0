//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// finds checks that doctor's output has a finding, in which state, and what it says.
func finds(t *testing.T, r result, state, id, what string) {
	t.Helper()
	re := regexp.MustCompile(`(?m)^` + state + ` +` + regexp.QuoteMeta(id) + `: .*` + what)
	if !re.MatchString(r.stdout) {
		t.Errorf("no %s of %s with %q in:\n%s%s", state, id, what, r.stdout, r.stderr)
	}
}

// TestDoctorUnits provokes what can be wrong with the units, and mends each with the command that doctor names.
func TestDoctorUnits(t *testing.T) {
	c, provider := newAlice(t)
	mend := regexp.MustCompile(`mend it: (.*)`)
	mended := func(state, id, what string) {
		t.Helper()
		r := c.try("ccagent doctor")
		finds(t, r, state, id, what)
		for line := range strings.Lines(r.stdout) {
			if m := mend.FindStringSubmatch(line); m != nil &&
				(strings.HasPrefix(m[1], "ccagent install") || strings.HasPrefix(m[1], "systemctl")) {
				c.must(m[1])
			}
		}
		finds(t, c.try("ccagent doctor"), "ok", "units", "systemd listens")
	}
	finds(t, c.try("ccagent doctor"), "ok", "units", "systemd listens")
	finds(t, c.try("cchelper >/dev/null; ccagent doctor"), "ok", "core dumps", "can't be dumped")
	finds(t, c.try("ccagent doctor"), "ok", "cchelper", "/usr/bin/cchelper")

	c.must("systemctl --user stop ccagent.socket ccagent.service")
	mended("warn", "units", "does not listen")

	c.must(
		"mkdir -p .config/systemd/user/ccagent.service.d; printf '[Service]\\nExecStart=\\nExecStart=/nonexistent/ccagent serve\\n' " +
			">.config/systemd/user/ccagent.service.d/x.conf; systemctl --user daemon-reload",
	)
	finds(t, c.try("ccagent doctor"), "fail", "units", "does not exist: /nonexistent/ccagent")
	// A program that fails at once until systemd gives up, and is mended meanwhile.
	c.must(
		"printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' >.config/systemd/user/ccagent.service.d/x.conf; systemctl --user " +
			"daemon-reload; systemctl --user restart ccagent.socket",
	)
	c.try("for i in 1 2 3 4 5 6 7 8 9 10; do cchelper --timeout 1s; done")
	finds(t, c.try("ccagent doctor"), "fail", "units", "systemd says that the agent failed")
	c.must("rm -r .config/systemd/user/ccagent.service.d; systemctl --user daemon-reload")
	mended("fail", "units", "systemd says that the agent failed")
	c.must("cchelper >/dev/null")

	const proxied = "export HTTPS_PROXY=http://proxy.example.com NO_PROXY='*.example.org'; "
	r := c.try(proxied + "ccagent doctor")
	finds(t, r, "warn", "unit environment", "HTTPS_PROXY is set here")
	finds(t, r, "warn", "unit environment", "NO_PROXY is set here")
	for line := range strings.Lines(r.stdout) {
		if m := mend.FindStringSubmatch(line); m != nil && strings.Contains(m[1], "import-environment") {
			c.must(proxied + m[1])
		}
	}
	if r := c.try(proxied + "ccagent doctor"); strings.Contains(r.stdout, "unit environment") {
		t.Errorf("still there after what mends it:\n%s", r.stdout)
	}
	c.must("systemctl --user unset-environment HTTPS_PROXY NO_PROXY; systemctl --user try-restart ccagent.service")

	c.must("ccagent guard claude-code --store file && systemctl --user disable ccagent.service")
	mended("warn", "units", "does not start at login")
	if n := provider.Counts().Reuses; n != 0 {
		t.Errorf("%d refresh tokens were used twice", n)
	}
}

// TestDoctorOnline reaches a provider whose clock is right, one whose clock is wrong, and one that is not there.
func TestDoctorOnline(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	finds(t, h.ccagent("doctor", "--online"), "ok", "provider of claude", "the clocks agree")
	provider.SetFaultAt(
		"/v1/oauth/token",
		oauthtest.Fault{
			Status: 405,
			Header: map[string]string{"Date": time.Now().Add(-10 * time.Minute).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")},
		},
	)
	finds(t, h.ccagent("doctor", "--online"), "warn", "provider of claude", "differ by 10m0[0-9]s")
	provider.SetFaultAt("/v1/oauth/token", oauthtest.Fault{})
	if n := provider.Counts(); n.Refreshes != 0 {
		t.Errorf("%+v: it renewed", n)
	}
	provider.Close()
	r := h.ccagent("doctor", "--online")
	finds(t, r, "fail", "provider of claude", "127.0.0.1:")
	if r.exit != 1 {
		t.Errorf("exit %d", r.exit)
	}
}

// TestDoctorAgent provokes a provider that is backed off from, and an agent that hangs.
func TestDoctorAgent(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.signIn(expired(provider.Issue()))
	provider.SetFault(oauthtest.Fault{Status: 503})
	h.helper().fails(t, 7, "")
	finds(t, h.ccagent("doctor"), "warn", "profile claude", "backing off: ")

	pid := h.status().Agent.PID
	syscall.Kill(pid, syscall.SIGSTOP) // it hangs
	r := h.ccagent("doctor")
	syscall.Kill(pid, syscall.SIGCONT)
	finds(t, r, "fail", "holder", fmt.Sprintf("process %d has the lock of .*, and does not answer", pid))
}

// TestDoctorUnsaved has a renewal that no store takes, and a sign-in that the provider refuses: the helper tells both too, beside
// the token.
func TestDoctorUnsaved(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	h.serve()
	h.token()
	h.renewUnsaved(provider)
	wait(t, "the save to fail", func() bool { return h.profile("claude").State == "unsaved" })
	finds(t, h.ccagent("doctor"), "warn", "profile claude", "unsaved: ")
	if r := h.helper(); r.exit != 0 || !strings.Contains(r.stderr, "could not be saved yet") {
		t.Errorf("the helper says nothing of it: %+v", r)
	}
	h.open()
	wait(t, "the save", func() bool { return h.profile("claude").State == "live" })

	provider.RevokeGrant(h.token())
	wait(
		t,
		"a renewal to be refused",
		func() bool { return h.ccagent("refresh").exit == 4 },
	) // within 2 s of one, another is answered by it
	if r := h.helper(); r.exit != 0 || !strings.Contains(r.stderr, "can't be renewed; sign in again by ") { // the token still lives
		t.Errorf("the helper says nothing of it: %+v", r)
	}
	r := h.ccagent("doctor")
	finds(t, r, "fail", "profile claude", "sign-in needed: ")
	if r.exit != 1 || !strings.Contains(r.stdout, "mend it: claude auth login") {
		t.Errorf("exit %d\n%s", r.exit, r.stdout)
	}
}

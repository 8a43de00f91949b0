//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// container is a Debian with systemd as PID 1 and a user manager for alice; what is written to it is gone when the test ends. It
// shares the machine's loopback, where the provider is.
type container struct {
	t    *testing.T
	init string // pid of its PID 1, seen from outside
	off  func() // as a power cut
}

func boot(t *testing.T, options ...string) *container {
	t.Helper()
	units, err := filepath.Abs("../../packaging/systemd")
	if err != nil {
		t.Fatal(err)
	}
	return bootBare(t, append(options,
		"--bind-ro="+program("ccagent")+":/usr/bin/ccagent", "--bind-ro="+program("cchelper")+":/usr/bin/cchelper",
		"--bind-ro="+units+"/ccagent.socket:/usr/lib/systemd/user/ccagent.socket",
		"--bind-ro="+units+"/ccagent.service:/usr/lib/systemd/user/ccagent.service")...)
}

// bootBare is boot with nothing of ours in it, and options of systemd-nspawn's.
func bootBare(t *testing.T, options ...string) *container {
	t.Helper()
	needRoot(t)
	tree := need(t, partsDir()+"/debian")
	var console bytes.Buffer
	cmd := exec.Command(
		need(t, "systemd-nspawn"),
		append([]string{"-q", "-D", tree, "--volatile=overlay", "-b", "--register=no", "--keep-unit",
			"--link-journal=no", "--console=pipe", fmt.Sprintf("--machine=cce%d", os.Getpid())}, options...)...)
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	c := &container{t: t}
	c.off = func() {
		cmd.Process.Kill()
		<-ended
		if pid, err := strconv.Atoi(c.init); err == nil { // it does not go with systemd-nspawn; all that is in it goes with it
			syscall.Kill(pid, syscall.SIGKILL)
			wait(t, "the container to be gone", func() bool { return !exists("/proc/" + c.init) })
			c.init = ""
		}
	}
	t.Cleanup(func() {
		c.off()
		if t.Failed() {
			t.Logf("console:\n%s", console.String())
		}
	})
	children := fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid)
	wait(t, "the container's PID 1", func() bool {
		select {
		case <-ended:
			t.Fatalf("systemd-nspawn ended: %v", cmd.ProcessState)
		default:
		}
		data, _ := os.ReadFile(children)
		for pid := range strings.FieldsSeq(string(data)) {
			if comm, _ := os.ReadFile("/proc/" + pid + "/comm"); string(comm) == "systemd\n" {
				c.init = pid
			}
		}
		return c.init != ""
	})
	wait(t, "alice's user manager", func() bool {
		return strings.Contains(c.try("systemctl --user is-system-running").stdout, "running")
	})
	return c
}

// command is a shell command of alice's, in the container.
func (c *container) command(script string) *exec.Cmd {
	return exec.Command("env", "-i", "nsenter", "-t", c.init, "-a", "su", "alice", "-c",
		"export HOME=/home/alice XDG_RUNTIME_DIR=/run/user/1000 PATH=/usr/bin:/bin; cd; "+script)
}

// root is a shell command of root's, in the container.
func (c *container) root(script string) string {
	c.t.Helper()
	r := finish(c.t,
		exec.Command("env", "-i", "nsenter", "-t", c.init, "-a", "sh", "-c", "export PATH=/usr/bin:/bin:/usr/sbin:/sbin; "+script))
	if r.exit != 0 {
		c.t.Fatalf("%s: exit %d\n%s%s", script, r.exit, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

func (c *container) try(script string) result {
	c.t.Helper()
	return finish(c.t, c.command(script))
}

func (c *container) must(script string) string {
	c.t.Helper()
	r := c.try(script)
	if r.exit != 0 {
		c.t.Fatalf("%s: exit %d\n%s%s%s", script, r.exit, r.stdout, r.stderr, c.try("journalctl --user --no-pager -n 50").stdout)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// write writes a file of alice's, 0600.
func (c *container) write(name, content string) {
	c.t.Helper()
	cmd := c.command(fmt.Sprintf(`umask 077; mkdir -p "$(dirname %[1]s)"; cat >%[1]s`, name))
	cmd.Stdin = strings.NewReader(content)
	finish(c.t, cmd).must(c.t)
}

// newAlice boots a container with the units on and a sign-in in it.
func newAlice(t *testing.T) (*container, *oauthtest.Server) {
	t.Helper()
	c := boot(t)
	provider := oauthtest.New(t, oauthtest.Options{})
	c.write(".config/ccagent/config.toml", claudeProfile("claude", "/home/alice/.claude", provider))
	c.write(".claude/.credentials.json", string(provider.Issue().CredentialsFile()))
	c.must("systemctl --user daemon-reload; systemctl --user enable --now ccagent.socket 2>&1")
	return c, provider
}

func (c *container) stored() stored {
	c.t.Helper()
	copied := filepath.Join(c.t.TempDir(), "credentials")
	if err := os.WriteFile(copied, []byte(c.must("cat .claude/.credentials.json")), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return readStored(c.t, copied)
}

// afresh forces a renewal that the provider is asked for: within 2 s of one, another is answered by it.
const afresh = "sleep 2.1; ccagent refresh; true"

func TestUserManager(t *testing.T) {
	c, provider := newAlice(t)

	t.Run("touching the socket starts the agent", func(t *testing.T) {
		if got := c.try("systemctl --user is-active ccagent.service").stdout; got != "inactive\n" {
			t.Fatalf("the service is %q before anyone asked", got)
		}
		if token := c.must("cchelper --no-start"); token != c.stored().AccessToken {
			t.Errorf("printed %q", token)
		}
		if got := c.must("systemctl --user is-active ccagent.service"); got != "active" {
			t.Errorf("the service is %q after it", got)
		}
		pid := c.must("systemctl --user show -P MainPID ccagent.service")
		if got := c.must("ccagent status --json"); !strings.Contains(strings.ReplaceAll(got, " ", ""), `"pid":`+pid+",") {
			t.Errorf("another agent than %s answers: %s", pid, got)
		}
		if got := c.must("systemctl --user show -P StatusText ccagent.service"); !strings.Contains(got,
			"/run/user/1000/ccagent/agent.sock") {
			t.Errorf("STATUS is %q", got)
		}
	})

	t.Run("owners and modes", func(t *testing.T) {
		c.must("ccagent refresh")
		want := `/run/user/1000/ccagent alice 700 directory
/run/user/1000/ccagent/agent.sock alice 600 socket
/run/user/1000/ccagent/agent.sock.lock alice 600 regular file
/home/alice/.claude/.credentials.json alice 600 regular file`
		got := c.must(
			"stat -c '%n %U %a %F' $XDG_RUNTIME_DIR/ccagent $XDG_RUNTIME_DIR/ccagent/agent.sock " +
				"$XDG_RUNTIME_DIR/ccagent/agent.sock.lock ~/.claude/.credentials.json",
		)
		got = strings.ReplaceAll(got, "regular empty file", "regular file")
		if got != want {
			t.Errorf("have\n%s\nwant\n%s", got, want)
		}
	})

	t.Run("reload", func(t *testing.T) {
		pid := c.must("systemctl --user show --value -p MainPID ccagent.service")
		c.must("echo broken >>.config/ccagent/config.toml; systemctl --user reload ccagent.service")
		wait(t, "the agent to have looked", func() bool { return strings.Contains(c.must("ccagent status"), "config.toml") })
		c.must("sed -i '/^broken$/d' .config/ccagent/config.toml; systemctl --user reload ccagent.service")
		if now := c.must("systemctl --user show --value -p MainPID ccagent.service"); now != pid {
			t.Errorf("agent %s runs, it was %s", now, pid)
		}
	})

	t.Run("restart in the middle of a renewal", func(t *testing.T) {
		for range 3 {
			before := c.stored()
			requests := provider.Counts().Requests
			provider.SetFault(oauthtest.Fault{Delay: 200 * time.Millisecond, Lag: 800 * time.Millisecond})
			refresh := c.command(afresh)
			if err := refresh.Start(); err != nil {
				t.Fatal(err)
			}
			wait(t, "the provider to be asked", func() bool { return provider.Counts().Requests > requests })
			provider.SetFault(oauthtest.Fault{})
			c.must("systemctl --user restart ccagent.service")
			refresh.Wait()
			if token := c.must("cchelper"); !provider.Live(token) || token == before.AccessToken {
				t.Errorf("token %s after the restart; before it was %s", token, before.AccessToken)
			}
		}
		c.settled(provider)
	})

	// KillMode=process leaves the worker alone, and it finishes.
	t.Run("kill in the middle of a renewal", func(t *testing.T) {
		for range 3 {
			requests := provider.Counts().Requests
			provider.SetFault(oauthtest.Fault{Lag: 800 * time.Millisecond})
			refresh := c.command(afresh)
			if err := refresh.Start(); err != nil {
				t.Fatal(err)
			}
			wait(t, "the provider to be asked", func() bool { return provider.Counts().Requests > requests })
			provider.SetFault(oauthtest.Fault{})
			c.must("systemctl --user kill --kill-whom=main --signal=KILL ccagent.service")
			refresh.Wait()
			if token := c.must("cchelper"); !provider.Live(token) {
				t.Errorf("token %s is not live", token)
			}
			c.must("systemctl --user reset-failed") // kills in a row are no reason to give up
		}
		c.settled(provider)
	})

	t.Run("stop", func(t *testing.T) {
		c.must("systemctl --user stop ccagent.service")
		if token := c.must("cchelper --no-start"); !provider.Live(token) {
			t.Errorf("token %s is not live", token)
		}
		c.must("systemctl --user stop ccagent.socket ccagent.service")
		c.try("cchelper --no-start").fails(t, 5, "no agent")
	})
	if log := c.try("journalctl --user --no-pager").stdout; strings.Contains(log, "fake-") {
		t.Errorf("a token is in the journal:\n%s", log)
	}
}

// settled checks that the sign-in is good once the workers are done.
func (c *container) settled(provider *oauthtest.Server) {
	c.t.Helper()
	wait(c.t, "the workers to save", func() bool { return provider.Renewable(c.stored().RefreshToken) })
	if n := provider.Counts(); n.Reuses != 0 || n.Refreshes != n.Requests {
		c.t.Errorf("%+v at the provider: some were refused", n)
	}
}

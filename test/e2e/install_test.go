//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// TestInstall is alice's way with `ccagent install`, for a program in her home, on a machine without a package of ours.
func TestInstall(t *testing.T) {
	c := bootBare(t, "--bind-ro="+program("ccagent")+":/media/ccagent", "--bind-ro="+program("cchelper")+":/media/cchelper")
	provider := oauthtest.New(t, oauthtest.Options{})
	c.write(".config/ccagent/config.toml", claudeProfile("claude", "/home/alice/.claude", provider))
	c.write(".claude/.credentials.json", string(provider.Issue().CredentialsFile()))
	c.must("mkdir -p bin && cp /media/ccagent /media/cchelper bin/")
	const cc = "bin/ccagent "
	mainPID := func() string { return c.must("systemctl --user show -P MainPID ccagent.service") }

	t.Run("takes the socket over from an agent that a helper started", func(t *testing.T) {
		c.must("bin/cchelper")
		before := c.must("pgrep -x ccagent")
		out := c.must(cc + "install 2>&1")
		for _, want := range []string{"wrote /home/alice/.config/systemd/user/ccagent.socket",
			"wrote /home/alice/.config/systemd/user/ccagent.service", "to undo this: ccagent uninstall"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in %s", want, out)
			}
		}
		if now := c.must("pgrep -x ccagent"); now == before || now != mainPID() {
			t.Errorf("agent %s runs, it was %s before, and systemd has %s", now, before, mainPID())
		}
		if token := c.must("bin/cchelper --no-start"); !provider.Live(token) {
			t.Errorf("token %q", token)
		}
		c.must("systemd-analyze --user verify .config/systemd/user/ccagent.socket .config/systemd/user/ccagent.service")
	})

	t.Run("again", func(t *testing.T) {
		if out := c.must(cc + "install"); !strings.Contains(out, "the files are already as they should be") ||
			strings.Contains(out, "to undo this") {
			t.Errorf("it said %s", out)
		}
	})

	t.Run("an upgrade fails no request", func(t *testing.T) {
		before := mainPID()
		loop := c.command("n=0; while [ ! -e stop ]; do bin/cchelper --no-start >/dev/null || exit 1; n=$((n+1)); done; echo $n")
		var asked strings.Builder
		loop.Stdout = &asked
		if err := loop.Start(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			c.must("cp /media/ccagent bin/new && mv bin/new bin/ccagent && " + cc + "install")
		}
		c.must("touch stop")
		if err := loop.Wait(); err != nil || len(asked.String()) < 3 {
			t.Errorf("%v after %q requests", err, asked.String())
		}
		if mainPID() == before {
			t.Error("the old agent still runs")
		}
	})

	t.Run("somebody else's unit is shown and left alone", func(t *testing.T) {
		c.must("echo '# mine' >>.config/systemd/user/ccagent.service")
		r := c.try(cc + "install")
		if r.exit != 2 || !strings.Contains(r.stderr, "-# mine") ||
			!strings.Contains(r.stderr, "hint: replace it with: ccagent install --force") {
			t.Errorf("exit %d\n%s", r.exit, r.stderr)
		}
		c.must("grep mine .config/systemd/user/ccagent.service")
		c.must(cc + "install --force")
		if r := c.try("grep mine .config/systemd/user/ccagent.service"); r.exit == 0 {
			t.Error("it is still there")
		}
		c.must(cc + "uninstall; systemctl --user mask ccagent.socket 2>&1")
		c.try(cc+"install").fails(t, 2, "ccagent.socket is masked")
		c.must(cc + "install --force && test -c /dev/null && test -f .config/systemd/user/ccagent.socket")
	})

	t.Run("from a program with an awkward path", func(t *testing.T) {
		const awkward = `"50% of \$HOME; bin"`
		c.must("mkdir " + awkward + " && cp /media/ccagent /media/cchelper " + awkward + "/ && " + awkward + "/ccagent install")
		if exe := c.root("readlink /proc/" + mainPID() + "/exe"); exe != "/home/alice/50% of $HOME; bin/ccagent" {
			t.Errorf("the agent is %s", exe)
		}
		// What it is started from is gone: helpers start one without systemd, and doctor and install mend it.
		c.must("rm -r " + awkward + "; " + cc + "stop")
		if token := c.must("bin/cchelper"); !provider.Live(token) {
			t.Errorf("token %q", token)
		}
		if out := c.try(cc + "doctor").stdout; !strings.Contains(out,
			"the unit names a program that does not exist: /home/alice/50% of $HOME; bin/ccagent\n      mend it: ccagent install") {
			t.Errorf("doctor says %s", out)
		}
		c.must(cc + "install")
	})

	t.Run("from a shell of another environment", func(t *testing.T) {
		c.try("CCAGENT_SOCK=/tmp/x/agent.sock "+cc+"install").
			fails(t, 2, "systemd would listen at /run/user/1000/ccagent/agent.sock, and programs that you start from here ask at "+
				"/tmp/x/agent.sock")
		c.try("unset XDG_RUNTIME_DIR; TMPDIR=/tmp "+cc+"install").fails(t, 2, "/tmp/ccagent-1000/agent.sock")
		c.must(cc + "uninstall")
		if out := c.must("XDG_CONFIG_HOME=/home/alice/cfg " + cc + "install 2>&1"); !strings.Contains(out,
			"wrote /home/alice/.config/systemd/user/ccagent.socket") ||
			!strings.Contains(out, "XDG_CONFIG_HOME is set here, but not for programs that systemd starts") {
			t.Errorf("it said %s", out)
		}
		c.must("mkdir tools; cp /bin/echo tools/company-login; " + cc + "add gw --provider command -- company-login fake-gw-1")
		if out := c.must("PATH=/home/alice/tools:$PATH " + cc + "install 2>&1"); !strings.Contains(out,
			"write its absolute path in config.toml: /home/alice/tools/company-login") {
			t.Errorf("it said %s", out)
		}
		c.must(cc + "remove gw --yes")
	})

	t.Run("memory is asked about", func(t *testing.T) {
		c.must("echo fake-key-1 | " + cc + "add robot --provider static --store memory; bin/cchelper -p robot")
		for _, command := range []string{"install", "uninstall"} {
			c.try("setsid "+cc+command+" </dev/null").fails(t, 2, "the agent alone holds the record of robot; end the agent nevertheless?")
		}
		c.must(cc + "lock")
		c.try("setsid "+cc+"install </dev/null").fails(t, 2, "the agent is locked; end the agent nevertheless?")
		c.must(cc + "unlock")
		if token := c.must("bin/cchelper -p robot"); token != "fake-key-1" {
			t.Errorf("token %q", token)
		}
		c.must(cc + "install --yes; " + cc + "remove robot --yes")
	})

	t.Run("at login, and after the last logout", func(t *testing.T) {
		c.must(cc + "install --at-login")
		c.root("loginctl disable-linger alice; loginctl terminate-user alice; true")
		running := func() string { return c.root("systemctl is-active user@1000.service || true") }
		wait(t, "alice's manager to end", func() bool { return running() == "inactive" })
		if left := c.root("pgrep -u alice || true"); left != "" {
			t.Errorf("processes of alice's are left: %s", left)
		}
		// A login, as su makes one.
		token := c.root("su -l alice -c 'sleep 1; systemctl --user is-active ccagent.service; bin/cchelper --no-start'")
		if !strings.HasPrefix(token, "active\n") ||
			!provider.Live(strings.TrimPrefix(token, "active\n")) {
			t.Errorf("after the login: %q", token)
		}
		c.root("loginctl enable-linger alice")
		wait(t, "alice's manager", func() bool { return running() == "active" })
		wait(t, "the agent", func() bool { return c.try("systemctl --user is-active ccagent.service").stdout == "active\n" })
	})

	t.Run("uninstall", func(t *testing.T) {
		out := c.must(cc + "uninstall")
		if strings.Count(out, "removed /home/alice/.config/systemd/user/ccagent.") != 2 {
			t.Errorf("it said %s", out)
		}
		c.try("bin/cchelper --no-start").fails(t, 5, "no agent")
		if left := c.must("find .config/systemd -name '*ccagent*'"); left != "" {
			t.Errorf("left behind: %s", left)
		}
		if out := c.must(cc + "uninstall"); out != "ccagent is not installed" {
			t.Errorf("a second time: %s", out)
		}
		const theirs = "/home/alice/.config/systemd/user/ccagent.socket"
		c.must(
			"printf '[Socket]\nListenStream=%t/theirs.sock\n' >" + theirs +
				"; systemctl --user daemon-reload; systemctl --user start ccagent.socket || true",
		)
		if out := c.must(cc + "uninstall"); out != "ccagent is not installed; "+theirs+" was written by something else, and stays" {
			t.Errorf("with somebody else's unit: %s", out)
		}
		c.must("test -s " + theirs)
		if out := c.must(cc + "guard claude-code --store file 2>&1"); !strings.Contains(out, theirs+" is not ours") {
			t.Errorf("guard says of somebody else's unit: %s", out)
		}
		c.must(
			cc + "guard claude-code --undo; " + cc + "stop; systemctl --user stop ccagent.socket; rm " + theirs +
				"; systemctl --user daemon-reload",
		)
	})

	t.Run("guard needs it, and installs it", func(t *testing.T) {
		if out := c.must("export CCAGENT_SOCK=$HOME/s/agent.sock; mkdir -m 700 s; setsid " + cc +
			"serve </dev/null >/dev/null 2>&1 & until " + cc + "status >/dev/null 2>&1; do sleep 0.1; done; " + cc +
			"guard claude-code --store file 2>&1; " + cc + "stop"); !strings.Contains(
			out,
			"systemd would listen at /run/user/1000/ccagent/agent.sock, "+
				"and programs that you start from here ask at /home/alice/s/agent.sock",
		) {
			t.Errorf("it said %s", out)
		}
		c.must(cc + "guard claude-code 2>&1")
		got := c.must("systemctl --user is-enabled ccagent.socket ccagent.service; systemctl --user is-active ccagent.service")
		if got != "enabled\nenabled\nactive" {
			t.Errorf("the units are %q", got)
		}
		if token := c.must("bin/cchelper --no-start"); !provider.Live(token) || c.stored().RefreshToken != "" {
			t.Errorf("token %q, and the view is %+v", token, c.stored())
		}
		c.must(cc + "guard claude-code --undo; " + cc + "uninstall")
	})
}

// TestInstallWithoutManager says what to do where there is no user manager.
func TestInstallWithoutManager(t *testing.T) {
	h := newHome(t)
	r := h.ccagent("install")
	r.fails(t, 2, "there is no service manager of yours")
	if !strings.Contains(r.stderr, `hint: eval "$(ccagent env)"`) {
		t.Errorf("no line for the shell's profile: %s", r.stderr)
	}
	h.ccagent("uninstall").must(t)
}

// TestReboot cuts the power of a machine with a guarded sign-in. Its home is on a disk of its own, which is all that stays.
func TestReboot(t *testing.T) {
	disk := t.TempDir()
	if err := os.Chown(disk, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	provider := oauthtest.New(t, oauthtest.Options{})
	var last string
	for n := range 2 {
		c := boot(t, "--bind="+disk+":/home/alice")
		if n == 0 {
			c.write(".config/ccagent/config.toml",
				fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = %q\n", provider.TokenURL()))
			c.write(".claude/.credentials.json", string(provider.Issue().CredentialsFile()))
			c.root("loginctl disable-linger alice")
			out := c.must("ccagent guard claude-code --store file 2>&1")
			if !strings.Contains(out, "from now on the agent starts at login") || !strings.Contains(out, "loginctl enable-linger") {
				t.Errorf("guard said %s", out)
			}
			c.root("loginctl enable-linger alice")
			if out = c.must("ccagent guard claude-code 2>&1"); strings.Contains(out, "warning") ||
				strings.Contains(out, "from now on") {
				t.Errorf("guard said %s", out)
			}
		}
		wait(
			t,
			"the agent to run from login on",
			func() bool { return c.try("systemctl --user is-active ccagent.service").stdout == "active\n" },
		)
		c.must("sleep 2.1; ccagent refresh") // within 2 s of a renewal, another is answered by it
		token := c.must("cchelper --no-start")
		if !provider.Live(token) || token == last {
			t.Errorf("boot %d: token %s, the last one was %s", n, token, last)
		}
		last = token
		wait(t, "the view to show it", func() bool {
			s := c.stored()
			return s.AccessToken == token && s.RefreshToken == ""
		})
		c.off()
	}
	if n := provider.Counts(); n.Reuses != 0 || n.Refreshes != 2 {
		t.Errorf("%+v", n)
	}
}

// TestReadmeInstall runs README's section on installation line by line, as alice on a machine that has Go and make.
func TestReadmeInstall(t *testing.T) {
	tree, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Install\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var lines []string
	fenced := false
	for line := range strings.Lines(section) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if !ok || len(lines) < 4 {
		t.Fatalf("README's section on installation has %d lines to run", len(lines))
	}
	c := bootBare(t, "--bind-ro="+tree+":/media/checkout", "--bind-ro="+goEnv(t, "GOROOT")+":/usr/local/go",
		"--bind-ro="+goEnv(t, "GOMODCACHE")+":/media/modules", "--bind-ro="+goEnv(t, "GOCACHE")+":/media/built")
	// What was compiled here already need not be again: alice has a view of our build cache that takes what she adds.
	c.root("mkdir -p /run/cache/upper /run/cache/work /media/cache && mount -t overlay overlay " +
		"-o lowerdir=/media/built,upperdir=/run/cache/upper,workdir=/run/cache/work /media/cache && " +
		"chmod a+rwx /media/cache /media/cache/??")
	script := "set -eu\nexport PATH=$PATH:/usr/local/go/bin GOMODCACHE=/media/modules GOCACHE=/media/cache GOPROXY=off " +
		"GOFLAGS=-buildvcs=false GOTOOLCHAIN=local\n" +
		"mkdir checkout; cd /media/checkout; tar -cf - --exclude=./.git --exclude=./bin --exclude=./dist . | " +
		"tar -C ~/checkout -xf -; cd ~/checkout\n"
	for _, line := range lines {
		script += "echo '# " + strings.ReplaceAll(line, "'", `'\''`) + "'\n" + line + "\n"
	}
	c.write("install.sh", script)
	begun := time.Now()
	out := c.must("sh install.sh 2>&1")
	t.Logf("%d lines in %v:\n%s", len(lines), time.Since(begun).Round(time.Second), out)
	got := c.must("systemctl --user is-enabled ccagent.socket ccagent.service; systemctl --user is-active ccagent.socket")
	if got != "enabled\nenabled\nactive" {
		t.Errorf("the units are %q", got)
	}
	exe := c.root("readlink /proc/" + c.must("systemctl --user show -P MainPID ccagent.service") + "/exe")
	if exe != "/home/alice/.local/bin/ccagent" {
		t.Errorf("the agent is %s", exe)
	}
}

// TestUpgradeWithoutManager replaces the programs and ends the agent under a client that asks on and on: whoever finds no agent
// starts the next one, and nobody is refused.
func TestUpgradeWithoutManager(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.token()
	stop := make(chan struct{})
	var asked atomic.Int32
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if r := h.helper(); r.exit != 0 || !provider.Live(strings.TrimSpace(r.stdout)) {
				t.Errorf("request %d: exit %d\n%s", asked.Load(), r.exit, r.stderr)
			}
			asked.Add(1)
		}
	})
	client := protocol.NewClient(h.socket())
	defer client.Close()
	before := 0
	for stops := 0; stops < 6 || asked.Load() < 20; stops++ {
		wait(t, "the next agent to answer", func() bool { // one that is just starting is not there to be stopped
			s, err := client.Status(t.Context(), protocol.StatusRequest{})
			if err != nil || s.Agent.PID == before {
				return false
			}
			before = s.Agent.PID
			return true
		})
		h.ccagent("stop").must(t)
	}
	close(stop)
	group.Wait()
}

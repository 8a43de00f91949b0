//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// dist is the one file of `make dist` that matches, by its absolute path.
func dist(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob("../../dist/out/" + pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%d files %s in dist/out (%v): make dist makes one", len(found), pattern, err)
	}
	path, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDeb has an administrator install, upgrade, remove and purge the package in a clean Debian, and alice use it.
func TestDeb(t *testing.T) {
	deb := dist(t, "ccagent_*_amd64.deb")
	next := filepath.Join(t.TempDir(), "next.deb")
	if out, err := exec.Command("sh", "-c",
		`dpkg-deb -R "$1" "$2.d" && sed -i 's/^Version: .*/Version: 99-1/' "$2.d/DEBIAN/control" && dpkg-deb -b "$2.d" "$2"`, "sh", deb,
		next).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := bootBare(t, "--bind-ro="+deb+":/media/ccagent.deb", "--bind-ro="+next+":/media/next.deb")
	provider := oauthtest.New(t, oauthtest.Options{})
	c.write(".config/ccagent/config.toml", claudeProfile("claude", "/home/alice/.claude", provider))
	c.write(".claude/.credentials.json", string(provider.Issue().CredentialsFile()))
	before := c.root("find /etc /usr /var/lib/systemd -newer /media 2>/dev/null | wc -l; dpkg -l | wc -l")

	c.root("apt-get install -y -qq /media/ccagent.deb 2>&1")
	if bad := c.root("dpkg --verify ccagent; dpkg --audit; dpkg -L ccagent | while read f; do [ -e $f ] || [ -L $f ] || echo " +
		"missing $f; done"); strings.Contains(bad, "ccagent") &&
		!strings.Contains(bad, "share/man") &&
		!strings.Contains(bad, "share/doc") { // a minimal Debian leaves manuals and documents out
		t.Errorf("dpkg finds fault: %s", bad)
	}
	for _, name := range []string{"ccagent", "cchelper", "git-credential-ccagent", "docker-credential-ccagent"} {
		c.must("command -v " + name)
	}
	// Units for a copy in her home would win over the package's.
	if r := c.try("cat /usr/bin/ccagent /usr/bin/cchelper"); r.exit == 0 || r.stdout != "" {
		t.Error("alice may read the programs, and so look into their memory before they close it")
	}
	if out := c.try("ccagent doctor").stdout; !strings.Contains(out,
		"ok    programs: /usr/bin/ccagent belongs to root, and you may only run it") {
		t.Errorf("doctor says %s", out)
	}
	c.must("mkdir bin")
	c.root("install -m 0755 /usr/bin/ccagent /home/alice/bin/") // she can't read the package's
	c.must("bin/ccagent install")
	out := c.must("ccagent install 2>&1")
	if !strings.Contains(out, "the units of the package are used") ||
		strings.Count(out, "removed /home/alice/.config/systemd/user/ccagent.") != 2 {
		t.Errorf("it said %s", out)
	}
	if exe := c.root("readlink /proc/" + c.must("systemctl --user show -P MainPID ccagent.service") +
		"/exe"); exe != "/usr/bin/ccagent" {
		t.Errorf("the agent is %s", exe)
	}
	token := c.must("cchelper --no-start")
	if !provider.Live(token) {
		t.Errorf("token %q", token)
	}
	if left := c.must("find .config/systemd -type f 2>/dev/null"); left != "" {
		t.Errorf("units were written beside the package's: %s", left)
	}

	// An upgrade under a client that asks on and on: the agent that runs goes on, with workers of its own version.
	loop := c.command("n=0; while [ ! -e stop ]; do cchelper --no-start >/dev/null || exit 1; n=$((n+1)); done; echo $n")
	var asked strings.Builder
	loop.Stdout = &asked
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	c.root("dpkg -i /media/ccagent.deb 2>&1 && dpkg -i /media/next.deb 2>&1")
	if version := c.root("dpkg-query -W -f '${Version}' ccagent"); version != "99-1" {
		t.Errorf("version %s is installed", version)
	}
	old := c.must("systemctl --user show --value -p MainPID ccagent.service")
	c.must("sleep 2.1; ccagent refresh && ccagent install && touch stop")
	if now := c.must("systemctl --user show --value -p MainPID ccagent.service"); now == old {
		t.Errorf("agent %s of the old version still runs", now)
	}
	if err := loop.Wait(); err != nil || len(asked.String()) < 3 {
		t.Errorf("%v after %q requests", err, asked.String())
	}

	c.must("ccagent uninstall")
	c.root("dpkg -r ccagent 2>&1; dpkg -P ccagent 2>&1")
	if r := c.try("command -v ccagent cchelper"); r.exit == 0 {
		t.Errorf("still there: %s", r.stdout)
	}
	if left := c.root("find /usr /etc /lib /var/lib -name '*ccagent*' -o -name '*cchelper*' | grep -v " +
		"'/var/lib/dpkg/info.*list-new' || true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
	c.must("test -s .claude/.credentials.json && test -s .config/ccagent/config.toml")
	if after := c.root("dpkg -l | wc -l"); !strings.HasSuffix(before, after) {
		t.Errorf("packages before %q, after %q", before, after)
	}
}

// TestRPM installs the package into a root with rpm itself, and takes it out again.
func TestRPM(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	rpm := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(need(t, "rpm"), append([]string{"--root", root, "--dbpath", "/db"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	rpm("--initdb")
	rpm("--install", "--nodeps", dist(t, "ccagent-*.x86_64.rpm"))
	for path, mode := range map[string]os.FileMode{
		"usr/bin/ccagent": 0o711, "usr/bin/cchelper": 0o711, "usr/lib/systemd/user/ccagent.service": 0o644,
		"usr/share/man/man5/ccagent.toml.5.gz":          0o644,
		"usr/share/bash-completion/completions/ccagent": 0o644, "usr/share/zsh/site-functions/_ccagent": 0o644,
	} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	rpm("--verify", "--nodeps", "ccagent")
	if host := rpm("--query", "--queryformat", "%{BUILDHOST}", "ccagent"); host != "localhost" {
		t.Errorf("the package names the machine that built it: %s", host)
	}
	if out, err := exec.Command(filepath.Join(root, "usr/bin/ccagent"), "version").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	rpm("--erase", "ccagent")
	if left, _ := exec.Command("find", root+"/usr", "-name", "*ccagent*").Output(); len(left) != 0 {
		t.Errorf("left behind: %s", left)
	}
}

// TestManualPages has groff and man read the pages without a warning.
func TestManualPages(t *testing.T) {
	archive := dist(t, "ccagent-*-linux-amd64.tar.gz")
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", archive, "-C", dir, "--strip-components=1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages, _ := filepath.Glob(dir + "/man/*.gz")
	if len(pages) != 4 {
		t.Fatalf("%d pages: %q", len(pages), pages)
	}
	for _, page := range pages {
		for _, argv := range [][]string{{"sh", "-c", `zcat "$1" | groff -k -t -man -ww -z -Tutf8`, "sh", page},
			{"man", "--warnings", "-l", page}} {
			cmd := exec.Command(need(t, argv[0]), argv[1:]...)
			cmd.Env = append(os.Environ(), "MANPAGER=cat", "MANWIDTH=80", "LC_ALL=C.UTF-8")
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Run(); err != nil || said.Len() > 0 {
				t.Errorf("%s: %v\n%s", filepath.Base(page), err, said.String())
			}
		}
	}
	// cchelper(1) is read from a table for eyes: nothing of it is lost, and nothing is wider than a terminal but the examples.
	cmd := exec.Command("man", "-l", dir+"/man/cchelper.1.gz")
	cmd.Env = append(os.Environ(), "MANPAGER=cat", "MANWIDTH=80", "LC_ALL=C.UTF-8")
	text, err := cmd.Output()
	page, _, _ := strings.Cut(string(text), "\nEXAMPLES\n")
	help, _ := exec.Command(filepath.Join(dir, "cchelper"), "--help").Output()
	options, _, _ := strings.Cut(string(help), "\nexample")
	for word := range strings.FieldsSeq(options) {
		if strings.HasPrefix(word, "--") && !strings.Contains(page, strings.TrimSuffix(word, ",")) {
			t.Errorf("cchelper(1) has no %s", word)
		}
	}
	for line := range strings.Lines(page) {
		if len([]rune(line)) > 81 {
			t.Errorf("cchelper(1) is too wide: %s", line)
		}
	}
	if len(options) == 0 || err != nil || !strings.Contains(page, "\nOPTIONS\n") ||
		!strings.Contains(page, "\nFORMATS\n       token  the token and a newline\n") {
		t.Errorf("%v\n%s", err, page)
	}
	for _, program := range []string{"ccagent", "cchelper"} {
		if !exists(filepath.Join(dir, program)) {
			t.Errorf("no %s in the archive", program)
		}
	}
}

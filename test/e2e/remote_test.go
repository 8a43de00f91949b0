//go:build e2e

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// sshd is a real one on this machine, which lets the user in by a key of the home's. Its ssh configuration has host "remote".
func sshd(t *testing.T, h *home, user string, settings ...string) (config string) {
	t.Helper()
	dir, err := os.MkdirTemp(h.root, "ssh")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.root, 0o711); err != nil { // sshd reads the key as the user
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	for _, key := range []string{"host", "alice"} {
		run(need(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", dir+"/"+key)
	}
	public, err := os.ReadFile(dir + "/alice.pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/authorized", public, 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	mkdir(t, "/run/sshd", 0o755) // its own, for privilege separation
	server := fmt.Sprintf(
		"Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nPidFile none\nUsePAM no\nStrictModes "+
			"no\nSetEnv PATH=%s:/usr/bin:/bin\n",
		port,
		dir,
		dir,
		binDir,
	)
	server += strings.Join(settings, "\n") + "\n"
	if err := os.WriteFile(dir+"/sshd_config", []byte(server), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(need(t, "/usr/sbin/sshd"), "-D", "-e", "-f", dir+"/sshd_config")
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.String())
		}
	})
	wait(t, "sshd", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	config = dir + "/config"
	client := fmt.Sprintf(
		"Host remote\nHostName 127.0.0.1\nPort %d\nUser %s\nIdentityFile %s/alice\nUserKnownHostsFile %s/known\n"+
			"StrictHostKeyChecking accept-new\nBatchMode yes\nLogLevel ERROR\n",
		port,
		user,
		dir,
		dir,
	)
	if err := os.WriteFile(config, []byte(client), 0o644); err != nil {
		t.Fatal(err)
	}
	return config
}

// newExporter is a home with a sign-in in profile claude and a key in profile secret.
func newExporter(t *testing.T) (*home, *oauthtest.Server) {
	t.Helper()
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config(
		claudeProfile("claude", h.path(".claude"),
			provider) + "[profiles.secret]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-secret-1\"]\n",
	)
	h.signIn(provider.Issue())
	return h, provider
}

// TestForward has another user, on "another machine", ask the agent of this one through a real sshd.
func TestForward(t *testing.T) {
	needRoot(t)
	h, provider := newExporter(t)
	config := sshd(t, h, "ccagent-alice")
	over := func(command string) result {
		t.Helper()
		return h.ccagent("forward", "-F", config, "--profiles", "claude", "remote", "sh", "-c", command)
	}
	// pgrep -r: of the processes that live, for the first process of a container may bury nobody.
	r := over(
		"cchelper; cchelper -p secret; echo $?; cchelper -p claude; echo $CCAGENT_SOCK; stat -c '%U %a' $(dirname $CCAGENT_SOCK); " +
			"find $HOME /tmp -user ccagent-alice -type f -newer $(dirname $CCAGENT_SOCK) 2>/dev/null; pgrep -r DRST -u ccagent-alice " +
			"ccagent",
	)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if len(lines) != 5 {
		t.Fatalf("exit %d\n%s%s", r.exit, r.stdout, r.stderr)
	}
	token := h.token()
	if lines[0] != token || lines[1] != "6" || lines[2] != token || lines[4] != "ccagent-alice 700" {
		t.Errorf("over there: %q\n%s", lines, r.stderr)
	}
	if !strings.Contains(r.stderr, "this socket does not give another profile") {
		t.Errorf("stderr %s", r.stderr)
	}
	if exists(filepath.Dir(lines[3])) {
		t.Errorf("%s is left over", filepath.Dir(lines[3]))
	}
	if left, _ := filepath.Glob(h.tmp + "/ccf*"); len(left) != 0 {
		t.Errorf("%v is left over here", left)
	}
	if r := over("exit 7"); r.exit != 7 {
		t.Errorf("exit %d, want the command's 7\n%s", r.exit, r.stderr)
	}
	if r := h.ccagent("forward", "-F", config, "-o", "RemoteCommand=echo", "remote", "printf", "%s|", "a b", "it's \\'", "$HOME",
		"!x").must(t); r.stdout != "a b|it's \\'|$HOME|!x|" {
		t.Errorf("words over there: %q", r.stdout)
	}
	if n := provider.Counts().Requests; n != 0 {
		t.Errorf("%d requests to the provider", n)
	}

	// A server that forbids it.
	forbidding := sshd(t, h, "ccagent-alice", "AllowStreamLocalForwarding no")
	r = h.ccagent("forward", "-F", forbidding, "remote", "true")
	if r.exit != 7 || !strings.Contains(r.stderr, "AllowStreamLocalForwarding") {
		t.Errorf("forbidden: exit %d\n%s", r.exit, r.stderr)
	}
	if left, _ := filepath.Glob("/tmp/ccagent-??????????"); len(left) != 0 {
		t.Errorf("%v is left over there", left)
	}

	// The socket's other end is gone: no agent is started over there, and the person is told.
	bob := newHome(t)
	bob.giveTo(credential(t, "ccagent-alice"))
	mkdir(t, bob.dir+"/fwd", 0o700)
	giveTo(t, bob.dir+"/fwd", "ccagent-alice")
	ssh := exec.Command("ssh", "-F", config, "-N", "-R", bob.dir+"/fwd/agent.sock:"+h.root+"/nobody.sock", "remote")
	if err := ssh.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the forwarded socket", func() bool { return accepts(bob.dir + "/fwd/agent.sock") })
	bob.vars = append(bob.vars, "CCAGENT_SOCK="+bob.dir+"/fwd/agent.sock")
	bob.helper().fails(t, 5, "nobody answers behind")
	ssh.Process.Kill()
	ssh.Wait()
	bob.helper().fails(t, 5, "no agent is listening")
	if agents := bob.agents(); len(agents) != 0 {
		t.Errorf("an agent was started over there: %v", agents)
	}
}

// beginForward opens a session that lives until its standard input ends, and returns its socket over there.
func beginForward(t *testing.T, h *home, config, profiles string) (cmd *exec.Cmd, end func() error, socket string) {
	t.Helper()
	cmd = h.command(program("ccagent"), "forward", "-F", config, "--profiles", profiles, "remote",
		"sh", "-c", "cchelper >/dev/null && echo $CCAGENT_SOCK; cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, in.Close, strings.TrimSpace(line)
}

// TestForwardStablePath: what runs on over there finds the next session, and the other one of two, at the path that it has. Other
// profiles have another path.
func TestForwardStablePath(t *testing.T) {
	needRoot(t)
	h, _ := newExporter(t)
	config := sshd(t, h, "ccagent-alice")
	token := h.token()
	over := func(socket string) result {
		return h.run(need(t, "ssh"), "-F", config, "remote", "CCAGENT_SOCK="+socket+" cchelper")
	}
	works := func(what, socket, want string) {
		t.Helper()
		if r := over(socket); r.stdout != want+"\n" {
			t.Errorf("%s: exit %d %q\n%s", what, r.exit, r.stdout, r.stderr)
		}
	}
	one, endOne, first := beginForward(t, h, config, "claude")
	works("one session", first, token)
	two, endTwo, second := beginForward(t, h, config, "claude")
	other, endOther, third := beginForward(t, h, config, "secret")
	if first != second || first == third {
		t.Fatalf("the paths are %s, %s, and %s of another profile", first, second, third)
	}
	works("two sessions", first, token)
	works("the other profile's", third, "fake-secret-1")
	endTwo()
	if err := two.Wait(); err != nil {
		t.Error(err)
	}
	works("the newer one has ended", first, token)
	endOne()
	if err := one.Wait(); err != nil {
		t.Error(err)
	}
	if exists(first) || !exists(third) {
		t.Errorf("%s is left over there: %v; %s: %v", first, exists(first), third, exists(third))
	}
	again, endAgain, path := beginForward(t, h, config, "claude")
	if path != first {
		t.Errorf("the next session has %s", path)
	}
	works("the next session", first, token)
	endAgain()
	endOther()
	if err := errors.Join(again.Wait(), other.Wait()); err != nil {
		t.Error(err)
	}
	if exists(filepath.Dir(first)) {
		t.Errorf("%s is left over there", filepath.Dir(first))
	}

	// Another user has made the folder.
	folder := filepath.Dir(first)
	mkdir(t, folder, 0o777)
	t.Cleanup(func() { os.RemoveAll(folder) })
	cmd, end, path := beginForward(t, h, config, "claude")
	if filepath.Dir(path) == folder {
		t.Errorf("the socket is in a folder of somebody else: %s", path)
	}
	works("somebody else has the folder", path, token)
	end()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/tmp/ccagent-??????????"); len(left) != 0 {
		t.Errorf("%v is left over there", left)
	}
}

// TestForwardEnds ends a session from this side in two ways. What it leaves over there gives nothing, and none of it stays.
func TestForwardEnds(t *testing.T) {
	needRoot(t)
	h, _ := newExporter(t)
	config := sshd(t, h, "ccagent-alice")
	ssh := need(t, "ssh")
	begin := func() (*exec.Cmd, func() error, string) { return beginForward(t, h, config, "claude") }
	masters := func() []string {
		left, _ := filepath.Glob(h.tmp + "/ccf*/c")
		return left
	}

	cmd, end, socket := begin()
	cmd.Process.Signal(syscall.SIGHUP)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 143 {
		t.Errorf("hung up: %v", err)
	}
	end()
	if left, _ := filepath.Glob(h.tmp + "/ccf*"); exists(filepath.Dir(socket)) || len(left) != 0 {
		t.Errorf("hung up: %s is left over there, or %v here", socket, left)
	}

	cmd, end, socket = begin()
	cmd.Process.Kill()
	cmd.Wait()
	if r := h.run(ssh, "-F", config, "remote", "CCAGENT_SOCK="+socket+" cchelper"); r.exit != 5 || r.stdout != "" {
		t.Errorf("killed: over there exit %d %q\n%s", r.exit, r.stdout, r.stderr)
	}
	if len(masters()) != 1 {
		t.Fatalf("connections %v", masters())
	}
	end()
	wait(t, "the connection to end", func() bool { return len(masters()) == 0 })
	if exists(filepath.Dir(socket)) {
		t.Errorf("killed: %s is left over there", socket)
	}
}

// TestForwardWholeSocket is docs/remote.md's way by hand: the agent's own socket, forwarded by the real ssh. Over there is a
// token, and nothing of it on the disk; that programs there ask one after the other is no sign that one was refused.
func TestForwardWholeSocket(t *testing.T) {
	needRoot(t)
	h, provider := newExporter(t)
	config := sshd(t, h, "ccagent-alice")
	token := h.token() // starts the agent
	there := t.TempDir()
	for _, dir := range []string{filepath.Dir(there), there} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(t, there+"/fwd", 0o700)
	giveTo(t, there+"/fwd", "ccagent-alice")
	forward := func() (end func()) {
		t.Helper()
		h.run(need(t, "ssh"), "-F", config, "remote", "rm -f "+there+"/fwd/agent.sock").must(t)
		ssh := h.command("ssh", "-F", config, "-N", "-o", "ExitOnForwardFailure=yes",
			"-R", there+"/fwd/agent.sock:"+h.socket(), "remote")
		if err := ssh.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the forwarded socket", func() bool { return accepts(there + "/fwd/agent.sock") })
		return func() { ssh.Process.Kill(); ssh.Wait() }
	}
	forward()()
	wait(t, "the first session to end", func() bool { return !accepts(there + "/fwd/agent.sock") })
	if !exists(there + "/fwd/agent.sock") {
		t.Error("sshd has removed the socket: docs/remote.md need not say how to")
	}
	defer forward()()
	over := func(command string) result {
		t.Helper()
		return h.run("ssh", "-F", config, "remote", "CCAGENT_SOCK="+there+"/fwd/agent.sock; export CCAGENT_SOCK; "+command)
	}
	r := over(
		"for i in 1 2 3; do env cchelper --on-reask=renew; done; ccagent status >/dev/null && echo told; find $HOME /tmp /var/tmp " +
			"/run -user ccagent-alice -type f -exec grep -ls " + token + " {} + 2>/dev/null; pgrep -r DRST -u ccagent-alice ccagent",
	)
	if r.stdout != strings.Repeat(token+"\n", 3)+"told\n" {
		t.Errorf("over there: %q\n%s", r.stdout, r.stderr)
	}
	if n := provider.Counts().Requests; n != 0 {
		t.Errorf("%d requests to the provider", n)
	}
}

// accepts reports whether somebody takes connections at a socket, which is a moment after its file is there.
func accepts(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func giveTo(t *testing.T, path, name string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// exporting runs `ccagent serve --export` in the home.
func exporting(t *testing.T, h *home, socket string, args ...string) {
	t.Helper()
	h.serveOn(socket, h.command(program("ccagent"), append([]string{"serve", "--export", socket}, args...)...))
}

// TestRemoteDocs runs what docs/remote.md shows of containers and other users, as it is written there.
func TestRemoteDocs(t *testing.T) {
	needRoot(t)
	need(t, "bwrap")
	text, err := os.ReadFile("../../docs/remote.md")
	if err != nil {
		t.Fatal(err)
	}
	// shown are the commands of a section that begin so, with what their further lines hold.
	shown := func(section, begin string) string {
		t.Helper()
		_, rest, _ := strings.Cut(string(text), "\n## "+section+"\n")
		rest, _, _ = strings.Cut(rest, "\n## ")
		_, command, ok := strings.Cut(rest, "\n    "+begin)
		if !ok {
			t.Fatalf("%q shows no %q", section, begin)
		}
		end := 0
		for end < len(command) && (command[end] != '\n' || strings.HasSuffix(command[:end], "\\")) {
			end++
		}
		return begin + command[:end]
	}
	h := newHome(t)
	h.config("[profiles.gateway]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-gateway-1\"]\n")
	serve := func(section string) {
		t.Helper()
		h.run("sh", "-c", shown(section, "mkdir ")).must(t)
		h.serveOn(h.path("box/agent.sock"), h.command("sh", "-c", "exec "+shown(section, "ccagent serve ")))
	}

	own := "A container of your own user"
	serve(own)
	inside := shown(own, "bwrap ")
	if r := h.run("sh", "-c", inside); r.stdout != "fake-gateway-1\n" {
		t.Errorf("inside: exit %d %q\n%s", r.exit, r.stdout, r.stderr)
	}
	if r := h.run("sh", "-c", strings.TrimSuffix(inside, "cchelper")+"cat "+h.path(".config/ccagent/config.toml")); r.exit == 0 {
		t.Errorf("the home is inside: %s", r.stdout)
	}
	h.run("rm", "-r", h.path("box")).must(t)

	alice := credential(t, "ccagent-alice")
	for _, dir := range []string{h.root, h.dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	text = []byte(
		strings.NewReplacer("1001", strconv.Itoa(int(alice.Uid)), "=1000", "=0", "/home/alice", h.dir).Replace(string(text)),
	)
	other := "A container, or a program, of another user"
	serve(other)
	cmd := exec.Command("sh", "-c", shown(other, "CCAGENT_SOCK_UID="))
	cmd.Env = []string{"HOME=/", "PATH=" + binDir + ":/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: alice}
	if r := finish(t, cmd); r.stdout != "fake-gateway-1\n" {
		t.Errorf("another user: exit %d %q\n%s", r.exit, r.stdout, r.stderr)
	}
}

// TestExportToContainer has no more than a container like docs/remote.md's: no home, no runtime directory, the socket alone.
func TestExportToContainer(t *testing.T) {
	needRoot(t)
	h, _ := newExporter(t)
	box := h.path("box")
	mkdir(t, box, 0o700)
	exporting(t, h, box+"/agent.sock", "--profiles", "claude")
	inside := func(args ...string) result {
		t.Helper()
		return h.run(
			need(t, "bwrap"),
			append(
				[]string{
					"--ro-bind",
					"/",
					"/",
					"--tmpfs",
					h.root,
					"--tmpfs",
					"/run",
					"--perms",
					"0700",
					"--dir",
					"/run/ccagent",
					"--bind",
					box + "/agent.sock",
					"/run/ccagent/agent.sock",
					"--setenv",
					"CCAGENT_SOCK",
					"/run/ccagent/agent.sock",
					"--chdir",
					"/",
				},
				args...)...)
	}
	token := h.token()
	if r := inside(program("cchelper")); r.stdout != token+"\n" {
		t.Errorf("inside: exit %d %q\n%s", r.exit, r.stdout, r.stderr)
	}
	inside(program("cchelper"), "-p", "secret").fails(t, 6, "does not give another profile")
	inside(program("ccagent"), "refresh").fails(t, 6, "does not give a renewal")
	inside(program("ccagent"), "status").fails(t, 6, "does not give the agent's status")
	inside(program("ccagent"), "stop", "--force").fails(t, 6, "does not give")
	if r := inside("/usr/bin/python3", "-c", "import os; print(os.path.exists('"+h.credentialsFile()+"'))"); r.stdout != "False\n" {
		t.Errorf("the home is inside: %q %s", r.stdout, r.stderr)
	}
}

// TestExportToAnotherUser lets one other user in, by the kernel's word, and nobody else.
func TestExportToAnotherUser(t *testing.T) {
	needRoot(t)
	h, _ := newExporter(t)
	alice, bob := credential(t, "ccagent-alice"), credential(t, "ccagent-bob")
	for _, dir := range []string{h.root, h.dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	box := h.path("box")
	mkdir(t, box, 0o711)
	exporting(t, h, box+"/agent.sock", "--profiles", "claude", "--allow-uid", strconv.Itoa(int(alice.Uid)))
	as := func(who *syscall.Credential, env ...string) result {
		t.Helper()
		cmd := exec.Command(program("cchelper"), "--timeout", "5s")
		cmd.Env = append([]string{"HOME=/", "CCAGENT_SOCK=" + box + "/agent.sock"}, env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		return finish(t, cmd)
	}
	if r := as(alice, "CCAGENT_SOCK_UID=0"); r.stdout != h.token()+"\n" {
		t.Errorf("alice: exit %d %q\n%s", r.exit, r.stdout, r.stderr)
	}
	as(alice).fails(t, 6, "not by you")
	as(alice, "CCAGENT_SOCK_UID=12345").fails(t, 6, "CCAGENT_SOCK_UID is 12345")
	as(alice, "CCAGENT_SOCK_UID=root").fails(t, 2, "is not a user id")
	as(bob, "CCAGENT_SOCK_UID=0").fails(t, 5, "nobody answers behind")

	// By group.
	gid := alice.Gid
	box2 := h.path("box2")
	mkdir(t, box2, 0o711)
	exporting(t, h, box2+"/agent.sock", "--profiles", "claude", "--allow-gid", strconv.Itoa(int(gid)))
	cmd := exec.Command(program("cchelper"))
	cmd.Env = []string{"HOME=/", "CCAGENT_SOCK=" + box2 + "/agent.sock", "CCAGENT_SOCK_UID=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: alice}
	if r := finish(t, cmd); r.stdout != h.token()+"\n" {
		t.Errorf("alice by her group: exit %d\n%s", r.exit, r.stderr)
	}
}

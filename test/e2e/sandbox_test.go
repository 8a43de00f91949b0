//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newKeyed is the home of an ordinary person with a long key, and a gateway's route that it is for.
func newKeyed(t *testing.T) (h *home, api *messagesAPI, key string) {
	t.Helper()
	return newKeyedOf(t, credential(t, "ccagent-alice"))
}

// newKeyedOf is newKeyed for somebody else.
func newKeyedOf(t *testing.T, owner *syscall.Credential) (h *home, api *messagesAPI, key string) {
	t.Helper()
	random := make([]byte, 24)
	rand.Read(random)
	key = "fake-" + hex.EncodeToString(random)
	h = newHome(t)
	api = newMessagesAPI(t, func(token string) bool { return token == key })
	h.config("[profiles.gw]\nprovider = \"static\"\nstore = \"file\"\n" +
		fmt.Sprintf("[gateway.routes.anthropic]\nprofile = \"gw\"\nupstream = %q\n", api.URL) +
		"[sandbox]\nhome = [\"~/.claude\", \"~/.gitconfig\"]\n")
	h.write(".claude/projects/.keep", "")
	h.write(".gitconfig", "[user]\n\tname = fake\n")
	h.write(".ssh/id_ed25519", "fake")
	h.write("proj/file", "")
	h.giveTo(owner)
	add := h.command(program("ccagent"), "add", "gw", "--provider", "static", "--store", "file", "--force")
	add.Stdin = strings.NewReader(key)
	finish(t, add).must(t)
	return h, api, key
}

// boxed is a tool in a sandbox, in a project's folder.
func boxed(h *home, argv ...string) *exec.Cmd {
	cmd := h.command(program("ccagent"), append([]string{"run", "-p", "gw", "--sandbox", "--"}, argv...)...)
	cmd.Dir = h.path("proj")
	return cmd
}

// within returns the processes in sandboxes of a home: those in other namespaces of processes than this one.
func within(t *testing.T, h *home) []process {
	t.Helper()
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(h.processes(), func(p process) bool {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", p.pid))
		return err != nil || theirs == ours
	})
}

// traces looks for 16 bytes of a secret in what a process has: arguments, environment, open files, and memory. It returns where
// some are, and how much it has looked at.
func traces(t *testing.T, pid int, secret string) (found []string, looked int64) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	see := func(where string, text []byte) {
		looked += int64(len(text))
		if holdsPart(text, secret) {
			found = append(found, where)
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			t.Error(err)
		}
		see(name, text)
	}
	open, _ := filepath.Glob(dir + "fd/*")
	for _, path := range open {
		to, _ := os.Readlink(path)
		see("the name of an open file", []byte(to))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() < 64<<20 {
			text, _ := os.ReadFile(path)
			see("the open file "+to, text)
		}
	}
	memory, err := os.Open(dir + "mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	pages, err := os.Open(dir + "pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pages.Close()
	maps, err := os.ReadFile(dir + "smaps")
	if err != nil {
		t.Fatal(err)
	}
	var begin, end uint64
	head := regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) `)
	for line := range strings.Lines(string(maps)) {
		if m := head.FindStringSubmatch(line); m != nil {
			begin, _ = strconv.ParseUint(m[1], 16, 64)
			end, _ = strconv.ParseUint(m[2], 16, 64)
		}
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] == "Rss:" || fields[0] == "Swap:") && fields[1] != "0" {
			lookAtMemory(memory, pages, begin, end, see)
		}
	}
	return found, looked
}

// lookAtMemory reads the pages of a mapping that are there. Which these are is asked before any is read, because reading makes
// pages.
func lookAtMemory(memory, pages io.ReaderAt, begin, end uint64, see func(string, []byte)) {
	const page, most = 4096, 16 << 20
	entries := make([]byte, 8*(end-begin)/page)
	n, _ := pages.ReadAt(entries, int64(8*begin/page))
	run := uint64(0) // bytes before the page in question that are there
	look := func(to uint64) {
		text := make([]byte, run)
		got, _ := memory.ReadAt(text, int64(to-run))
		see(fmt.Sprintf("memory at %x", to-run), text[:got])
	}
	for i := 0; i+8 <= n; i += 8 {
		at := begin + uint64(i)/8*page
		there := binary.NativeEndian.Uint64(entries[i:])>>62 != 0
		if there && run < most {
			run += page
			continue
		}
		if run > 0 {
			look(at)
			run = 0
		}
		if there { // a secret may lie across the border
			run = 2 * page
		}
	}
	if run > 0 {
		look(begin + uint64(n)/8*page)
	}
}

// holdsPart reports whether a text holds 16 bytes of a secret in a row.
func holdsPart(text []byte, secret string) bool {
	for i := 0; i+16 <= len(secret); i++ {
		if i%8 != 0 && i+16 != len(secret) { // 16 bytes in a row hold one of these blocks of 8 as a whole
			continue
		}
		block := []byte(secret[i : i+8])
		for rest := text; ; {
			at := bytes.Index(rest, block)
			if at < 0 {
				break
			}
			for j := max(0, i-8); j <= min(i, len(secret)-16); j++ {
				from := at - (i - j)
				if from >= 0 && from+16 <= len(rest) && string(rest[from:from+16]) == secret[j:j+16] {
					return true
				}
			}
			rest = rest[at+1:]
		}
	}
	return false
}

// The real Claude Code, with no network but the gateway, answers, and no process in the sandbox has any part of the key.
func TestClaudeCodeInSandbox(t *testing.T) {
	h, api, key := newKeyed(t)
	claude := need(t, partsDir()+"/claude")
	quiet := claudeEnv(api)[1:]

	cmd := boxed(h, claude, "-p", "hello")
	cmd.Env = append(cmd.Env, quiet...)
	answers(t, cmd)

	cmd = boxed(h, append([]string{claude}, sessionArgs...)...)
	cmd.Env = append(cmd.Env, quiet...)
	cmd.Env = append(cmd.Env, "MY_API_KEY="+key)
	s := converse(t, cmd)
	for range 2 {
		if wrong := s.prompt(); wrong != "" {
			t.Fatalf("a prompt: %s", wrong)
		}
	}
	inside := within(t, h)
	if len(inside) < 2 {
		t.Fatalf("%d processes are in the sandbox", len(inside))
	}
	for _, p := range inside {
		found, looked := traces(t, p.pid, key)
		t.Logf("looked at %d MiB of %q", looked>>20, p.args[0])
		if len(found) > 0 {
			t.Errorf("%q has a part of the key in %q", p.args, found)
		}
	}
	tool := inside[len(inside)-1]
	read := 0
	root := fmt.Sprintf("/proc/%d/root", tool.pid)
	for _, dir := range []string{h.root, "/run", "/tmp", "/etc"} {
		filepath.WalkDir(root+dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(path, "/run/ccagent") {
				return nil
			}
			text, _ := os.ReadFile(path)
			read++
			if holdsPart(text, key) {
				t.Errorf("a part of the key is in %s", path)
			}
			return nil
		})
	}
	if read < 10 {
		t.Errorf("only %d files were read", read)
	}
	if standIn := regexp.MustCompile(`ccag_[\w-]{43}`).FindString(proc(t, tool.pid, "environ")); standIn == "" {
		t.Error("the tool has no stand-in")
	} else if found, _ := traces(t, tool.pid, standIn); len(found) < 2 {
		t.Errorf("the search finds the stand-in in %q alone", found)
	}
	s.in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("Claude Code ended with %v", err)
	}
	gone(t, h)

	// The search can fail: without a gateway the tool has the key.
	cmd = h.command(program("ccagent"), append([]string{"exec", "-p", "gw", "--", claude}, sessionArgs...)...)
	cmd.Env = append(cmd.Env, claudeEnv(api)...)
	s = converse(t, cmd)
	if wrong := s.prompt(); wrong != "" {
		t.Fatalf("without a gateway: %s", wrong)
	}
	found, _ := traces(t, cmd.Process.Pid, key)
	if !slices.Contains(found, "environ") ||
		!slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, "memory") }) {
		t.Errorf("without a gateway the key is in %q", found)
	}
}

// attempts is what a hostile tool tries. It prints the names of those that succeed.
const attempts = `
import ctypes, os, socket, struct, sys
def attempt(name):
    def run(f):
        try:
            if f() is not False: print(name, flush=True)
        except Exception: pass
    return run
def unix(path):
    s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect(path)
def tcp(host, port):
    s = socket.socket(); s.settimeout(3); s.connect((host, int(port)))
agent, bus, abstract, local, other, port = sys.argv[1:7]
attempt('agent')(lambda: unix(agent))
attempt('bus')(lambda: unix(bus))
attempt('abstract')(lambda: unix('\0' + abstract))
attempt('loopback')(lambda: tcp('127.0.0.1', port))
attempt('host')(lambda: tcp(other, port))
attempt('metadata')(lambda: tcp('169.254.169.254', 80))
attempt('internet')(lambda: tcp('1.1.1.1', 443))
@attempt('dns')
def _():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); s.sendto(b'\0' * 12, (other, int(port)))
@attempt('interface')
def _(): return len(socket.if_nameindex()) > 1
@attempt('keyring')
def _(): return ctypes.CDLL(None).syscall(250 if os.uname().machine == 'x86_64' else 219, 0, -3, 1) >= 0
@attempt('ssh')
def _(): os.listdir(os.environ['HOME'] + '/.ssh')
@attempt('config')
def _(): os.listdir(os.environ['HOME'] + '/.config/ccagent')
@attempt('processes')
def _(): return len([p for p in os.listdir('/proc') if p.isdigit()]) > 5
@attempt('variables')
def _(): return 'MY_API_KEY' in os.environ or 'CCAGENT_SOCK' in os.environ
@attempt('descriptors')
def _(): return any(not os.readlink('/proc/self/fd/' + fd).startswith(('pipe:', '/dev/null', '/proc/')) for fd in os.listdir('/proc/self/fd'))
@attempt('home')
def _(): open(os.environ['HOME'] + '/proj/../.claude/projects/written', 'w'); return False
@attempt('project')
def _(): open('written', 'w'); return False
@attempt('git')
def _(): return 'fake' not in open(os.environ['HOME'] + '/.gitconfig').read()
`

// From within, nothing that leads to a credential can be reached, by root no more than by others. Outside, the same attempts
// succeed.
func TestSandboxIsClosed(t *testing.T) {
	t.Run("alice", func(t *testing.T) { sandboxIsClosed(t, credential(t, "ccagent-alice")) })
	t.Run("root", func(t *testing.T) { sandboxIsClosed(t, &syscall.Credential{}) })
}

func sandboxIsClosed(t *testing.T, owner *syscall.Credential) {
	h, _, key := newKeyedOf(t, owner)
	python := need(t, "/usr/bin/python3")
	h.token("-p", "gw") // the agent runs
	bus := h.runtime + "/bus"
	listen := func(network, address string) net.Listener {
		t.Helper()
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	listen("unix", bus)
	if err := os.Chmod(bus, 0o777); err != nil {
		t.Fatal(err)
	}
	abstract := "ccagent-e2e-" + strconv.Itoa(os.Getpid())
	listen("unix", "@"+abstract)
	_, port, _ := net.SplitHostPort(listen("tcp", "0.0.0.0:0").Addr().String())
	other := "127.0.0.2"
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
				other = ip.IP.String()
			}
		}
	}
	argv := []string{python, "-c", attempts, h.socket(), bus, abstract, "127.0.0.1", other, port}
	try := func(cmd *exec.Cmd) []string {
		t.Helper()
		leaked, err := os.Open(h.path("proj/file"))
		if err != nil {
			t.Fatal(err)
		}
		defer leaked.Close()
		cmd.ExtraFiles = []*os.File{leaked}
		cmd.Env = append(cmd.Env, "MY_API_KEY="+key, "CCAGENT_SOCK="+h.socket())
		return strings.Fields(finish(t, cmd).must(t).stdout)
	}
	if reached := try(boxed(h, argv...)); len(reached) > 0 {
		t.Errorf("from within were reached: %q", reached)
	}
	for _, written := range []string{"proj/written", ".claude/projects/written"} {
		if !exists(h.path(written)) {
			t.Errorf("%s was not written", written)
		}
	}
	want := []string{"agent", "bus", "abstract", "loopback", "host", "dns", "ssh", "config", "variables", "descriptors"}
	outside := h.command(program("ccagent"), append([]string{"run", "-p", "gw", "--"}, argv...)...)
	outside.Dir = h.path("proj")
	reached := try(outside)
	for _, name := range want {
		if !slices.Contains(reached, name) {
			t.Errorf("outside, %s is not reached either: %q", name, reached)
		}
	}
}

// Without its gateway a tool in a sandbox has no network at all, and what is replaced outside does not come in.
func TestSandboxLoses(t *testing.T) {
	h, _, key := newKeyed(t)
	cmd := boxed(h, "/bin/bash", "-c", `address=${ANTHROPIC_BASE_URL#http://}; address=${address%/*}
while read -r word; do
  case $word in
    ask) (exec 3<>"/dev/tcp/${address%:*}/${address#*:}") 2>/dev/null && echo yes || echo no ;;
    look) echo "$(cat ~/.claude/.credentials.json 2>/dev/null || echo nothing)" ;;
    net) grep -c : /proc/net/dev ;;
  esac
done`)
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
	lines := bufio.NewScanner(out)
	ask := func(word, want string) {
		t.Helper()
		fmt.Fprintln(in, word)
		if lines.Scan(); lines.Text() != want {
			t.Errorf("%s: %q, want %q", word, lines.Text(), want)
		}
	}
	ask("ask", "yes")
	ask("look", "nothing")
	h.write("new", key)
	if err := os.Rename(h.path("new"), h.credentialsFile()); err != nil {
		t.Fatal(err)
	}
	ask("look", "nothing")
	serving := gateways(t, h)
	if len(serving) != 1 {
		t.Fatalf("%d gateways", len(serving))
	}
	if err := syscall.Kill(serving[0].pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, h)
	wait(t, "the gateway's files to be closed", func() bool {
		fmt.Fprintln(in, "ask")
		return lines.Scan() && lines.Text() == "no"
	})
	ask("net", "1")
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Exit codes, a Ctrl-C that the tool takes care of itself, and an end by force.
func TestSandboxEnds(t *testing.T) {
	h, _, _ := newKeyed(t)
	if r := finish(t, boxed(h, "sh", "-c", "exit 42")); r.exit != 42 || r.stderr != "" {
		t.Errorf("exit %d, %q, want 42", r.exit, r.stderr)
	}
	if r := finish(t, boxed(h, "sh", "-c", "kill -TERM $$")); r.exit != 128+int(syscall.SIGTERM) {
		t.Errorf("exit %d, want 143", r.exit)
	}
	begin := func(script string) *exec.Cmd {
		t.Helper()
		cmd := boxed(h, "bash", "-c", script)
		cmd.SysProcAttr.Setpgid = true
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if lines := bufio.NewScanner(out); !lines.Scan() {
			t.Fatal("the tool did not begin")
		}
		return cmd
	}
	cmd := begin(`trap 'exit 7' INT; echo ready; while :; do sleep 0.05; done`)
	syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("after a Ctrl-C: exit %d, want the tool's own 7", code)
	}
	cmd = begin(`echo ready; sleep 1000`)
	cmd.Process.Kill()
	cmd.Wait()
	wait(t, "the sandbox to be gone", func() bool { return len(within(t, h)) == 0 })
	gone(t, h)
}

// Where namespaces are forbidden, the setting is named, and the tool is not run.
func TestSandboxForbidden(t *testing.T) {
	h, _, _ := newKeyed(t)
	const because = "this machine allows no sandbox, because "
	for name, test := range map[string]struct{ before, want string }{
		"user":      {"echo 0 >/proc/sys/user/max_user_namespaces", because + "user.max_user_namespaces is 0"},
		"network":   {"echo 0 >/proc/sys/user/max_net_namespaces", because + "user.max_net_namespaces is 0"},
		"no bwrap":  {"PATH=" + h.path("none"), "a sandbox needs bubblewrap (bwrap)"},
		"no folder": {"cd " + h.dir, "the sandbox would show the tool all of " + h.dir},
	} {
		t.Run(name, func(t *testing.T) {
			// The settings are those of a namespace, which this shell has to itself.
			cmd := h.command(need(t, "unshare"), "-Ur", "/bin/sh", "-c",
				test.before+` && exec "$0" run -p gw --sandbox -- /bin/sh -c 'touch ran'`, program("ccagent"))
			cmd.Dir = h.path("proj")
			start := time.Now()
			r := finish(t, cmd)
			t.Logf("%v, %s", time.Since(start).Round(time.Millisecond), r.stderr)
			if r.exit == 0 || !strings.Contains(r.stderr, test.want) || !strings.Contains(r.stderr, "\nhint: ") {
				t.Errorf("exit %d, %s", r.exit, r.stderr)
			}
			if exists(h.path("proj/ran")) {
				t.Error("the tool was run")
			}
		})
	}
}

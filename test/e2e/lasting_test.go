//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// newService is a home with a key, and a route to a service that tells what token it got.
func newService(t *testing.T) *home {
	t.Helper()
	h := newHome(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.URL.Path, r.Header.Get("X-Api-Key"))
	}))
	t.Cleanup(service.Close)
	h.config("[profiles.main]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-key-1\"]\n" +
		"[gateway.routes.llm]\nprofile = \"main\"\nupstream = \"" + service.URL + "\"\nplace = \"header:x-api-key\"\n" +
		"env = { LLM_URL = \"url\", LLM_KEY = \"token\" }\n")
	return h
}

// TestGatewayOnSocket: a container without a network, with root's id and with nothing of the home, uses a gateway by its socket.
// The kernel keeps other users out.
func TestGatewayOnSocket(t *testing.T) {
	needRoot(t)
	h := newService(t)
	mkdir(t, h.path("box"), 0o711)
	for _, dir := range []string{h.root, h.dir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	socket, file := h.path("box/gateway.sock"), h.path("llm.env")
	curl := need(t, "curl")
	alice := credential(t, "ccagent-alice")
	begin := func(more ...string) (g *agent, ask string) {
		t.Helper()
		g = h.serveOn(socket, h.command(program("ccagent"),
			append([]string{"gateway", "--listen", "unix:" + socket, "--routes", "llm", "--env-file", file}, more...)...))
		wait(t, "the variables", func() bool { _, err := os.Stat(file); return err == nil })
		vars := h.read("llm.env")
		if strings.Contains(vars, "fake-key") {
			t.Errorf("the file has the token: %s", vars)
		}
		return g, strings.ReplaceAll(strings.TrimSpace(vars), "\n", " ") + "; exec " + curl +
			` -sS --max-time 10 --unix-socket "$0" -H "X-Api-Key: $LLM_KEY" "$LLM_URL/v1/a"`
	}
	as := func(who *syscall.Credential, ask string) result {
		t.Helper()
		cmd := exec.Command("sh", "-c", ask, socket)
		cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		return finish(t, cmd)
	}

	g, ask := begin()
	r := h.run(need(t, "bwrap"), "--unshare-all", "--uid", "0", "--gid", "0", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin",
		"/bin",
		"--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--ro-bind", "/etc", "/etc", "--proc", "/proc",
		"--dev", "/dev", "--bind", socket, "/gateway.sock", "--clearenv", "/bin/sh", "-c", ask, "/gateway.sock")
	if r.exit != 0 || !strings.HasPrefix(r.stdout, "/v1/a ") || strings.Contains(r.stdout, "ccag_") {
		t.Errorf("from the container: exit %d, %q\n%s", r.exit, r.stdout, r.stderr)
	}
	if r := as(alice, ask); r.exit == 0 || r.stdout != "" {
		t.Errorf("another user got %q", r.stdout)
	}
	if log := h.ccagent("gateway", "log").must(t).stdout; !strings.Contains(log, "from curl (") || strings.Contains(log, "ccag_") {
		t.Errorf("the record is %s", log)
	}
	g.cmd.Process.Signal(syscall.SIGTERM)
	<-g.done
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	for _, path := range []string{socket, file} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}

	_, ask = begin("--allow-uid", strconv.Itoa(int(alice.Uid)))
	if r := as(credential(t, "ccagent-bob"), ask); r.exit == 0 || r.stdout != "" {
		t.Errorf("a user that is not let in got %q", r.stdout)
	}
	if r := as(alice, ask); !strings.HasPrefix(r.stdout, "/v1/a ") {
		t.Errorf("a user that is let in got exit %d, %q\n%s", r.exit, r.stdout, r.stderr)
	}
}

//go:build e2e

package e2e

import (
	"encoding/pem"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGit: the real git clones over HTTP with the agent's token; a token that the host refuses is renewed, so that git's next try
// works; and another host gets nothing.
func TestGit(t *testing.T) {
	git := need(t, "git")
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	h.vars = append(h.vars, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	h.run(git, "init", "-q", h.path("work")).must(t)
	h.run(git, "-C", h.path("work"), "commit", "-q", "--allow-empty", "-m", "first").must(t)
	h.run(git, "clone", "-q", "--bare", h.path("work"), h.path("served/x.git")).must(t)

	var mu sync.Mutex
	refused, users := map[string]bool{}, map[string]bool{}
	execPath := strings.TrimSpace(h.run(git, "--exec-path").must(t).stdout)
	backend := &cgi.Handler{
		Path: execPath + "/git-http-backend",
		Env: []string{"GIT_PROJECT_ROOT=" + h.path("served"), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack",
			"GIT_CONFIG_VALUE_1=true", "PATH=" + os.Getenv("PATH"), "HOME=" + h.dir},
	}
	serve := func(w http.ResponseWriter, r *http.Request) {
		user, token, ok := r.BasicAuth()
		mu.Lock()
		users[user] = true
		good := ok && provider.Live(token) && !refused[token]
		mu.Unlock()
		if !good {
			w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}
	forge := httptest.NewServer(http.HandlerFunc(serve))
	defer forge.Close()
	clone := func(to, url string) result {
		return h.run(git, "-c", "credential.helper=!"+program("cchelper")+" -f git", "clone", "-q", url, h.path(to))
	}
	clone("one", forge.URL+"/x.git").must(t)
	if !users["oauth2"] {
		t.Errorf("users %v", users)
	}

	first := h.token()
	mu.Lock()
	refused[first] = true
	mu.Unlock()
	if r := clone("two", forge.URL+"/x.git"); r.exit == 0 {
		t.Fatal("cloned with a token that is refused")
	}
	if second := h.token(); second == first {
		t.Error("git said that the token is refused, and it was not renewed")
	}
	clone("three", forge.URL+"/x.git").must(t)

	// The same of a push, with the helper that git finds by its name.
	mkdir(t, h.path("links"), 0o700)
	if err := os.Symlink(program("cchelper"), h.path("links/git-credential-ccagent")); err != nil {
		t.Fatal(err)
	}
	h.run(git, "-C", h.path("three"), "commit", "-q", "--allow-empty", "-m", "second").must(t)
	push := func() result {
		cmd := h.command(git, "-C", h.path("three"), "-c", "credential.helper=ccagent", "push", "-q", "origin",
			"HEAD:refs/heads/second")
		cmd.Env = append(cmd.Env, "PATH="+h.path("links")+":/usr/bin:/bin")
		return finish(t, cmd)
	}
	mu.Lock()
	refused[h.token()] = true
	mu.Unlock()
	if r := push(); r.exit == 0 {
		t.Fatal("pushed with a token that is refused")
	}
	// A token is renewed on demand once in 2 s, and the last time was for the clone.
	wait(t, "a push with another token", func() bool { return push().exit == 0 })
	if there := h.run(git, "--git-dir", h.path("served/x.git"), "branch", "--list", "second").must(t); !strings.Contains(
		there.stdout,
		"second",
	) {
		t.Errorf("what was pushed is not there: %q", there.stdout)
	}

	// What setup writes: another helper that would be asked as well is not, and is not told the token.
	h.write("other", "#!/bin/sh\necho $1 >>"+h.path("told")+"\n")
	h.write(".gitconfig", "[credential]\n\thelper = \"!sh "+h.path("other")+"\"\n")
	h.ccagent("setup", "git", "--yes").must(t)
	for action, input := range map[string]string{"fill": "", "approve": "username=oauth2\npassword=" + h.token() + "\n"} {
		cmd := h.command(git, "credential", action)
		cmd.Stdin = strings.NewReader("protocol=https\nhost=127.0.0.1\n" + input + "\n")
		if r := finish(t, cmd).must(t); action == "fill" && !strings.Contains(r.stdout, "password="+h.token()+"\n") {
			t.Errorf("git credential fill: %q\n%s", r.stdout, r.stderr)
		}
	}
	if exists(h.path("told")) {
		t.Errorf("another helper was asked: %s", h.read("told"))
	}
	h.ccagent("setup", "git", "--undo", "--yes").must(t)

	other := strings.Replace(forge.URL, "127.0.0.1", "localhost", 1)
	mu.Lock()
	clear(users)
	mu.Unlock()
	r := clone("four", other+"/x.git")
	if r.exit == 0 || !strings.Contains(r.stderr, "no profile lists the host localhost:") {
		t.Errorf("another host: exit %d, %s", r.exit, r.stderr)
	}
	if users["oauth2"] {
		t.Error("another host was sent something")
	}
}

// TestGitBearer: a git that can send bearer tokens clones from a forge that takes nothing else, and has a token renewed that the
// forge refuses.
func TestGitBearer(t *testing.T) {
	git := need(t, "git")
	tree := filepath.Dir(filepath.Dir(filepath.Dir(need(t, partsDir()+"/git/usr/bin/git"))))
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	h.vars = append(h.vars, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	h.run(git, "init", "-q", h.path("work")).must(t)
	h.run(git, "-C", h.path("work"), "commit", "-q", "--allow-empty", "-m", "first").must(t)
	h.run(git, "clone", "-q", "--bare", h.path("work"), h.path("served/x.git")).must(t)
	backend := &cgi.Handler{
		Path: strings.TrimSpace(h.run(git, "--exec-path").must(t).stdout) + "/git-http-backend",
		Env: []string{"GIT_PROJECT_ROOT=" + h.path("served"), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "PATH=" + os.Getenv("PATH"), "HOME=" + h.dir},
	}
	var mu sync.Mutex
	refused, basic := "", false
	forge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		mu.Lock()
		_, _, b := r.BasicAuth()
		basic = basic || b
		good := ok && provider.Live(token) && token != refused
		mu.Unlock()
		if !good {
			w.Header().Set("WWW-Authenticate", `Bearer realm="fake"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	defer forge.Close()
	clone := func(to string) result {
		return h.run(need(t, "bwrap"), "--ro-bind", tree+"/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
			"--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", h.root, h.root,
			"--ro-bind", binDir, binDir, "/usr/bin/git", "-c", "credential.helper=!"+program("cchelper")+" -f git",
			"clone", "-q", forge.URL+"/x.git", h.path(to))
	}
	first := h.token() // starts the agent, which is not to be in there
	clone("one").must(t)
	mu.Lock()
	refused = first
	mu.Unlock()
	if r := clone("two"); r.exit == 0 {
		t.Fatal("cloned with a token that is refused")
	}
	if h.token() == first {
		t.Error("git said that the token is refused, and it was not renewed")
	}
	clone("three").must(t)
	if basic {
		t.Error("a token was sent as a password")
	}
}

// TestGitAccounts: of two helpers for one host the real git gets the account that it asks for, and none for a third one.
func TestGitAccounts(t *testing.T) {
	git := need(t, "git")
	h := newHome(t)
	var config, helpers strings.Builder
	for _, name := range []string{"alice", "bob"} {
		config.WriteString("[profiles." + name + "]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-" + name + "\"]\n" +
			"hosts = [\"git.example.com\"]\nusername = \"" + name + "\"\n")
		helpers.WriteString("\thelper = \"!" + program("cchelper") + " -p " + name + " -f git\"\n")
	}
	h.config(config.String())
	h.write(".gitconfig", "[credential]\n"+helpers.String())
	h.vars = append(h.vars, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	fill := func(asked string) result {
		cmd := h.command(git, "credential", "fill")
		cmd.Stdin = strings.NewReader("protocol=https\nhost=git.example.com\n" + asked + "\n")
		return finish(t, cmd)
	}
	for asked, want := range map[string]string{"": "alice", "username=alice\n": "alice", "username=bob\n": "bob"} {
		if r := fill(asked).must(t); !strings.Contains(r.stdout, "username="+want+"\npassword=fake-"+want+"\n") {
			t.Errorf("%q: %q\n%s", asked, r.stdout, r.stderr)
		}
	}
	if r := fill("username=carol\n"); r.exit == 0 || strings.Contains(r.stdout, "password") {
		t.Errorf("carol: exit %d, %q", r.exit, r.stdout)
	}
}

// TestCurl: a header by a pipe, which no process list shows.
func TestCurl(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !provider.Live(token) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	h.run("sh", "-c", program("cchelper")+" -f header | "+need(t, "curl")+" -sS --fail -H @- "+server.URL).must(t)
}

// TestGoModules: the real go command asks with GOAUTH as `ccagent setup go` wrote it, for the proxy that the profile lists.
func TestGoModules(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	served := 0
	proxy := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case !ok || !provider.Live(token):
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/@v/list"):
			served++
			w.Write([]byte("v1.0.0\nv1.1.0\n"))
		case strings.HasSuffix(r.URL.Path, ".info"):
			w.Write([]byte(`{"Version":"v1.1.0","Time":"2026-01-01T00:00:00Z"}`))
		case strings.HasSuffix(r.URL.Path, ".mod"):
			w.Write([]byte("module example.com/fake\n"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer proxy.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
	h.write("ca.pem", string(ca))
	h.vars = append(h.vars, "GOPROXY="+proxy.URL, "GONOSUMDB=*", "GOFLAGS=-mod=mod", "GOPATH="+h.path("go"),
		"GOCACHE="+h.path("cache"), "SSL_CERT_FILE="+h.path("ca.pem"), "GO111MODULE=on", "GOTOOLCHAIN=local", "NO_PROXY=127.0.0.1")
	list := func() result { return h.run(need(t, "go"), "list", "-m", "-versions", "example.com/fake") }
	if r := list(); r.exit == 0 {
		t.Fatalf("without GOAUTH it listed %s", r.stdout)
	}
	h.write(".config/go/env", "GOAUTH=netrc\n")
	h.ccagent("setup", "go", "--yes").must(t)
	r := list().must(t)
	if strings.TrimSpace(r.stdout) != "example.com/fake v1.0.0 v1.1.0" || served == 0 {
		t.Errorf("%q, served %d times", r.stdout, served)
	}
}

// TestReaskInContainer has a tool that is the first process of its container ask twice, as Claude Code does after a refusal, of
// an agent that it starts there.
func TestReaskInContainer(t *testing.T) {
	needRoot(t)
	h := newHome(t)
	h.write("renew", "#!/bin/sh\necho >>"+h.path("count")+"\necho fake-$(wc -l <"+h.path("count")+")\n")
	h.config("[profiles.n]\nprovider = \"command\"\ncommand = [\"sh\", \"" + h.path("renew") + "\"]\nttl = \"1h\"\n")
	const tool = `import subprocess, time
def ask(): return subprocess.run(["sh", "-c", "cchelper -p n --on-reask=renew"], capture_output=True, text=True, check=True).stdout
first = ask()
time.sleep(2.1) # a renewal answers for 2 s whoever wants one
print(first + ask(), end="")
`
	h.write("tool.py", tool)
	r := h.run(need(t, "unshare"), "--pid", "--fork", "--mount-proc", need(t, "/usr/bin/python3"), h.path("tool.py"))
	if r.must(t); r.stdout != "fake-1\nfake-2\n" {
		t.Errorf("the first process got %q\n%s", r.stdout, r.stderr)
	}
}

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// keyed is a home whose profile main has a key, and a route to a service as one of the presets has it.
func keyed(t *testing.T, preset string, service http.Handler) *home {
	t.Helper()
	h := newHome(t)
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	h.config("[profiles.main]\nprovider = \"command\"\ncommand = [\"echo\", \"fake-key-1\"]\n" +
		"[gateway.routes." + preset + "]\nprofile = \"main\"\nupstream = \"" + server.URL + "\"\n")
	h.vars = append(h.vars, "SERVICE="+server.URL)
	return h
}

// TestGitThroughGateway: the real git clones and pushes, also a large pack, by the URLs of the forge and without a token of its
// own. Neither its settings nor the arguments of its programs hold the stand-in.
func TestGitThroughGateway(t *testing.T) {
	git := need(t, "git")
	var mu sync.Mutex
	var handler http.Handler
	asked := map[string]int{}
	h := keyed(t, "github-git", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		mu.Lock()
		asked[user+":"+password]++
		mu.Unlock()
		if user != "x-access-token" || password != "fake-key-1" {
			w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.ContentLength < 0 { // CGI knows no chunks
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		}
		handler.ServeHTTP(w, r)
	}))
	h.vars = append(h.vars, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch",
		"GIT_CONFIG_VALUE_0=main")
	handler = &cgi.Handler{
		Path: strings.TrimSpace(h.run(git, "--exec-path").must(t).stdout) + "/git-http-backend",
		Env: []string{"GIT_PROJECT_ROOT=" + h.path("served"), "GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack",
			"GIT_CONFIG_VALUE_1=true", "PATH=" + os.Getenv("PATH"), "HOME=" + h.dir},
	}
	h.run(git, "init", "-q", "--bare", h.path("served/x.git")).must(t)
	large := make([]byte, 200<<20)
	rand.Read(large)
	h.write("large", string(large))
	h.write("work.sh", `set -e
git clone -q $SERVICE/x.git one 2>err
cd one
test "$(git config init.defaultBranch)" = main
cp ../large .
git add large
git commit -qm first
GIT_TRACE=1 git push -q origin HEAD 2>../trace
git remote get-url origin --push | grep -q ":[0-9]*/github-git/x.git"
cd ..
git clone -q $SERVICE/x.git two
cmp large two/large
grep -r ccag_ one/.git/config two/.git/config trace && exit 1
grep "remote-http" trace
`)
	cmd := h.command(program("ccagent"), "run", "--routes", "github-git", "--", "sh", "work.sh")
	cmd.Dir = h.dir
	r := finish(t, cmd)
	if r.exit != 0 || !strings.Contains(r.stdout, "remote-http") {
		t.Errorf("exit %d: %s\n%s", r.exit, r.stdout, r.stderr)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 1 {
		t.Errorf("the forge was sent %v", asked)
	}
	log := h.ccagent("gateway", "log").must(t).stdout
	if !strings.Contains(log, "POST ") || !strings.Contains(log, "/x.git/git-receive-pack  200  200 MiB sent") {
		t.Errorf("the record is\n%s", log)
	}
}

// TestNPMThroughGateway: the real npm installs a private package by the registry that the gateway is.
func TestNPMThroughGateway(t *testing.T) {
	npm := need(t, "npm")
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	text := `{"name":"@fake/private","version":"1.0.0"}`
	w.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(text))})
	w.Write([]byte(text))
	w.Close()
	z.Close()
	digest := sha512.Sum512(archive.Bytes())
	h := keyed(t, "npm", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer fake-key-1":
			http.Error(w, "a token is missing", http.StatusUnauthorized)
		case r.URL.Path == "/@fake/private":
			fmt.Fprintf(w, `{"name":"@fake/private","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"@fake/private",`+
				`"version":"1.0.0","dist":{"tarball":"https://registry.npmjs.org/@fake/private/-/private-1.0.0.tgz",`+
				`"integrity":"sha512-%s"}}}}`, base64.StdEncoding.EncodeToString(digest[:]))
		case strings.HasSuffix(r.URL.Path, ".tgz"):
			w.Write(archive.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	h.write("work/package.json", `{"name":"work","version":"1.0.0"}`)
	cmd := h.command(program("ccagent"), "run", "--routes", "npm", "--", npm, "install", "--no-audit", "--no-fund",
		"--no-update-notifier",
		"@fake/private")
	cmd.Dir = h.path("work")
	if r := finish(t, cmd); r.exit != 0 {
		t.Fatalf("exit %d: %s\n%s", r.exit, r.stdout, r.stderr)
	}
	if got := h.read("work/node_modules/@fake/private/package.json"); got != text {
		t.Errorf("installed is %q", got)
	}
	lock, _ := os.ReadFile(filepath.Join(h.dir, "work/package-lock.json"))
	if bytes.Contains(lock, []byte("ccag_")) || bytes.Contains(lock, []byte("fake-key")) {
		t.Errorf("the lock file is %s", lock)
	}
}

//go:build e2e

package e2e

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSkopeo has the real skopeo ask a registry with the helper that `ccagent setup docker` named in its settings.
func TestSkopeo(t *testing.T) {
	skopeo := need(t, "skopeo")
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	asked := 0
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, token, ok := r.BasicAuth()
		if !ok || user != "oauth2" || !provider.Live(token) {
			w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		asked++
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"name":"fake","tags":["one","two"]}`)
		}
	}))
	defer registry.Close()
	address := strings.TrimPrefix(registry.URL, "http://")
	h.write(".docker/config.json", "{\n\t\"auths\": {}\n}\n")
	h.ccagent("setup", "docker", "--host", address, "--yes").must(t)
	list := func() result {
		return h.run(skopeo, "--tmpdir", h.tmp, "list-tags", "--tls-verify=false", "--authfile", h.path(".docker/config.json"), "docker://"+address+"/fake")
	}
	if r := list().must(t); !strings.Contains(r.stdout, `"two"`) || asked == 0 {
		t.Errorf("%d requests with a token; it printed %s", asked, r.stdout)
	}
	h.ccagent("setup", "docker", "--host", address, "--undo", "--yes").must(t)
	if settings := h.read(".docker/config.json"); settings != "{\n\t\"auths\": {}\n}\n" || exists(filepath.Join(binDir, "docker-credential-ccagent-claude")) {
		t.Errorf("what is left is %q", settings)
	}
	if r := list(); r.exit == 0 {
		t.Errorf("without the helper it printed %s", r.stdout)
	}
}

// TestKubectl has client-go, whose exec plugin is kubectl's, ask a cluster as `ccagent setup kubectl` told it.
func TestKubectl(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	client := h.root + "/kubectl"
	build := exec.Command("go", "build", "-o", client, ".")
	build.Dir = "kubectl"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !provider.Live(token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"major":"1"}`)
	}))
	defer cluster.Close()
	ca := h.path("ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	h.write(".kube/config", fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters:\n- name: fake\n  cluster: {server: %q, certificate-authority: %q}\ncontexts:\n- name: fake\n  context: {cluster: fake, user: alice}\n", cluster.URL, ca))
	h.ccagent("setup", "kubectl", "--name", "alice", "--yes").must(t)
	get := func() result { return h.run(client, h.path(".kube/config")) }
	if r := get().must(t); !strings.HasPrefix(r.stdout, "200 ") {
		t.Errorf("the cluster answered %s", r.stdout)
	}
	// A cluster that the profile does not list gets nothing.
	h.config(strings.Replace(h.read(".config/ccagent/config.toml"), "127.0.0.1\"]", "k8s.example.com\"]", 1))
	h.ccagent("stop").must(t)
	if r := get(); r.exit == 0 && !strings.HasPrefix(r.stdout, "401 ") || !strings.Contains(r.stderr, "does not list this host") {
		t.Errorf("exit %d: %s%s", r.exit, r.stdout, r.stderr)
	}
}

//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
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
		return h.run(skopeo, "--tmpdir", h.tmp, "list-tags", "--tls-verify=false", "--authfile", h.path(".docker/config.json"),
			"docker://"+address+"/fake")
	}
	if r := list().must(t); !strings.Contains(r.stdout, `"two"`) || asked == 0 {
		t.Errorf("%d requests with a token; it printed %s", asked, r.stdout)
	}
	h.ccagent("setup", "docker", "--host", address, "--undo", "--yes").must(t)
	if settings := h.read(".docker/config.json"); settings != "{\n\t\"auths\": {}\n}\n" ||
		exists(filepath.Join(binDir, "docker-credential-ccagent-claude")) {
		t.Errorf("what is left is %q", settings)
	}
	if r := list(); r.exit == 0 {
		t.Errorf("without the helper it printed %s", r.stdout)
	}
}

// TestDocker has the real docker, and a stand-in for its daemon, which gets what docker knows of a registry with each pull.
func TestDocker(t *testing.T) {
	docker := need(t, filepath.Join(partsDir(), "docker"))
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"registry.example.com\"]\n")
	l, err := net.Listen("unix", h.root+"/d")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Username, Password string }
	daemon := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if strings.HasSuffix(r.URL.Path, "/images/create") {
			got.Username, got.Password = "", ""
			text, err := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth"))
			if err == nil && len(text) > 0 {
				err = json.Unmarshal(text, &got)
			}
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintln(w, `{"status":"pulled"}`)
		}
	})}
	go daemon.Serve(l)
	defer daemon.Close()
	h.vars = append(h.vars, "DOCKER_HOST=unix://"+h.root+"/d")
	pull := func(image string) result { return h.run(docker, "pull", "--quiet", image) }

	h.ccagent("setup", "docker", "--yes").must(t)
	pull("registry.example.com/fake:1").must(t)
	if got.Username != "oauth2" || !provider.Live(got.Password) {
		t.Errorf("the daemon got %q and a token that lives: %v", got.Username, provider.Live(got.Password))
	}
	pull("other.example.com/fake:1").must(t)
	if got.Password != "" {
		t.Error("another registry gets a token")
	}
	// Named in docker's settings and not in the profile, a registry gets nothing either, and a person reads why.
	h.config(strings.Replace(h.read(".config/ccagent/config.toml"), "registry.example.com", "elsewhere.example.com", 1))
	h.ccagent("stop").must(t)
	got.Password = ""
	r := pull("registry.example.com/fake:1").must(t)
	if got.Password != "" || !strings.Contains(r.stderr, "does not list this host") {
		t.Errorf("a registry that is not listed: exit %d\n%s", r.exit, r.stderr)
	}
	// The user name is the profile's. A token that should be there and is not is an error that docker tells in our words.
	table := "[profiles.claude]\nprovider = \"command\"\nhosts = [\"registry.example.com\"]\nusername = \"robot\"\n"
	h.config(table + "command = [\"echo\", \"fake-registry-1\"]\n")
	h.ccagent("stop").must(t)
	pull("registry.example.com/fake:1").must(t)
	if got.Username != "robot" || got.Password != "fake-registry-1" {
		t.Errorf("the daemon got %q, %q", got.Username, got.Password)
	}
	h.config(table + "command = [\"echo\", \"null\"]\n")
	h.ccagent("stop").must(t)
	if r := h.run(docker, "manifest", "inspect", "registry.example.com/fake:1"); r.exit == 0 ||
		!strings.Contains(r.stderr, `printed the word "null" instead of a token`) {
		t.Errorf("a command without a token: exit %d\n%s", r.exit, r.stderr)
	}
	h.ccagent("setup", "docker", "--undo", "--yes").must(t)
	if exists(h.path(".docker/config.json")) || exists(filepath.Join(binDir, "docker-credential-ccagent-claude")) {
		t.Error("it was not taken back")
	}
}

// TestTerraform has Terraform's own library ask a host of modules, with what `ccagent setup terraform` wrote.
func TestTerraform(t *testing.T) {
	t.Parallel()
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	client := buildTool(t, h, "terraform")
	asked := map[bool]int{}
	host := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		asked[ok && provider.Live(token)]++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"modules.v1": "/modules/"}`)
	}))
	defer host.Close()
	h.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: host.Certificate().Raw})))
	h.vars = append(h.vars, "SSL_CERT_FILE="+h.path("ca.pem"), "NO_PROXY=127.0.0.1")
	h.ccagent("setup", "terraform", "--yes").must(t)
	discover := func() result { return h.run(client, strings.TrimPrefix(host.URL, "https://")) }
	if r := discover().must(t); strings.TrimSpace(r.stdout) != host.URL+"/modules/" || asked[true] != 1 || asked[false] != 0 {
		t.Errorf("%q, asked with a token and without: %v", r.stdout, asked)
	}
	// Another host is asked without one.
	h.config(strings.Replace(h.read(".config/ccagent/config.toml"), "127.0.0.1\"]", "app.terraform.io\"]", 1))
	h.ccagent("stop").must(t)
	clear(asked)
	if discover().must(t); asked[true] != 0 || asked[false] != 1 {
		t.Errorf("another host is asked with a token and without: %v", asked)
	}
}

// buildTool builds one of the modules beside, each a tool's own library at work.
func buildTool(t *testing.T, h *home, name string) string {
	t.Helper()
	program := h.root + "/" + name
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = name
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestKubectl has client-go, whose exec plugin is kubectl's, ask a cluster as `ccagent setup kubectl` told it.
func TestKubectl(t *testing.T) {
	t.Parallel()
	h, provider := newSignedIn(t, time.Hour)
	h.config(strings.TrimSpace(h.read(".config/ccagent/config.toml")) + "\nhosts = [\"127.0.0.1\"]\n")
	client := newCluster(t, h, func(_ context.Context, token string) bool { return provider.Live(token) })
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

// TestKubectlIDToken is TestKubectl with a cluster that judges tokens as Kubernetes does, and so takes ID tokens for its own
// client alone. When the token has expired, the next comes with a renewal.
func TestKubectlIDToken(t *testing.T) {
	t.Parallel()
	h, provider := newGatewayHome(t, "oidc", oauthtest.Options{ID: oauthtest.IDFault{Lifetime: 15 * time.Second}})
	issuer, err := oidc.NewProvider(t.Context(), provider.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	verifier := issuer.Verifier(&oidc.Config{ClientID: "fake-client"})
	client := newCluster(t, h, func(ctx context.Context, token string) bool {
		_, err := verifier.Verify(ctx, token)
		return err == nil
	})
	h.signInTo()
	ask := func(want string) {
		t.Helper()
		if r := h.run(client, h.path(".kube/config")).must(t); !strings.HasPrefix(r.stdout, want) {
			t.Errorf("the cluster answered %s, want %s", r.stdout, want)
		}
	}
	h.ccagent("setup", "kubectl", "--name", "alice", "--yes").must(t)
	ask("401 ") // an access token says nothing to it
	h.ccagent("setup", "kubectl", "--name", "alice", "--id-token", "--yes").must(t)
	ask("200 ")
	before := h.ccagent("token", "--id-token").must(t).stdout
	wait(t, "another ID token", func() bool { return h.ccagent("token", "--id-token").must(t).stdout != before })
	ask("200 ")
}

// newCluster is a cluster that accepts some tokens, and the kubeconfig of its user alice. client is a program that asks it.
func newCluster(t *testing.T, h *home, accepts func(ctx context.Context, token string) bool) (client string) {
	t.Helper()
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !accepts(r.Context(), token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"major":"1"}`)
	}))
	t.Cleanup(cluster.Close)
	ca := h.path("ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	h.write(".kube/config", fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters:\n- name: fake\n"+
		"  cluster: {server: %q, certificate-authority: %q}\n"+
		"contexts:\n- name: fake\n  context: {cluster: fake, user: alice}\n", cluster.URL, ca))
	return buildTool(t, h, "kubectl")
}

// TestGemini has the real Gemini CLI send the token that `ccagent setup gemini` has shown it, and the one that `ccagent exec`
// gave to it.
func TestGemini(t *testing.T) {
	gemini := need(t, partsDir()+"/gemini")
	h := newHome(t)
	h.config("[profiles.gw]\nprovider = \"command\"\ncommand = [\"cat\", \"" + h.path("token") + "\"]\nttl = \"1h\"\n")
	h.write("token", "fake-gemini-1")
	const settings = "{\n  // Google's\n  \"security\": { \"auth\": { \"selectedType\": \"oauth-personal\" } }\n}\n"
	h.write(".gemini/settings.json", settings)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer fake-gemini-1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"candidates":[{"content":{"role":"model","parts":[{"text":"the token is good"}]},"finishReason":"STOP",`+
			`"index":0}]}`+"\r\n\r\n")
	}))
	defer api.Close()
	answered := func(cmd *exec.Cmd) {
		t.Helper()
		cmd.Args = append(cmd.Args, "-m", "gemini-2.5-flash", "-p", "is the token good?")
		cmd.Env = append(cmd.Env, "GOOGLE_GEMINI_BASE_URL="+api.URL, "GEMINI_API_KEY_AUTH_MECHANISM=bearer",
			"GEMINI_CLI_TRUST_WORKSPACE=true")
		if r := finish(t, cmd); r.exit != 0 || !strings.Contains(r.stdout, "the token is good") {
			t.Errorf("gemini: exit %d\n%s%s", r.exit, r.stdout, r.stderr)
		}
	}
	h.ccagent("setup", "gemini", "-p", "gw", "--yes").must(t)
	answered(h.command(gemini))
	h.ccagent("setup", "gemini", "-p", "gw", "--undo", "--yes").must(t)
	wait(t, "the file with the token to be taken away", func() bool { return !exists(h.path(".gemini/.env")) })
	if left := h.read(".gemini/settings.json"); left != settings {
		t.Errorf("what is left is %s", left)
	}

	// A project with a .env of its own, beside which gemini reads no other.
	h.write("project/.env", "FAKE=1\n")
	h.ccagent("setup", "gemini", "-p", "gw", "--by", "exec", "--yes").must(t)
	cmd := h.command(program("ccagent"), "exec", "-p", "gw", "--env", "GEMINI_API_KEY", "--", gemini)
	cmd.Dir = h.path("project")
	answered(cmd)
}

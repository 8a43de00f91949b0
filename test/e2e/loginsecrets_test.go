//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// wiretap is between our programs and the provider, and notes every secret that crosses: whatever is called by one of
// these names.
type wiretap struct {
	*httptest.Server
	mu      sync.Mutex
	secrets map[string]string // the secret and its name
}

var secretNames = []string{
	"code",
	"code_verifier",
	"client_secret",
	"refresh_token",
	"access_token",
	"id_token",
	"device_code",
	"token",
}

func newWiretap(t *testing.T, provider *oauthtest.Server) *wiretap {
	t.Helper()
	target, err := url.Parse(provider.URL())
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{secrets: make(map[string]string)}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			w.note(body)
			return err
		},
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, "", http.StatusBadRequest)
			return
		}
		w.note(body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// note reads a body, a form or JSON.
func (w *wiretap) note(body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var object map[string]any
	if json.Unmarshal(body, &object) == nil {
		for _, name := range secretNames {
			if value, ok := object[name].(string); ok {
				w.secrets[value] = name
			}
		}
		return
	}
	if form, err := url.ParseQuery(string(body)); err == nil {
		for _, name := range secretNames {
			if value := form.Get(name); value != "" {
				w.secrets[value] = name
			}
		}
	}
}

// TestNoSecretOfASignInLeaks signs in, renews, asks and signs out, well and badly, and searches all that the programs wrote, and
// every argument and variable of every process, for what crossed the wire.
func TestNoSecretOfASignInLeaks(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-client-secret"})
	wire := newWiretap(t, provider)
	h.config(gateway + fmt.Sprintf(`provider = "oauth2"
store = "file"
client_id = "fake-client"
client_auth = "client_secret_post"
scopes = ["user:profile"]
authorize_url = %q
token_url = %q
device_url = %q
revoke_url = %q
introspect_url = %q
profile_url = %q
`, provider.AuthorizeURL(), wire.URL+"/v1/oauth/token", wire.URL+"/device", wire.URL+"/revoke", wire.URL+"/introspect", wire.URL+"/userinfo"))
	h.write("secret", "fake-client-secret\n")
	h.vars = []string{"BROWSER=" + h.browser()}
	trace, said := h.root+"/trace", h.root+"/said"
	script := fmt.Sprintf(`exec >%[1]s 2>&1
ccagent serve --log-file %[2]s --log-level debug &
until ccagent status >/dev/null 2>&1; do sleep 0.05; done
ccagent login --client-secret-stdin <secret || exit 1
echo signed-in-1
ccagent login --force --client-secret-stdin <secret && exit 2
echo failed-2
ccagent login --force --device --client-secret-stdin <secret || exit 3
echo signed-in-3
cchelper >/dev/null; ccagent refresh; ccagent whoami --refresh; ccagent validate --online; ccagent status --json; ccagent list
ccagent logout || exit 4
echo signed-out
ccagent whoami
ccagent stop
wait
`, said, h.logFile())
	h.write("script", script)
	cmd := h.command(need(t, "strace"), "-f", "-qq", "-v", "-s", "100000", "-e", "trace=execve,execveat", "-o", trace, "/bin/sh",
		"script")
	ended := make(chan result, 1)
	go func() { ended <- finish(t, cmd) }()
	text := func() string {
		data, _ := os.ReadFile(said)
		return string(data)
	}
	step := func(what string, done func() bool) {
		t.Helper()
		wait(t, what, func() bool {
			select {
			case r := <-ended:
				t.Fatalf("the script ended with %d:\n%s\n%s", r.exit, text(), h.log())
			default:
			}
			return done()
		})
	}
	opened := func() bool { return exists(h.root + "/opened") }
	address := func() string {
		where := h.ledTo()
		os.Remove(h.root + "/opened")
		return where
	}
	step("the first sign-in", opened)
	visit(t, address())
	step("its end", func() bool { return strings.Contains(text(), "signed-in-1") })
	step("the second sign-in", opened)
	provider.SetFault(
		oauthtest.Fault{
			Times:  1,
			Status: 400,
			Body:   `{"error":"invalid_grant","error_description":"fake-secret-body","access_token":"fake-secret-body"}`,
		},
	)
	visit(t, address())
	step("its end", func() bool { return strings.Contains(text(), "failed-2") })
	code := ""
	step("the code for another device", func() bool {
		if m := userCode.FindStringSubmatch(text()); m != nil {
			code = m[1]
		}
		return code != ""
	})
	provider.Approve(code)
	if r := <-ended; r.exit != 0 {
		t.Fatalf("exit %d\n%s\n%s", r.exit, text(), h.log())
	}

	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	processes := string(data)
	wire.mu.Lock()
	defer wire.mu.Unlock()
	for _, name := range []string{"code", "code_verifier", "client_secret", "refresh_token", "access_token", "device_code",
		"token"} {
		if !slices.Contains(slices.Collect(maps.Values(wire.secrets)), name) {
			t.Errorf("no %s crossed the wire: the test proves nothing of it", name)
		}
	}
	if strings.Count(processes, "execve(") < 12 || !strings.Contains(processes, `"worker"`) ||
		!strings.Contains(processes, "/open.html") ||
		len(h.log()) < 300 {
		t.Fatalf("too little to judge:\n%s\n%s", processes, h.log())
	}
	if strings.Contains(processes, "/authorize?") {
		t.Error("the address with the state is among the processes' arguments")
	}
	for what, text := range map[string]string{"the processes' arguments and variables": processes, "what was printed": text(),
		"the log": h.log()} {
		for secret, name := range wire.secrets {
			// A whole word: fake-access-1 is no part of fake-access-12.
			if m := regexp.MustCompile(`.{0,80}` + regexp.QuoteMeta(secret) + `($|[^0-9]).{0,80}`).FindString(text); m != "" {
				t.Errorf("the %s in %s: %s", name, what, m)
			}
		}
	}
}

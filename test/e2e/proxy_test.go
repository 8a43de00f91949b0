//go:build e2e

package e2e

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// TestProxyFromEnvironment renews at a provider that is reached through HTTPS_PROXY alone, and judged by SSL_CERT_FILE. A proxy of
// the profile's comes before that of the environment, and NO_PROXY goes past it.
func TestProxyFromEnvironment(t *testing.T) {
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	inner, err := url.Parse(provider.URL())
	if err != nil {
		t.Fatal(err)
	}
	behind := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(inner))
	defer behind.Close()
	address := strings.TrimPrefix(behind.URL, "https://")
	_, port, _ := net.SplitHostPort(address)

	// proxy lets CONNECT through to the provider, whatever its name.
	newProxy := func() (string, *atomic.Int32) {
		used := new(atomic.Int32)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodConnect || r.Host != "example.com:"+port {
				http.Error(w, "not here", http.StatusForbidden)
				return
			}
			used.Add(1)
			to, err := net.Dial("tcp", address)
			if err != nil {
				http.Error(w, "gone", http.StatusBadGateway)
				return
			}
			defer to.Close()
			w.WriteHeader(http.StatusOK)
			from, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer from.Close()
			go io.Copy(to, from)
			io.Copy(from, to)
		}))
		t.Cleanup(server.CloseClientConnections)
		return server.URL, used
	}
	shell, shellUsed := newProxy()
	profile, profileUsed := newProxy()

	config := func(h *home, more string) {
		h.config(fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = \"https://example.com:%s/v1/oauth/token\"\n%s", port, more))
		h.signIn(expired(provider.Issue()))
		ca := h.path("ca.pem")
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: behind.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		h.vars = append(h.vars, "SSL_CERT_FILE="+ca, "HTTPS_PROXY="+shell)
	}
	h := newHome(t)
	config(h, "")
	if token := h.token(); !provider.Live(token) || shellUsed.Load() != 1 {
		t.Errorf("token %q, and the environment's proxy was used %d times", token, shellUsed.Load())
	}

	h = newHome(t)
	config(h, fmt.Sprintf("proxy = %q\n", profile))
	if token := h.token(); !provider.Live(token) || profileUsed.Load() != 1 || shellUsed.Load() != 1 {
		t.Errorf("token %q; the profile's proxy was used %d times, the environment's %d", token, profileUsed.Load(), shellUsed.Load())
	}

	h = newHome(t)
	config(h, "")
	h.vars = append(h.vars, "NO_PROXY=example.com")
	if r := h.helper("--timeout", "10s"); r.exit != 7 || shellUsed.Load() != 1 {
		t.Errorf("exit %d with NO_PROXY, and the proxy was used %d times", r.exit, shellUsed.Load())
	}
}

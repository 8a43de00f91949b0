//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// TestProxyFromEnvironment renews at a provider that is reached through HTTPS_PROXY alone, and judged by SSL_CERT_FILE. A proxy
// of the profile's comes before that of the environment, and NO_PROXY goes past it.
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
			from, early, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer from.Close()
			go io.Copy(to, early) // which may have read what came at once
			io.Copy(from, to)
		}))
		t.Cleanup(server.CloseClientConnections)
		return server.URL, used
	}
	shell, shellUsed := newProxy()
	profile, profileUsed := newProxy()

	config := func(h *home, more string) {
		h.config(
			fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = \"https://example.com:%s/v1/oauth/token\"\n%s", port, more),
		)
		h.signIn(expired(provider.Issue()))
		ca := h.path("ca.pem")
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: behind.Certificate().Raw}),
			0o600); err != nil {
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

// TestOwnAuthorityAndCertificate renews at a provider that a private authority vouches for and that wants a certificate of us.
// The environment knows neither, as that of a unit does not: config.toml is enough.
func TestOwnAuthorityAndCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ours := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, ours, ours, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	inner, err := url.Parse(provider.URL())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(inner))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what is tested
	known := x509.NewCertPool()
	known.AddCert(ours)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: known}
	server.StartTLS()
	defer server.Close()

	newHomeWith := func(more string) *home {
		h := newHome(t)
		h.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
		h.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		h.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
		h.config(fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = %q\n%s", server.URL+"/v1/oauth/token", more))
		h.signIn(expired(provider.Issue()))
		return h
	}
	const authority, certificate = "ca_file = \"~/ca.pem\"\n", "client_cert = \"~/cert.pem\"\nclient_key = \"~/key.pem\"\n"

	h := newHomeWith(authority + certificate)
	if token := h.token(); !provider.Live(token) {
		t.Errorf("token %q", token)
	}
	r := h.ccagent("doctor", "--online")
	finds(t, r, "ok", "connection of claude", "checks its certificate with ca_file")
	finds(t, r, "ok", "provider of claude", "the clocks agree")

	for missing, given := range map[string]string{"ca_file": certificate, "client_cert": authority} {
		h := newHomeWith(given)
		if r := h.helper("--timeout", "10s"); r.exit != 7 || !regexp.MustCompile("(?m)^hint: .*"+missing).MatchString(r.stderr) {
			t.Errorf("without %s: %+v", missing, r)
		}
		r := h.ccagent("doctor", "--online")
		finds(t, r, "fail", "provider of claude", "")
		if !regexp.MustCompile("mend it: .*" + missing).MatchString(r.stdout) {
			t.Errorf("without %s:\n%s", missing, r.stdout)
		}
	}

	h = newHomeWith(authority + certificate)
	if err := os.Chmod(h.path("key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.helper().fails(t, 2, "")
	finds(t, h.ccagent("doctor"), "fail", "connection of claude", "key.pem is open to everybody")
}

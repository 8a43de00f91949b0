package oauth

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// issued is a certificate with its key, in both forms.
type issued struct {
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	pem, pri []byte
}

// issue makes a certificate that expires at a given time and is signed by an authority. With nil it makes an authority.
func issue(t *testing.T, by *issued, ends time.Time) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: ends, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.ExtKeyUsage = true, true, nil
		template.KeyUsage = x509.KeyUsageCertSign
	} else {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
}

// privateProvider is a provider with a certificate of an authority that the system does not know. If clients is not nil, it
// signs the certificates of the clients that are let in.
func privateProvider(t *testing.T, ca, clients *issued) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"access_token":"fake-access-1","token_type":"Bearer","expires_in":3600}`)
	}))
	leaf := issue(t, ca, time.Now().Add(time.Hour))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}}}
	if clients != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		server.TLS.ClientCAs.AddCert(clients.cert)
	}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func renew(t *testing.T, c *Client) error {
	t.Helper()
	reply, err := c.Refresh(t.Context(), protocol.NewSecret("fake-refresh-1"))
	if err == nil && reply.AccessToken.Reveal() != "fake-access-1" {
		t.Fatal("another token came back")
	}
	return err
}

func TestPrivateAuthorityAndClientCertificate(t *testing.T) {
	t.Parallel()
	ca := issue(t, nil, time.Now().Add(time.Hour))
	server := privateProvider(t, ca, ca)
	c := &Client{TokenURL: server.URL, ClientID: "x"}

	err := renew(t, c)
	if !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(protocol.HintOf(err), "ca_file") {
		t.Errorf("without ca_file: %v, hint %q", err, protocol.HintOf(err))
	}
	if c.CA, err = ParseCA(ca.pem); err != nil {
		t.Fatal(err)
	}
	var failure *Error
	if err := renew(t, c); !errors.As(err, &failure) || !strings.Contains(protocol.HintOf(err), "client_cert") {
		t.Errorf("without client_cert: %v, hint %q", err, protocol.HintOf(err))
	}
	leaf := issue(t, ca, time.Now().Add(time.Hour))
	if c.Certificate, err = ParseCertificate(leaf.pem, leaf.pri); err != nil {
		t.Fatal(err)
	}
	if err := renew(t, c); err != nil {
		t.Errorf("with ca_file and client_cert: %v", err)
	}
}

func TestBadCertificates(t *testing.T) {
	t.Parallel()
	ca := issue(t, nil, time.Now().Add(time.Hour))
	good, other := issue(t, ca, time.Now().Add(time.Hour)), issue(t, ca, time.Now().Add(time.Hour))
	old, oldCA := issue(t, ca, time.Now().Add(-time.Hour)), issue(t, nil, time.Now().Add(-time.Hour))
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no")})
	authorities := func(data []byte) error { _, err := ParseCA(data); return err }
	pair := func(cert, key []byte) error { _, err := ParseCertificate(cert, key); return err }
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"authority not PEM", authorities([]byte("hello")), "no certificate in PEM"},
		{"authority is a key", authorities(good.pri), "no certificate in PEM"},
		{"authority broken", authorities(broken), "can't be read"},
		{"authority expired", authorities(oldCA.pem), "expired"},
		{"certificate not PEM", pair([]byte("hello"), good.pri), "certificate is not PEM"},
		{"key not PEM", pair(good.pem, []byte("hello")), "key of the client's certificate is not PEM"},
		{"key of another", pair(good.pem, other.pri), "can't be used together"},
		{"certificate expired", pair(old.pem, old.pri), "expired on"},
	} {
		if !errors.Is(test.err, protocol.ErrConfig) || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, test.err, test.want)
		}
	}
}

// connectProxy is a proxy that answers with a status. It opens tunnels if that is 200, and counts them.
func connectProxy(t *testing.T, status int) (address *url.URL, tunnels *atomic.Int32) {
	t.Helper()
	tunnels = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		tunnels.Add(1)
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		down, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			up.Close()
			return
		}
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(up, bufio.NewReader(down)); up.Close() }()
		go func() { io.Copy(down, up); down.Close() }()
	}))
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address, tunnels
}

func TestProxy(t *testing.T) {
	t.Parallel()
	ca := issue(t, nil, time.Now().Add(time.Hour))
	pool, err := ParseCA(ca.pem)
	if err != nil {
		t.Fatal(err)
	}
	server := privateProvider(t, ca, nil)
	proxy, tunnels := connectProxy(t, http.StatusOK)
	c := &Client{TokenURL: server.URL, ClientID: "x", CA: pool, Proxy: proxy}
	if err := renew(t, c); err != nil || tunnels.Load() != 1 {
		t.Errorf("through the proxy: %v, %d tunnels", err, tunnels.Load())
	}

	c.Proxy, _ = connectProxy(t, http.StatusProxyAuthRequired)
	c.Proxy.User = url.UserPassword("me", "fake-password-1")
	err = renew(t, c)
	var failure *Error
	if !errors.As(err, &failure) || !errors.Is(err, protocol.ErrUnavailable) || failure.Ambiguous ||
		!strings.Contains(err.Error(), "407") {
		t.Errorf("a proxy that refuses: %#v", err)
	}
	c.Proxy = &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("me", "fake-password-1")}
	dead := renew(t, c)
	if !errors.Is(dead, protocol.ErrUnavailable) {
		t.Errorf("a proxy that is not there: %v", dead)
	}
	for _, err := range []error{err, dead} {
		if text := err.Error() + protocol.HintOf(err); strings.Contains(text, "fake-password-1") {
			t.Errorf("the proxy's password is shown: %s", text)
		}
	}

	plain := httptest.NewServer(server.Config.Handler)
	t.Cleanup(plain.Close)
	c.TokenURL = plain.URL
	if err := renew(t, c); err != nil {
		t.Errorf("what is in clear text goes past every proxy: %v", err)
	}
}

// If a proxy can't be reached, the error speaks of the proxy, and not of the provider.
func TestProxyAway(t *testing.T) {
	t.Parallel()
	for says, cause := range map[string]error{
		"can't be reached: connection refused": syscall.ECONNREFUSED,
		"has a name that can't be resolved":    &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host"}},
	} {
		e := transportError(t.Context(), &net.OpError{Op: "proxyconnect", Net: "tcp", Err: cause})
		if !errors.Is(e, protocol.ErrUnavailable) || e.Ambiguous || e.Error() != "the proxy on the way to it "+says ||
			!strings.Contains(protocol.HintOf(e), "proxy in config.toml") {
			t.Errorf("%v (ambiguous %v), hint %q", e, e.Ambiguous, protocol.HintOf(e))
		}
	}
}

func TestBadProxyAddress(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"http://proxy.example.com": true, "https://proxy.example.com": true, "socks5h://proxy.example.com:1080": true,
		"socks4://proxy.example.com:1080": false, "nonsense://proxy.example.com": false,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := known(u, nil); (err == nil) != good || good && got != u {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
	failure := transportError(context.Background(), errProxy)
	if !errors.Is(failure, protocol.ErrConfig) || !strings.Contains(protocol.HintOf(failure), "HTTPS_PROXY") {
		t.Errorf("%v", failure)
	}
}

// The authority of a server is looked for where other programs find theirs.
func TestAuthoritiesOfOtherPrograms(t *testing.T) {
	ca, other := issue(t, nil, time.Now().Add(time.Hour)), issue(t, nil, time.Now().Add(time.Hour))
	server := privateProvider(t, ca, nil)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"/ca.pem": ca.pem, "/other.pem": other.pem, "/none.pem": []byte("fake"), "/folder/a.pem": other.pem, "/folder/b.pem": ca.pem,
	} {
		os.MkdirAll(filepath.Dir(dir+name), 0o700)
		if err := os.WriteFile(dir+name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := ParseCA(other.pem)
	if err != nil {
		t.Fatal(err)
	}
	const generic = "if your company runs its own certificate authority"
	for name, test := range map[string]struct {
		variable, value string
		client          Client
		hint            string
	}{
		"none": {hint: generic},
		"Node's": {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/ca.pem",
			hint: "write into [profiles.a] of config.toml: ca_file = \"" + dir + "/ca.pem\""},
		"Codex's":        {variable: "CODEX_CA_CERTIFICATE", value: dir + "/ca.pem", hint: "CODEX_CA_CERTIFICATE names its authority"},
		"requests'":      {variable: "REQUESTS_CA_BUNDLE", value: dir + "/folder", hint: "ca_file = \"" + dir + "/folder/b.pem\""},
		"curl's":         {variable: "CURL_CA_BUNDLE", value: dir + "/ca.pem", hint: "CURL_CA_BUNDLE names its authority"},
		"git's":          {variable: "GIT_SSL_CAINFO", value: dir + "/ca.pem", hint: "GIT_SSL_CAINFO names its authority"},
		"AWS's":          {variable: "AWS_CA_BUNDLE", value: dir + "/ca.pem", hint: "AWS_CA_BUNDLE names its authority"},
		"another":        {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/other.pem", hint: generic},
		"no certificate": {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/none.pem", hint: generic},
		"not there":      {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/absent.pem", hint: generic},
		"a FIFO":         {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/fifo", hint: generic},
		"ca_file":        {client: Client{CA: pool}, hint: "add that one's certificate there"},
		"both": {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/ca.pem", client: Client{CA: pool},
			hint: "NODE_EXTRA_CA_CERTS names its authority"},
		"no profile yet": {variable: "NODE_EXTRA_CA_CERTS", value: dir + "/ca.pem", client: Client{Command: "ccagent login a"},
			hint: "sign in with: ccagent login a --ca-file " + dir + "/ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range protocol.Authorities() {
				t.Setenv(v.Name, "")
			}
			if test.variable != "" {
				t.Setenv(test.variable, test.value)
			}
			c := test.client
			c.Profile, c.TokenURL, c.ClientID = "a", server.URL, "x"
			err := renew(t, &c)
			if !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), protocol.Distrusted) {
				t.Errorf("another error: %v", err)
			}
			if hint := protocol.HintOf(err); !strings.Contains(hint, test.hint) {
				t.Errorf("hint %q, want %q", hint, test.hint)
			}
		})
	}
}

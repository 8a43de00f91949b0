package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/address"
	"github.com/ccagent/ccagent/agent/gateway/route"
)

// at makes a route to a URL.
func at(t *testing.T, name, upstream string) route.Route {
	t.Helper()
	u, err := route.ParseUpstream(upstream)
	if err != nil {
		t.Fatal(err)
	}
	return route.Route{Name: name, Profile: "main", Upstream: u, Errors: route.Plain, Foreign: route.Refuse, RenewOn: []int{401}}
}

// TestAddresses: an address that a route may not have is refused, with and without a proxy, and the tool is told what to do.
func TestAddresses(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		w.WriteHeader(http.StatusTeapot)
	}))
	defer proxy.Close()
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer service.Close()
	by, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	routes := route.Table{
		at(t, "private", "https://10.0.0.1"), at(t, "metadata", "https://169.254.169.254"),
		at(t, "mapped", "https://[::ffff:10.0.0.1]"), at(t, "zero", "https://0.0.0.0"), at(t, "here", service.URL),
		at(t, "public", "https://192.88.98.1"),
		at(t, "named", "https://llm.example.com"),
	}
	for _, proxied := range []bool{false, true} {
		o := Options{Agent: &mint{}, Routes: routes}
		if proxied {
			o.Proxy = http.ProxyURL(by)
		}
		s := start(t, o)
		for name, want := range map[string]struct {
			status int
			text   string
			proxy  string
		}{
			"private": {403, "10.0.0.1 is a private address (to allow it, write into config.toml, under [gateway.routes.private]: " +
				"private = true)\n", ""},
			"mapped":   {403, "10.0.0.1 is a private address (", ""},
			"metadata": {403, "169.254.169.254 is a cloud's metadata service\n", ""},
			"zero":     {403, "0.0.0.0 is this machine\n", ""},
			"here":     {200, "", ""},
			"public":   {502, "can't be reached", "CONNECT 192.88.98.1:443"},
			"named":    {502, "can't be reached", "CONNECT llm.example.com:443"},
		} {
			if want.proxy != "" && !proxied {
				continue // it would be dialled
			}
			resp, text := do(t, tool(t), request(t, "GET", s.base+"/"+name, nil, "X-Api-Key", s.standIn[name]))
			if resp.StatusCode != want.status || !strings.Contains(text, want.text) {
				t.Errorf("%s, by a proxy %v: %d %s", name, proxied, resp.StatusCode, text)
			}
			got := ""
			select {
			case got = <-asked:
			default:
			}
			if got != want.proxy {
				t.Errorf("%s: the proxy was asked for %q", name, got)
			}
		}
	}
}

// TestReach: only a route that names this machine itself may reach it. A proxy may be anywhere.
func TestReach(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	w := &way{}
	for host, allowed := range map[string]bool{"127.0.0.1": true, "localhost": true, "0.0.0.0": false} {
		conn, err := w.connect(t.Context(), "tcp4", net.JoinHostPort(host, port))
		if err == nil {
			conn.Close()
		}
		if (err == nil) != allowed || errors.Is(err, address.ErrRefused) == allowed {
			t.Errorf("%s: %v", host, err)
		}
	}
	const elsewhere = "10.255.255.255:1"
	if _, err := w.connect(t.Context(), "tcp", elsewhere); !errors.Is(err, address.ErrPrivate) {
		t.Error(err)
	}
	w.proxies.Store(elsewhere, true)
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	conn, err := w.connect(soon, "tcp", elsewhere) // whether something answers there or not
	if err == nil {
		conn.Close()
	}
	if errors.Is(err, address.ErrRefused) {
		t.Errorf("a proxy with a private address: %v", err)
	}
}

// TestWay: a route's own authorities, certificate, proxy and private addresses are not another route's.
func TestWay(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, len(r.TLS.PeerCertificates))
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Host
		w.WriteHeader(http.StatusTeapot)
	}))
	defer proxy.Close()
	routes := route.Table{to(t, server, "own"), to(t, server, "plain"), at(t, "proxied", "https://10.0.0.1")}
	routes[0].TLS = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs,
		Certificates: server.TLS.Certificates}
	routes[2].Private = true
	var err error
	if routes[2].Proxy, err = url.Parse(proxy.URL); err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Agent: &mint{}, Routes: routes})
	for name, want := range map[string]string{"own": "HTTP/2.01", "plain": "certificate", "proxied": "teapot"} {
		_, text := do(t, tool(t), request(t, "GET", s.base+"/"+name, nil, "X-Api-Key", s.standIn[name]))
		if !strings.Contains(text, want) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if asked != "10.0.0.1:443" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

// TestLimit: more requests than a route's limit are refused, and may come later.
func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAllowance(route.Limit{Requests: 6, Per: time.Minute})
		for i, wait := range []time.Duration{0, 0, 0, 0, 0, 0, 10 * time.Second, 10 * time.Second} {
			if got := a.take(); got.Round(time.Millisecond) != wait {
				t.Errorf("%d: %v", i, got)
			}
		}
		time.Sleep(4 * time.Second)
		if got := a.take(); got.Round(time.Millisecond) != 6*time.Second {
			t.Error(got)
		}
		time.Sleep(6*time.Second + time.Millisecond)
		if got := a.take(); got != 0 {
			t.Error(got)
		}
		time.Sleep(time.Hour)
		for range 6 {
			a.take()
		}
		if a.take() == 0 {
			t.Error("more has come back than the limit")
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	r := to(t, server, "llm")
	r.Limit, r.Errors = route.Limit{Requests: 2, Per: time.Hour}, route.Anthropic
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{r}})
	for i, want := range []int{401, 200, 200, 429} {
		req := request(t, "GET", s.base+"/llm/", nil)
		if i > 0 {
			req.Header.Set("X-Api-Key", s.standIn["llm"])
		}
		resp, text := do(t, tool(t), req)
		if resp.StatusCode != want {
			t.Errorf("%d: %d %s", i, resp.StatusCode, text)
		}
		if want == 429 && (resp.Header.Get("Retry-After") != "1800" || !strings.Contains(text, "rate_limit_error") ||
			messageOf(t, route.Anthropic, resp, text) != "ccagent: the limit of route llm is reached (2/h)") {
			t.Errorf("%q %s", resp.Header, text)
		}
	}
}

// TestConnectTime: what does not connect within ten seconds is given up.
func TestConnectTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		front := newPipes()
		g, err := New(t.Context(), Options{Agent: &mint{}, Routes: route.Table{at(t, "llm", "https://llm.example.com")},
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		go g.Serve(front)
		client := &http.Client{Transport: &http.Transport{DialContext: front.dial, DisableKeepAlives: true}}
		began := time.Now()
		resp, err := client.Do(request(t, "GET", "http://gateway/llm/", nil, "X-Api-Key", g.Grants()[0].StandIn.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); resp.StatusCode != 502 || err != nil || time.Since(began) != connectTime {
			t.Errorf("%d %s after %v: %v", resp.StatusCode, text, time.Since(began), err)
		}
	})
}

// TestStrangers: connections without a stand-in are bounded in number, and cost the tool nothing.
func TestStrangers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{to(t, server, "llm")}, Streams: 3})
	connect := func() (net.Conn, func(standIn string) int) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		r := bufio.NewReader(conn)
		return conn, func(standIn string) int {
			fmt.Fprintf(conn, "GET /llm/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\n\r\n", standIn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return 0
			}
			io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
	}
	_, ask := connect()
	if status := ask(s.standIn["llm"]); status != 200 {
		t.Fatal(status)
	}
	first, refused := connect()
	if status := refused("fake-other"); status != 403 {
		t.Error(status)
	}
	for range 3 {
		_, another := connect()
		if status := another("fake-other"); status != 403 {
			t.Error(status)
		}
	}
	first.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := first.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
		t.Errorf("the oldest is still open: %v", err)
	}
	if status := ask(s.standIn["llm"]); status != 200 {
		t.Errorf("the tool's own connection: %d", status)
	}
	s.strangers.mu.Lock()
	defer s.strangers.mu.Unlock()
	if n := len(s.strangers.conns); n != 3 {
		t.Errorf("%d connections without a stand-in", n)
	}
}

package gateway

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/gateway/route"
)

// TestDecisionsHoldNoStandIn: wherever a tool puts it, and whatever the service does with the token.
func TestDecisionsHoldNoStandIn(t *testing.T) {
	t.Parallel()
	m := &mint{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(conn, "HTTP/1.1 "+r.Header.Get("Authorization")+"\r\n\r\n")
		conn.Close()
	}))
	defer server.Close()
	s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
	standIn := s.standIn["llm"]
	escaped := strings.Replace(standIn, "c", "%63", 1)
	for _, target := range []string{"/llm/a/" + standIn + "/b", "/" + standIn, "/llm/" + escaped, "/llm/a?key=" + standIn} {
		resp, text := do(t, tool(t), request(t, "GET", s.base+target, nil, "Authorization", "Bearer "+standIn))
		if resp.StatusCode == 200 || strings.Contains(text, m.token()) {
			t.Errorf("%s: %d %s", target, resp.StatusCode, text)
		}
	}
	do(t, tool(t), request(t, standIn, s.base+"/llm/a", nil, "Authorization", "Bearer "+standIn))
	for _, d := range s.decided(5) {
		for _, text := range []string{d.Method, d.Host, d.Path, d.Rule, d.Refused, d.Route} {
			if strings.Contains(text, standIn) || strings.Contains(text, escaped) || strings.Contains(text, m.token()) {
				t.Errorf("%+v", d)
			}
		}
		if !strings.Contains(d.Method+d.Path+d.Refused, "ccag_...") && !strings.HasSuffix(d.Path, "/a") {
			t.Errorf("it does not show that something is hidden: %+v", d)
		}
	}
}

// TestPeer: on a Unix socket the kernel says who sends a request.
func TestPeer(t *testing.T) {
	t.Parallel()
	peers := make(chan Peer, 1)
	g, err := New(t.Context(), Options{Agent: &mint{}, Decided: func(d Decision) { peers <- d.Peer }})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "peer") // short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", l.Addr().String())
	}}}
	do(t, client, request(t, "GET", "http://gateway/nosuch/a", nil))
	client.CloseIdleConnections()
	g.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if peer := <-peers; peer.PID != int32(os.Getpid()) || !strings.HasPrefix("gateway.test", peer.Program) {
		t.Errorf("the peer is %+v", peer)
	}
}

// TestByHost: who takes the gateway for the service is served without a base URL, and redirects stay as they are.
func TestByHost(t *testing.T) {
	t.Parallel()
	u, err := route.ParseUpstream("https://api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	table := route.Table{{Name: "api", Upstream: u, Errors: route.Plain, Foreign: route.Refuse}}
	s := start(t, Options{Agent: &mint{}, Routes: table})
	req := request(t, "GET", s.base+"/user?a=b", nil)
	req.Host = "api.example.com"
	if resp, text := do(t, tool(t), req); resp.StatusCode != 401 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if d := s.decided(1)[0]; d.Route != "api" || d.Host != "api.example.com" || d.Path != "/user" {
		t.Errorf("%+v", d)
	}
	const at = "https://api.example.com/users/1"
	x := &exchange{gateway: s.Gateway, base: "127.0.0.1:1", to: u}
	if got := x.location(at); got != "http://127.0.0.1:1/api/users/1" {
		t.Errorf("by base URL: %s", got)
	}
	x.base = ""
	if got := x.location(at); got != at {
		t.Errorf("by host: %s", got)
	}
}

//go:build e2e

package e2e

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// unharmed checks that the sign-in from before is served as it was.
func (h *home) unharmed(provider *oauthtest.Server, token, record string) {
	h.t.Helper()
	if got := h.token(); got != token || !provider.Live(got) {
		h.t.Errorf("token %s after a failed sign-in, was %s", got, token)
	}
	if h.read(gatewayRecord) != record {
		h.t.Error("the stored record has changed")
	}
}

const gatewayRecord = ".local/share/ccagent/gateway.json"

// Every step of a sign-in fails once, over a living sign-in: it says so, and the living one stays.
func TestLoginFaults(t *testing.T) {
	reply := func(f oauthtest.Fault) func(*oauthtest.Server) { return func(s *oauthtest.Server) { s.SetFault(f) } }
	id := func(f oauthtest.IDFault) func(*oauthtest.Server) { return func(s *oauthtest.Server) { s.ID = f } }
	faults := []struct {
		name  string
		fault func(*oauthtest.Server)
		exit  int
		why   string
		early bool // before a browser is opened
	}{
		{"code spent", reply(oauthtest.Fault{Status: 400, Body: `{"error":"invalid_grant","error_description":"code used"}`}), 9,
			"code used", false},
		{"client refused", reply(oauthtest.Fault{Status: 401, Body: `{"error":"invalid_client"}`}), 2, "invalid_client", false},
		{"rate limit", reply(oauthtest.Fault{Status: 429}), 9, "429", false},
		{"server error", reply(oauthtest.Fault{Status: 500}), 9, "500", false},
		{"truncated", reply(oauthtest.Fault{Truncate: true}), 9, "", false},
		{"a page", reply(oauthtest.Fault{Body: "<html>fake-secret-page</html>"}), 9, "", false},
		{"dropped", reply(oauthtest.Fault{Drop: true}), 9, "", false},
		{"slow", reply(oauthtest.Fault{Delay: 30 * time.Second}), 9, "not completed within", false},
		{"another issuer", id(oauthtest.IDFault{Issuer: "http://127.0.0.1:1"}), 2, "issuer", true},
		{"wrong key", id(oauthtest.IDFault{OtherKey: true}), 9, "ID token", false},
		{"alg none", id(oauthtest.IDFault{Unsigned: true}), 9, "ID token", false},
		{"wrong nonce", id(oauthtest.IDFault{Nonce: "fake-nonce"}), 9, "nonce", false},
		{"wrong audience", id(oauthtest.IDFault{Audience: "somebody"}), 9, "ID token", false},
		{"clock 10 minutes behind", id(oauthtest.IDFault{Clock: -10 * time.Minute}), 9, "expired", false},
		{"clock 10 minutes ahead", id(oauthtest.IDFault{Clock: 10 * time.Minute}), 9, "clock", false},
	}
	h, provider := newGatewayHome(t, "oidc", oauthtest.Options{})
	h.serve()
	h.signInTo()
	token, record := h.token(), h.read(gatewayRecord)
	for _, test := range faults {
		t.Run(test.name, func(t *testing.T) {
			h := *h
			h.t = t
			test.fault(provider)
			timeout := "1m"
			if test.name == "slow" {
				timeout = "2s"
			}
			l := h.login("--force", "--timeout", timeout)
			if !test.early {
				_, page := visit(t, l.address())
				if !strings.Contains(page, "You are not signed in") {
					t.Errorf("the browser's page does not say it:\n%s", page)
				}
			}
			r := l.finish()
			r.failed(t, test.exit, test.why)
			if strings.Contains(r.stderr, "fake-") && !strings.Contains(r.stderr, "fake-client") ||
				strings.Contains(r.stderr, "fake-secret-page") {
				t.Errorf("stderr holds what it should not:\n%s", r.stderr)
			}
			provider.SetFault(oauthtest.Fault{})
			provider.ID = oauthtest.IDFault{}
			h.unharmed(provider, token, record)
		})
	}
}

// What comes to the callback and is not the answer leaves the sign-in waiting for the one that is.
func TestLoginCallbacks(t *testing.T) {
	h, provider := newGatewayHome(t, "oidc", oauthtest.Options{})
	h.serve()
	l := h.login()
	address := l.address()
	asked, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	callback := asked.Query().Get("redirect_uri")
	get := func(address, host string) (int, http.Header, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(body)
	}
	right := url.Values{"state": {asked.Query().Get("state")}, "code": {"fake-code"}}
	for _, test := range []struct {
		name, address, host string
		status              int
	}{
		{"another path", strings.TrimSuffix(callback, "/callback") + "/", "", 404},
		{"wrong state", callback + "?code=fake-code&state=%3Cscript%3Ealert(1)%3C/script%3E", "", 400},
		{"no state", callback + "?error=access_denied", "", 400},
		{"another host", callback + "?" + right.Encode(), "evil.example:80", 403},
	} {
		status, header, page := get(test.address, test.host)
		if status != test.status || strings.Contains(page, "<script") || strings.Contains(page, "fake-code") {
			t.Errorf("%s: status %d, want %d\n%s", test.name, status, test.status, page)
		}
		if policy := header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("%s: policy %q", test.name, policy)
		}
	}
	// The person's browser asks twice, as browsers do.
	noRedirect := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := noRedirect.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	answer := resp.Header.Get("Location")
	provider.SetFault(oauthtest.Fault{Times: 1, Lag: 300 * time.Millisecond})
	pages := make(chan string, 2)
	for range 2 {
		go func() {
			resp, err := http.Get(answer)
			if err != nil {
				pages <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			pages <- string(body)
		}()
	}
	for range 2 {
		if page := <-pages; !strings.Contains(page, "You are signed in") {
			t.Errorf("a page says\n%s", page)
		}
	}
	l.finish().must(t)
	if n := provider.Counts(); n.Exchanges != 1 || n.Replays != 0 {
		t.Errorf("%+v: the code was used twice", n)
	}
}

func TestLoginWithoutTheMeans(t *testing.T) {
	t.Run("port taken", func(t *testing.T) {
		h, provider := newGatewayHome(t, "oidc", oauthtest.Options{})
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		_, port, _ := net.SplitHostPort(taken.Addr().String())
		h.config(gateway + dialects["oidc"](provider) + "redirect_port = " + port + "\n")
		h.login().finish().failed(t, 2, "port "+port)
	})
	t.Run("no browser", func(t *testing.T) {
		h, _ := newGatewayHome(t, "oidc", oauthtest.Options{})
		cmd := h.command(program("ccagent"), "login", "--browser")
		cmd.Env = append(cmd.Env, "BROWSER=", "PATH="+binDir)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd.Stderr = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		said, visited := "", false
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			said += string(buf[:n])
			if i := strings.Index(said, "http://"); i >= 0 && !visited && strings.Contains(said[i:], "\n") {
				visited = true
				address, _, _ := strings.Cut(said[i:], "\n")
				if _, page := visit(t, address); !strings.Contains(page, "You are signed in") {
					t.Errorf("the page says\n%s", page)
				}
			}
			if err != nil {
				break
			}
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(said, "no browser could be started") {
			t.Errorf("%v\n%s", err, said)
		}
		h.token()
	})
}

// The disk is full when the sign-in comes: it is served from memory, and saved later.
func TestLoginWhileTheStoreFails(t *testing.T) {
	needRoot(t)
	h, provider := newGatewayHome(t, "claude", oauthtest.Options{})
	h.config(
		gateway + strings.Replace(dialects["claude"](provider), `"file"`, `"claude-code"`, 1) + "config_dir = " + strconv.Quote(
			h.path(".claude"),
		) + "\n",
	)
	fs := mountStore(t, h)
	h.serve()
	fs.fill()
	l := h.login()
	visit(t, l.address())
	r := l.finish().must(t)
	if !strings.Contains(r.stderr, "memory") {
		t.Errorf("not a word of where it is:\n%s%s", r.stdout, r.stderr)
	}
	token := h.token()
	if !provider.Live(token) || h.profile("gateway").State != "unsaved" {
		t.Errorf("token %s, %+v", token, h.profile("gateway"))
	}
	fs.drain()
	wait(t, "the record to be saved", func() bool {
		data, err := os.ReadFile(h.credentialsFile())
		return err == nil && strings.Contains(string(data), token)
	})
}

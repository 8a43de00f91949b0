//go:build e2e

package e2e

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// newZitadel is a certified provider that we have not written, and returns its issuer.
func newZitadel(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := fmt.Sprintf("http://localhost:%d/", listener.Addr().(*net.TCPAddr).Port)
	// A native client's redirect is compared without its port (RFC 8252 section 7.3).
	storage.RegisterClients(storage.NativeClient("ccagent", "http://127.0.0.1/callback"))
	handler := exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), nil, false,
		op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return issuer
}

// TestBrowserLoginElsewhere walks a whole sign-in at a provider that knows nothing of us: discovery, a page with a password,
// ID token, userinfo, renewal with rotation, revocation.
func TestBrowserLoginElsewhere(t *testing.T) {
	issuer := newZitadel(t)
	h := newHome(t)
	h.config(
		gateway + fmt.Sprintf(
			"provider = \"oidc\"\nstore = \"file\"\nclient_id = \"ccagent\"\nissuer = %q\nscopes = [\"openid\", \"profile\", \"email\", "+
				"\"offline_access\"]\n",
			issuer,
		),
	)
	h.serve()
	b := newBrowser(t)

	l := h.login("--browser")
	b.do(
		chromedp.Navigate(l.address()),
		chromedp.WaitVisible(chromedp.CSS("#username")),
		chromedp.SendKeys(chromedp.CSS("#username"), "test-user@localhost"),
		chromedp.SendKeys(chromedp.CSS("#password"), "verysecure"),
		chromedp.Click(chromedp.CSS("button")),
	)
	b.last("elsewhere").check(t, "You are signed in")
	if r := l.finish().must(t); !strings.Contains(r.stdout, "signed in to gateway as test-user@zitadel.ch") {
		t.Errorf("login said %q", r.stdout)
	}
	if who := h.ccagent("whoami", "--refresh").must(t).stdout; !strings.Contains(who, "test-user@zitadel.ch") {
		t.Errorf("whoami: %s", who)
	}
	h.ccagent("validate", "--online").must(t)
	first := h.token()
	wait(t, "a renewal", func() bool { // one within 2 s of the sign-in is answered by it
		h.ccagent("refresh").must(t)
		return h.token() != first
	})
	h.ccagent("validate", "--online").must(t)
	if r := h.ccagent("logout").must(t); strings.Contains(r.stdout+r.stderr, "not revoked") {
		t.Errorf("logout said %s%s", r.stdout, r.stderr)
	}
	h.helper().fails(t, 3, "")
}

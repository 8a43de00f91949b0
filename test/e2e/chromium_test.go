//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// browser is a Chromium without a window, with one page.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	flags := append(
		chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(need(t, "chromium")),
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.WindowSize(900, 620),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), flags...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t, ctx}
	b.do(chromedp.Navigate("about:blank"))
	b.ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("chromium: %v", err)
	}
}

// ask returns what an action returns.
func ask[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.t.Fatalf("chromium: %v", err)
	}
	return v
}

// open opens an address and clicks.
func (b *browser) open(address, click string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address), chromedp.Click(chromedp.CSS(click)))
}

// lastPage is what a person sees at the end.
type lastPage struct {
	title, text string
	window      string // the window's title
	light, dark string // the ground's colour
	scripts     int
	wider       bool // than a telephone
}

// last reads the page at the end, and leaves pictures of it with the test's artifacts.
func (b *browser) last(name string) (p lastPage) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(chromedp.CSS("main footer"))) // the provider's pages have none
	p.title, p.text, p.window = ask(b, chromedp.Text(chromedp.CSS("h1"))), ask(b, chromedp.Text(chromedp.CSS("main"))), ask(b,
		chromedp.Title())
	p.scripts = ask(b, chromedp.Evaluate[int](`document.scripts.length`))
	p.light = b.picture(name, "light")
	p.dark = b.picture(name, "dark")
	b.do(chromedp.EmulateViewport(320, 560))
	b.picture(name+"-narrow", "light")
	p.wider = ask(b, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > 320`))
	b.do(chromedp.EmulateViewport(900, 620))
	return p
}

// picture takes one, for a person who likes it light or dark, and returns the ground's colour.
func (b *browser) picture(name, scheme string) (ground string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
	png := ask(b, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+"-"+scheme+".png"), png, 0o600); err != nil {
		b.t.Error(err)
	}
	return ask(b, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
}

// check checks what every last page has.
func (p lastPage) check(t *testing.T, title string) {
	t.Helper()
	if p.title != title || !strings.Contains(p.text, "ccagent") || !strings.Contains(p.text, "gateway") ||
		!strings.Contains(p.window, title) {
		t.Errorf("the page says %q; want %q, the program and the profile", p.text, title)
	}
	if p.light == p.dark || p.light == "rgba(0, 0, 0, 0)" {
		t.Errorf("its ground is %s in light and %s in dark: the style does not apply", p.light, p.dark)
	}
	if p.scripts != 0 || p.wider {
		t.Errorf("%d scripts; wider than a telephone: %v", p.scripts, p.wider)
	}
}

// TestBrowserLogin signs in as a person does: they click, and see how it ended.
func TestBrowserLogin(t *testing.T) {
	for dialect := range dialects {
		t.Run(dialect, func(t *testing.T) {
			h, provider := newGatewayHome(t, dialect, oauthtest.Options{Ask: true})
			h.serve()
			b := newBrowser(t)

			// No, at first.
			l := h.login()
			b.open(l.page(), "#deny")
			p := b.last("denied")
			p.check(t, "You are not signed in")
			l.finish().failed(t, 9, "denied")
			h.helper().fails(t, 3, "")

			// Yes, but the provider fails.
			provider.SetFault(
				oauthtest.Fault{Times: 1, Status: 500, Body: `{"error":"server_error","error_description":"<b>no</b> & never"}`},
			)
			l = h.login()
			b.open(l.page(), "#allow")
			p = b.last("failed")
			p.check(t, "You are not signed in")
			if !strings.Contains(p.text, "500") {
				t.Errorf("the page does not say why: %q", p.text)
			}
			l.finish().failed(t, 9, "500")

			// Yes.
			l = h.login()
			b.open(l.page(), "#allow")
			p = b.last("signed-in")
			if token := h.token("--no-start"); !provider.Live(token) { // once the page shows, it is true
				t.Errorf("token %s is dead", token)
			}
			p.check(t, "You are signed in")
			r := l.finish().must(t)
			if !strings.Contains(r.stdout, "signed in to gateway as alice@example.com") {
				t.Errorf("login said %q", r.stdout)
			}
			if who := h.ccagent("whoami").must(t).stdout; !strings.Contains(who, "alice@example.com") {
				t.Errorf("whoami: %s", who)
			}
			h.ccagent("validate", "--online").must(t)
			h.ccagent("refresh").must(t)
			if token := h.token(); !provider.Live(token) {
				t.Errorf("token %s is dead", token)
			}
			token := h.token()
			h.ccagent("logout").must(t)
			h.helper().fails(t, 3, "")
			if dialect == "oidc" && provider.Live(token) {
				t.Error("the token lives on after the logout")
			}
		})
	}
}

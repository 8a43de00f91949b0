//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// dialects are the ways to be signed in with a browser, each as a profile of config.toml named gateway at a provider.
var dialects = map[string]func(*oauthtest.Server) string{
	"claude": func(s *oauthtest.Server) string {
		return fmt.Sprintf(
			"provider = \"claude\"\nstore = \"file\"\nclient_id = \"fake-client\"\nauthorize_url = %q\ntoken_url = %q\nprofile_url = "+
				"%q\npaste_url = %q\n",
			s.AuthorizeURL(),
			s.TokenURL(),
			s.ProfileURL(),
			s.PasteURL(),
		)
	},
	"oidc": func(s *oauthtest.Server) string {
		return fmt.Sprintf(
			"provider = \"oidc\"\nstore = \"file\"\nclient_id = \"fake-client\"\nissuer = %q\nscopes = [\"openid\", \"offline_access\"]\n",
			s.Issuer(),
		)
	},
}

const gateway = "default_profile = \"gateway\"\n[profiles.gateway]\n"

// newGatewayHome is a home with a profile that nobody has signed in to.
func newGatewayHome(t *testing.T, dialect string, o oauthtest.Options) (*home, *oauthtest.Server) {
	t.Helper()
	h := newHome(t)
	o.ClientID = "fake-client"
	provider := oauthtest.New(t, o)
	h.config(gateway + dialects[dialect](provider))
	return h, provider
}

// login is a run of `ccagent login` whose browser does nothing but say where it was sent.
type login struct {
	h              *home
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	opened         string
	done           chan struct{}
}

func (h *home) login(args ...string) *login {
	h.t.Helper()
	l := &login{h: h, opened: h.root + "/opened", done: make(chan struct{})}
	os.Remove(l.opened)
	l.cmd = h.command(program("ccagent"), append([]string{"login"}, args...)...)
	l.cmd.Env = append(l.cmd.Env, "BROWSER="+h.browser())
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	if err := l.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { l.cmd.Wait(); close(l.done) }()
	h.t.Cleanup(func() { l.cmd.Process.Kill(); <-l.done })
	return l
}

// browser is a program that leaves what it is started with in the file argv, and the page that it is to open in the file opened.
func (h *home) browser() string {
	path := h.root + "/browser"
	script := fmt.Sprintf(
		"#!/bin/sh\nprintf %%s \"$*\" >%[1]s/argv && cp -p \"${1#file://}\" %[1]s/opening && mv %[1]s/opening %[1]s/opened\n",
		h.root,
	)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// address waits for the browser to be sent to the provider, and returns where.
func (l *login) address() string {
	l.h.t.Helper()
	wait(l.h.t, "the browser to be opened", func() bool {
		select {
		case <-l.done:
			l.h.t.Fatalf("login ended: %s%s", &l.stdout, &l.stderr)
		default:
		}
		return exists(l.opened)
	})
	return l.h.ledTo()
}

// page waits for the browser to be opened, and returns what it was started with.
func (l *login) page() string {
	l.h.t.Helper()
	l.address()
	argv, err := os.ReadFile(l.h.root + "/argv")
	if err != nil {
		l.h.t.Fatal(err)
	}
	return string(argv)
}

// ledTo is where the page leads that the browser was to open.
func (h *home) ledTo() string {
	h.t.Helper()
	page, err := os.ReadFile(h.root + "/opened")
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), `content="0; url=`)
	address, _, ok := strings.Cut(rest, `"`)
	if info, err := os.Stat(h.root + "/opened"); !ok || err != nil || info.Mode() != 0o600 {
		h.t.Fatalf("the browser was given %v, %v\n%s", info.Mode(), err, page)
	}
	return html.UnescapeString(address)
}

// finish waits for the end.
func (l *login) finish() result {
	l.h.t.Helper()
	select {
	case <-l.done:
	case <-time.After(time.Minute):
		l.h.t.Fatalf("login has not ended after a minute: %s%s", &l.stdout, &l.stderr)
	}
	return result{l.stdout.String(), l.stderr.String(), l.cmd.ProcessState.ExitCode()}
}

// failed checks a sign-in's failure: nothing on stdout, the exit code, and a last line that says why, with hints after it.
func (r result) failed(t *testing.T, exit int, why string) {
	t.Helper()
	i := strings.LastIndex("\n"+r.stderr, "\nccagent: ")
	if i < 0 || r.exit != exit || r.stdout != "" || !strings.Contains(r.stderr[i:], why) {
		t.Errorf("exit %d, stdout %q, stderr\n%s\nwant exit %d and a last word with %q", r.exit, r.stdout, r.stderr, exit, why)
	}
	if strings.ContainsAny(r.stderr, "\x1b\r") {
		t.Errorf("stderr is no terminal, and has %q", r.stderr)
	}
}

// visit is a browser without a person: it follows redirects to the end, and returns the last page.
func visit(t *testing.T, address string) (status int, page string) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// signInTo signs in to gateway, without a person.
func (h *home) signInTo() {
	h.t.Helper()
	l := h.login("--browser")
	visit(h.t, l.address())
	l.finish().must(h.t)
}

// answerTo is the address that the provider sends the browser to.
func answerTo(t *testing.T, address string) string {
	t.Helper()
	client := http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Location")
}

// visitQuietly is a visit whose end nobody waits for.
func visitQuietly(address string) {
	if resp, err := http.Get(address); err == nil {
		resp.Body.Close()
	}
}

// TestAnotherUserCompletesNoSignIn brings an answer from another user's process, who has got hold of the state.
func TestAnotherUserCompletesNoSignIn(t *testing.T) {
	alice, bob := credential(t, "ccagent-alice"), credential(t, "ccagent-bob")
	h, _ := newGatewayHome(t, "oidc", oauthtest.Options{})
	h.giveTo(alice)
	as := func(who *syscall.Credential, program string, args ...string) result {
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{"PATH=/usr/bin:/bin"}, &syscall.SysProcAttr{Credential: who}
		return finish(t, cmd)
	}
	const get = `
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=30).status)
except urllib.error.HTTPError as e:
    print(e.code)
`
	python := need(t, "/usr/bin/python3")
	l := h.login("--browser")
	answer, argv := answerTo(t, l.address()), l.page()
	if u, err := url.Parse(answer); err != nil || strings.Contains(argv, u.Query().Get("state")) {
		t.Errorf("the browser was started with %q, %v", argv, err)
	}
	if r := as(bob, "/bin/cat", strings.TrimPrefix(argv, "file://")); r.exit == 0 {
		t.Errorf("another user reads the page: %s", r.stdout)
	}
	for range 2 {
		if r := as(bob, python, "-c", get, answer); strings.TrimSpace(r.stdout) != "403" {
			t.Errorf("another user gets %s%s", r.stdout, r.stderr)
		}
	}
	if r := as(alice, python, "-c", get, answer); strings.TrimSpace(r.stdout) != "200" {
		t.Errorf("the person gets %s%s", r.stdout, r.stderr)
	}
	r := l.finish().must(t)
	if told := fmt.Sprintf("user %d of this machine sent an answer", bob.Uid); strings.Count(r.stderr, told) != 1 {
		t.Errorf("stderr\n%s\nwant once %q", r.stderr, told)
	}

	// Root forwards for others: without a terminal there is nobody to ask whose account it is.
	l = h.login("--browser", "--force")
	visitQuietly(l.address())
	l.finish().failed(t, 9, "does not say which of its users")
	if left, _ := filepath.Glob(h.root + "/*/ccagent-sign-in-*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	h.helper().must(t) // the earlier sign-in is as it was
}

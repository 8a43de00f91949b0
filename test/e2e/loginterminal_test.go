//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// newDeviceHome is a home with a profile whose provider offers codes for another device.
func newDeviceHome(t *testing.T) (*home, *oauthtest.Server) {
	t.Helper()
	h, provider := newGatewayHome(t, "oidc", oauthtest.Options{})
	h.serve()
	return h, provider
}

var userCode = regexp.MustCompile(`(?m)^ *(FAKE-\d{4}) *$`)

// userCode waits for the code that a person is to enter elsewhere.
func (tt *terminal) userCode() (code string) {
	tt.t.Helper()
	tt.until("the code for the other device", func(screen string) bool {
		if m := userCode.FindStringSubmatch(screen); m != nil {
			code = m[1]
		}
		return code != ""
	})
	return code
}

var pageAddress = regexp.MustCompile(`(?m)^(http://\S+state=\S+) *$`)

// address waits for the address that a person is to open, whatever the terminal's width made of it.
func (tt *terminal) address() (address string) {
	tt.t.Helper()
	tt.until("the address to open", func(string) bool {
		if m := pageAddress.FindStringSubmatch(tt.joined()); m != nil {
			address = m[1]
		}
		return address != ""
	})
	return address
}

func TestLoginByDevice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		columns int
		vars    []string
		qr      bool
		colour  bool
	}{
		{"wide", 100, nil, true, true},
		{"narrow", 40, nil, true, true},
		{"tiny", 20, nil, false, true},
		{"no colour", 100, []string{"NO_COLOR=1"}, true, false},
		{"dumb", 100, []string{"TERM=dumb"}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, provider := newDeviceHome(t)
			args := append(test.vars, program("ccagent"), "login", "--device")
			tt := h.terminal(test.columns, "/usr/bin/env", args...)
			code := tt.userCode()
			waiting := "left"
			if test.name == "dumb" {
				waiting = "at most"
			}
			tt.shows(waiting)
			screen := tt.screen()
			if qr := strings.Count(screen, "█")+strings.Count(screen, "▀")+strings.Count(screen, "▄") > 100; qr != test.qr {
				t.Errorf("a QR code: %v, want %v\n%s", qr, test.qr, screen)
			}
			if colour := strings.Contains(tt.painted(), "\x1b["); colour != test.colour {
				t.Errorf("colours or attributes: %v, want %v", colour, test.colour)
			}
			if !strings.Contains(screen, "/activate") && test.columns >= 40 {
				t.Errorf("no address:\n%s", screen)
			}
			provider.SlowDown(code)
			provider.Approve(code)
			tt.shows("signed in to gateway as alice@example.com")
			if exit := tt.exit(); exit != 0 {
				t.Errorf("exit code %d", exit)
			}
			if strings.Contains(tt.screen(), "left") {
				t.Errorf("the spinner is still there:\n%s", tt.screen())
			}
			h.token()
		})
	}
}

func TestLoginByDeviceFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		decide func(*oauthtest.Server, string) bool
		why    string
	}{
		{"denied", (*oauthtest.Server).Deny, "denied"},
		{"expired", (*oauthtest.Server).Expire, "expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newDeviceHome(t)
			h.signInTo()
			token, record := h.token(), h.read(gatewayRecord)
			tt := h.terminal(100, program("ccagent"), "login", "--device", "--force")
			test.decide(provider, tt.userCode())
			if exit := tt.exit(); exit != 9 || !strings.Contains(tt.screen(), test.why) {
				t.Errorf("exit code %d\n%s", exit, tt.screen())
			}
			h.unharmed(provider, token, record)
		})
	}
}

// Whatever is pasted, a bare code with its state or the whole address, is taken; what is not an answer is refused, and asked
// for again.
func TestLoginByPaste(t *testing.T) {
	for _, test := range []struct {
		dialect string
		columns int
		whole   bool
	}{
		{"oidc", 100, true}, {"oidc", 40, true}, {"claude", 100, false}, {"claude", 40, true},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			h, _ := newGatewayHome(t, test.dialect, oauthtest.Options{})
			h.serve()
			tt := h.terminal(test.columns, program("ccagent"), "login", "--paste")
			answer := answerTo(t, tt.address())
			tt.shows("press Enter")
			tt.types("nonsense")
			tt.press("Enter")
			tt.shows("ccagent: ")
			if !test.whole {
				u, err := url.Parse(answer)
				if err != nil {
					t.Fatal(err)
				}
				answer = u.Query().Get("code") + "#" + u.Query().Get("state")
			}
			tt.types(answer)
			tt.press("Enter")
			tt.shows("signed in to gateway")
			if exit := tt.exit(); exit != 0 {
				t.Errorf("exit code %d", exit)
			}
			if strings.Contains(tt.joined(), "fake-code") {
				t.Errorf("the code is shown:\n%s", tt.joined())
			}
			h.token()
		})
	}
}

// Ctrl-C in each phase: exit 130, a word that nothing was changed, the terminal as it was, nobody left, and the earlier sign-in
// whole.
func TestLoginInterrupted(t *testing.T) {
	for _, test := range []struct {
		name    string
		args    []string
		fault   oauthtest.Fault
		reached string
		further func(*testing.T, *oauthtest.Server, *terminal)
	}{
		{name: "question", reached: "replace it?"},
		{name: "paste", args: []string{"--force", "--paste"}, reached: "waiting for you"},
		{name: "device", args: []string{"--force", "--device"}, reached: "waiting for you"},
		{name: "browser", args: []string{"--force", "--browser"}, reached: "waiting for you"},
		{name: "exchange", args: []string{"--force", "--browser"}, fault: oauthtest.Fault{Delay: 20 * time.Second},
			reached: "waiting for you",
			further: func(t *testing.T, provider *oauthtest.Server, tt *terminal) {
				requests := provider.Counts().Requests
				go visitQuietly(tt.address())
				wait(t, "the exchange", func() bool { return provider.Counts().Requests > requests })
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newDeviceHome(t)
			h.signInTo()
			token, record := h.token(), h.read(gatewayRecord)
			provider.SetFault(test.fault)
			h.vars = []string{"BROWSER=" + h.browser()}
			// In a shell that shows afterwards whether the terminal is as it was.
			tt := h.terminal(
				100,
				"/bin/sh",
				append(
					[]string{
						"-c",
						`trap : INT; before=$(stty -g); "$@"; echo "exit $?"; [ "$before" = "$(stty -g)" ] && echo as it was`,
						"sh",
						program("ccagent"),
						"login",
					},
					test.args...)...)
			tt.shows(test.reached)
			if test.further != nil {
				test.further(t, provider, tt)
			}
			tt.press("C-c")
			tt.shows("ccagent: interrupted; nothing was changed")
			tt.shows("exit 130")
			tt.shows("as it was")
			provider.SetFault(oauthtest.Fault{})
			for _, p := range h.processes() {
				if len(p.args) > 1 && p.args[1] == "login" {
					t.Errorf("%v is left", p.args)
				}
			}
			h.unharmed(provider, token, record)
		})
	}
}

// Without a terminal nothing is asked, moved or painted, and the pasted answer comes by standard input.
func TestLoginWithoutATerminal(t *testing.T) {
	h, _ := newGatewayHome(t, "oidc", oauthtest.Options{})
	h.signInTo()
	r := h.ccagent("login")
	r.failed(t, 2, "signed in already")
	cmd := h.command(program("ccagent"), "login", "--force", "--paste")
	cmd.Stdin = strings.NewReader("nonsense\n")
	r = finish(t, cmd)
	if r.failed(t, 9, ""); !strings.Contains(r.stderr, "/authorize?") {
		t.Errorf("no address:\n%s", r.stderr)
	}
}

// Where nobody can say who brought the answer (root forwards for others), the person sees whose account it is and decides.
func TestLoginIsAcknowledged(t *testing.T) {
	for dialect := range dialects {
		t.Run(dialect, func(t *testing.T) {
			h, _ := newGatewayHome(t, dialect, oauthtest.Options{})
			h.giveTo(credential(t, "ccagent-alice"))
			h.vars = []string{"BROWSER=" + h.browser()}
			for _, test := range []struct {
				answer string
				exit   int
			}{{"n", 130}, {"", 130}, {"y", 0}} {
				tt := h.terminal(100, program("ccagent"), "login", "--browser")
				answer := tt.address()
				tt.types("typed before") // into the prompt for a paste
				go visitQuietly(answer)
				tt.shows("It is for alice@example.com; is that you? [y/N]")
				tt.types(test.answer)
				tt.press("Enter")
				if exit := tt.exit(); exit != test.exit {
					t.Errorf("%q: exit code %d, want %d", test.answer, exit, test.exit)
				}
				if test.exit == 0 {
					tt.shows("signed in to gateway as alice@example.com")
					h.token()
				} else {
					tt.shows("the sign-in for alice@example.com is discarded")
					h.helper().fails(t, 3, "")
				}
			}
		})
	}
}

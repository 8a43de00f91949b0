package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/cmd/ccagent/browser"
	"github.com/ccagent/ccagent/protocol"
)

// step shows one thing and returns its measured figure.
type step struct {
	title, about string
	run          func(*demo) (figure string, err error)
}

const demoHerd = 200

var demoSteps = []step{
	{"a sign-in is picked up", "only Claude Code's credentials file exists; the helper starts the agent", (*demo).pickUp},
	{"a person signs in",
		"`ccagent login` against an OpenID provider: authorization code with PKCE, answered on the loopback interface", (*demo).login},
	{"many requests cause one renewal", fmt.Sprintf("%d helpers at once want a token that has expired", demoHerd), (*demo).stampede},
	{"a revoked token is replaced", "the API refuses a token that has not expired; `ccagent refresh` gets a new one",
		(*demo).revoke},
	{"an outage is bridged", "the provider fails; helpers get the old token until it expires", (*demo).outage},
	{"a crash loses nothing", "kill -9 hits the agent while the provider rotates a refresh token for it", (*demo).crash},
}

// login shows a complete sign-in. If no person clicks, the demo plays the browser.
func (d *demo) login() (string, error) {
	wait := patient
	if d.clicks {
		wait = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(d.ctx, wait)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.self, "login", "person", "--provider", "oidc", "--issuer", d.server.Issuer(), "--client-id",
		"ccagent-demo", "--scope", "openid", "--store", "file", "--browser", "--timeout", wait.String())
	cmd.Env, cmd.Dir = append(slices.Clone(d.env), "BROWSER=true"), d.home
	said, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	began := time.Now()
	browsed, last := false, ""
	for lines := bufio.NewScanner(said); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, d.server.AuthorizeURL()) {
			browsed, began = true, time.Now()
			defer d.browse(ctx, line)()
		} else if line != "" && !strings.HasPrefix(line, "hint: ") {
			last = line
		}
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("ccagent login: %w: %s", err, last)
	}
	if !browsed {
		return "", errors.New("ccagent login printed no address")
	}
	took := time.Since(began)
	token, err := d.ask("-p", "person")
	if err != nil {
		return "", err
	}
	if err := d.accepted(token); err != nil {
		return "", err
	}
	who, err := d.run(d.self, "whoami", "person")
	if err != nil {
		return "", err
	}
	if !strings.Contains(who, "alice@example.com") {
		return "", errors.New("ccagent whoami does not say who signed in")
	}
	if d.clicks {
		return "alice@example.com, by your click", nil
	}
	return fmt.Sprintf("alice@example.com, %s from the browser's request to the end", millis(took)), nil
}

// browse shows the provider's page to the person, or plays the browser, which follows the redirects to the last page. done ends
// it.
func (d *demo) browse(ctx context.Context, address string) (done func()) {
	if d.clicks {
		fmt.Fprintf(d.out, "   click Allow at %s\n", address)
		done, _ = browser.Open(d.vars, address) // an error does not matter, because the person sees the address
		return done
	}
	// In the background, because the last page comes only when the sign-in has ended, and its output must be read until then.
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return // then the sign-in fails when its time is over
		}
		browser := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if resp, err := browser.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	return func() {}
}

// pickUp shows that a credentials file and a helper are enough.
func (d *demo) pickUp() (string, error) {
	signIn, err := d.signIn(".claude", 8*time.Hour)
	if err != nil {
		return "", err
	}
	began := time.Now()
	token, err := d.ask()
	if err != nil {
		return "", err
	}
	first := time.Since(began)
	if token != signIn.AccessToken {
		return "", errors.New("the token is not that of the sign-in")
	}
	if err := d.accepted(token); err != nil {
		return "", err
	}
	times := make([]time.Duration, 50)
	for i := range times {
		began := time.Now()
		again, err := d.ask()
		if err == nil && again != token {
			err = errors.New("the same request got another token")
		}
		if err != nil {
			return "", err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return fmt.Sprintf("%s with the agent's start, then %s a token (median of %d processes)", millis(first),
		millis(times[len(times)/2]), len(times)), nil
}

// stampede shows that requests that need the same renewal share it.
func (d *demo) stampede() (string, error) {
	signIn, err := d.signIn("herd", -time.Hour)
	if err != nil {
		return "", err
	}
	d.server.SetFault(oauthtest.Fault{Times: 1, Lag: 300 * time.Millisecond}) // a provider needs some time
	began := time.Now()
	tokens, errs := make([]string, demoHerd), make([]error, demoHerd)
	var herd sync.WaitGroup
	for i := range tokens {
		herd.Go(func() { tokens[i], errs[i] = d.ask("-p", "herd") })
	}
	herd.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	if err := d.accepted(tokens[0]); err != nil {
		return "", err
	}
	if distinct := len(slices.Compact(slices.Sorted(slices.Values(tokens)))); distinct != 1 {
		return "", fmt.Errorf("%d different tokens", distinct)
	}
	if got := d.server.Refreshes(signIn.RefreshToken); got != 1 {
		return "", fmt.Errorf("%d renewals at the provider", got)
	}
	return fmt.Sprintf("%d helpers, 1 renewal at the provider, %[1]d equal tokens in %s", demoHerd, millis(took)), nil
}

// revoke shows that a token is replaced that was revoked before its expiry.
func (d *demo) revoke() (string, error) {
	token, err := d.ask()
	if err != nil {
		return "", err
	}
	d.server.RevokeToken(token)
	if err := d.accepted(token); !errors.Is(err, errRefused) {
		return "", fmt.Errorf("the API does not refuse the revoked token: %v", err)
	}
	began := time.Now()
	if _, err := d.run(d.self, "refresh"); err != nil {
		return "", err
	}
	fresh, err := d.ask()
	if err != nil {
		return "", err
	}
	if err := d.accepted(fresh); err != nil {
		return "", err
	}
	return fmt.Sprintf("refused before, accepted after; a new token in %s", millis(time.Since(began))), nil
}

// outage has the provider fail while helpers want a token that lives longer than theirs.
func (d *demo) outage() (string, error) {
	const helpers = 25
	signIn, err := d.signIn("outage", 30*time.Minute)
	if err != nil {
		return "", err
	}
	old := signIn.AccessToken
	before := d.server.Counts().Requests
	d.server.SetFault(oauthtest.Fault{Status: http.StatusServiceUnavailable})
	for range helpers {
		token, err := d.ask("-p", "outage", "--min-ttl", "1h")
		if err == nil && token != old {
			err = errors.New("a helper got another token than the old one")
		}
		if err != nil {
			return "", err
		}
	}
	asked := d.server.Counts().Requests - before
	if asked == 0 || asked > helpers/2 {
		return "", fmt.Errorf("the provider was asked %d times for %d helpers", asked, helpers)
	}
	if err := d.accepted(old); err != nil {
		return "", err
	}
	d.server.SetFault(oauthtest.Fault{})
	began := time.Now()
	for time.Since(began) < patient {
		token, err := d.ask("-p", "outage", "--min-ttl", "1h")
		if err != nil {
			return "", err
		}
		if token != old {
			return fmt.Sprintf("%d helpers served meanwhile, %d of them asked the provider; renewed %s after it came back",
				helpers, asked, millis(time.Since(began))), d.accepted(token)
		}
		if err := d.pause(50 * time.Millisecond); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("no renewal within %s of the provider's return", patient)
}

// crash kills the agent after the provider has replaced the refresh token and before it has answered. That is when a sign-in is
// lost most easily. The worker has a session of its own, and saves what it gets. The helper that was waiting starts the next
// agent.
func (d *demo) crash() (string, error) {
	signIn, err := d.signIn("crash", -time.Hour)
	if err != nil {
		return "", err
	}
	status, err := d.client.Status(d.ctx, protocol.StatusRequest{})
	if err != nil {
		return "", err
	}
	d.server.SetFault(oauthtest.Fault{Times: 1, Lag: 400 * time.Millisecond})
	var token string
	answered := make(chan error, 1)
	go func() {
		var err error
		token, err = d.ask("-p", "crash")
		answered <- err
	}()
	for d.server.Refreshes(signIn.RefreshToken) == 0 {
		if err := d.pause(time.Millisecond); err != nil {
			return "", err
		}
		select {
		case err := <-answered:
			return "", fmt.Errorf("the helper's run ended before a renewal began: %v", err)
		default:
		}
	}
	killed := time.Now()
	if err := syscall.Kill(status.Agent.PID, syscall.SIGKILL); err != nil {
		return "", err
	}
	if err := <-answered; err != nil {
		return "", err
	}
	took := time.Since(killed)
	if err := d.accepted(token); err != nil {
		return "", err
	}
	next, err := d.client.Status(d.ctx, protocol.StatusRequest{})
	switch {
	case err != nil:
		return "", err
	case next.Agent.PID == status.Agent.PID:
		return "", errors.New("the agent was not killed")
	case d.server.Counts().Reuses > 0:
		return "", errors.New("a refresh token was used twice")
	case d.server.Refreshes(signIn.RefreshToken) != 1:
		return "", fmt.Errorf("%d renewals, one was needed", d.server.Refreshes(signIn.RefreshToken))
	}
	return fmt.Sprintf(
		"the helper has the renewed token %s after the kill, from the next agent; 1 renewal, no refresh token used twice",
		millis(took),
	), nil
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// herd runs n helpers at once and returns what each printed. A shell stands before each of them and waits for the end of a pipe,
// so that they are all there when it is closed.
func herd(t *testing.T, h *home, n int, args func(i int) []string) []string {
	t.Helper()
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	printed := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		cmd := h.command(
			"/bin/sh",
			append([]string{"-c", `read _ <&3; exec 3<&-; exec "$@"`, "sh", program("cchelper")}, args(i)...)...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &stdout, &stderr, []*os.File{gate}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("helper %d: %v: %s", i, err, stderr.String())
			}
			printed[i] = stdout.String()
		})
	}
	open.Close()
	all.Wait()
	return printed
}

func TestHerdCausesOneRenewal(t *testing.T) {
	for _, started := range []bool{true, false} {
		t.Run(fmt.Sprintf("agent running %v", started), func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			h.signIn(expired(provider.Issue()))
			provider.SetFault(oauthtest.Fault{Lag: 300 * time.Millisecond}) // time for them all to arrive
			n := 200
			if started {
				n = 1000
				h.serve()
			}
			printed := herd(t, h, n, func(int) []string { return []string{"--timeout", "50s"} })
			token := readStored(t, h.credentialsFile()).AccessToken
			for i, p := range printed {
				if p != token+"\n" {
					t.Fatalf("helper %d printed %q, want %q", i, p, token)
				}
			}
			if n := provider.Counts().Requests; n != 1 {
				t.Errorf("%d requests at the provider, want 1", n)
			}
			if a := h.agents(); len(a) != 1 {
				t.Errorf("%d agents: %v", len(a), a)
			}
		})
	}
}

func TestHerdOfTenProfiles(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	name := func(i int) string { return fmt.Sprintf("p%d", i%10) }
	config := ""
	for i := range 10 {
		config += claudeProfile(name(i), h.path(name(i)), provider)
		h.write(name(i)+"/.credentials.json", string(expired(provider.Issue()).CredentialsFile()))
	}
	h.config("default_profile = \"p0\"\n" + config)
	provider.SetFault(oauthtest.Fault{Lag: 300 * time.Millisecond})
	h.serve()
	printed := herd(t, h, 1000, func(i int) []string { return []string{"-p", name(i), "--timeout", "50s"} })
	for i, p := range printed {
		if want := readStored(t, h.path(name(i)+"/.credentials.json")).AccessToken; p != want+"\n" {
			t.Fatalf("a helper of %s printed %q, want %q", name(i), p, want)
		}
	}
	if n := provider.Counts(); n.Requests != 10 || n.Reuses != 0 {
		t.Errorf("%+v at the provider, want 10 requests", n)
	}
}

// Twenty forced renewals at once are one.
func TestTwentyRefreshesAreOne(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	h.serve()
	h.token()
	provider.SetFault(oauthtest.Fault{Lag: 300 * time.Millisecond})
	var all sync.WaitGroup
	for range 20 {
		cmd := h.command(program("ccagent"), "refresh")
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("refresh: %v %s", err, out)
			}
		})
	}
	all.Wait()
	if n := provider.Counts().Requests; n != 1 {
		t.Errorf("%d requests at the provider, want 1", n)
	}
}

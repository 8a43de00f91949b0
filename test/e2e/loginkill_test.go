//go:build e2e

package e2e

import (
	"math/rand/v2"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// `ccagent login` or the agent is killed at a random moment of each of 100 sign-ins over a living one: afterwards the old one or
// the new one is whole, and can be renewed.
func TestKillDuringLogin(t *testing.T) {
	for dialect := range dialects {
		t.Run(dialect, func(t *testing.T) {
			const kills = 50
			h, provider := newGatewayHome(t, dialect, oauthtest.Options{})
			a := h.serve()
			h.signInTo()
			old, renewed := 0, 0
			last := h.token()
			for i := range kills {
				provider.SetFault(oauthtest.Fault{Lag: 10 * time.Millisecond})
				l := h.login("--force")
				go func(address string) {
					client := http.Client{Timeout: 5 * time.Second}
					if resp, err := client.Get(address); err == nil { // often it is killed meanwhile
						resp.Body.Close()
					}
				}(l.address())
				time.Sleep(rand.N(70 * time.Millisecond)) // the moment; nothing below depends on which it is
				if i%2 == 0 {
					l.cmd.Process.Kill()
				} else {
					l.cmd.Process.Signal(syscall.SIGSTOP) // it would start another
					a.kill()
					l.cmd.Process.Kill()
					a = h.serve()
				}
				<-l.done
				provider.SetFault(oauthtest.Fault{})
				token := h.token()
				if !provider.Live(token) {
					t.Fatalf("token %s after a kill is dead", token)
				}
				if token == last {
					old++
				} else {
					renewed++
				}
				last = token
			}
			t.Logf("after %d kills the old sign-in was there, after %d the new one", old, renewed)
			if old == 0 || renewed == 0 {
				t.Error("the moments were not spread over the sign-ins")
			}
			h.ccagent("refresh").must(t)
			if token := h.token(); token == last || !provider.Live(token) {
				t.Errorf("token %s after the last renewal, want a new one that lives", token)
			}
			if n := provider.Counts(); n.Reuses != 0 || n.Replays != 0 {
				t.Errorf("%+v: something was used twice", n)
			}
		})
	}
}

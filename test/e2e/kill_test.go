//go:build e2e

package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// The agent is killed at a random moment of each of 200 renewals. Its worker goes on; what the provider rotated is saved, or
// found by the next load. The provider ends the sign-in at the first refresh token that it sees twice.
func TestKillAtRandomMoments(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	const kills = 200
	// The moments are spread over a whole renewal: the start of the worker, the provider's thinking, its answer's way, the save.
	provider.SetFault(oauthtest.Fault{Delay: 15 * time.Millisecond, Lag: 15 * time.Millisecond})
	before, during := 0, 0
	for range kills {
		a := h.serve()
		requests := provider.Counts().Requests
		refresh := h.command(program("ccagent"), "refresh", "--timeout", "20s")
		if err := refresh.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(100 * time.Millisecond)) // the moment; nothing below depends on which it is
		refresh.Process.Kill()                     // first: it would start another agent
		a.kill()
		refresh.Wait()
		if provider.Counts().Requests == requests {
			before++
		} else {
			during++
		}
	}
	t.Logf("killed %d times before the provider was asked, %d times after", before, during)
	if during == 0 || before == 0 {
		t.Error("the moments were not spread over the renewals")
	}
	provider.SetFault(oauthtest.Fault{})
	h.serve()
	h.ccagent("refresh").must(t)
	if token := h.token(); !provider.Live(token) {
		t.Error("the token is dead")
	}
	checkSignIn(t, h.credentialsFile(), provider)
	if n := provider.Counts(); n.Refreshes != n.Requests {
		t.Errorf("%+v: the provider refused some", n)
	}
}

// A worker that outlives its agent spills what it can't save, and the next agent's first load saves it.
func TestKillWhileTheStoreFails(t *testing.T) {
	needRoot(t)
	h, provider := newSignedIn(t, time.Hour)
	a := h.serve()
	first := h.token()
	provider.SetFault(oauthtest.Fault{Lag: 500 * time.Millisecond, Edit: func(map[string]any) { h.close() }})
	refresh := h.command(program("ccagent"), "refresh")
	if err := refresh.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, "the provider to be asked", func() bool { return provider.Counts().Refreshes == 1 })
	refresh.Process.Kill() // first: it would start another agent
	a.kill()
	refresh.Wait()
	wait(t, "the worker to end", func() bool { return len(h.processes()) == 0 })
	if s := readStored(t, h.credentialsFile()); s.AccessToken != first {
		t.Fatalf("the read-only store holds %s, not what it held before", s.AccessToken)
	}
	h.open()
	provider.SetFault(oauthtest.Fault{})
	h.serve()
	if token := h.token(); token == first || !provider.Live(token) {
		t.Errorf("token %s, want the one that the worker brought after the agent's death", token)
	}
	wait(t, "the spilled record to be saved", func() bool { return readStored(t, h.credentialsFile()).AccessToken != first })
	checkSignIn(t, h.credentialsFile(), provider)
	if n := provider.Counts().Requests; n != 1 {
		t.Errorf("%d requests at the provider, want 1", n)
	}
}

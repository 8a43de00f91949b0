package agent

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/protocol"
)

// TestReask has the same program ask twice, and another one once: the first is taken to have been refused, the other is not.
func TestReask(t *testing.T) {
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); child.Wait() })
	// Asked by us, the consumer is whoever runs the test; asked by our child, it is we.
	ours, theirs := int32(os.Getpid()), int32(child.Process.Pid)

	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		a := start(t, p, func(*Options) {})
		asks := func(pid int32) protocol.Token {
			t.Helper()
			got, err := a.Token(server.WithPeer(t.Context(), protocol.Peer{PID: pid}), protocol.TokenRequest{ReaskWindow: 4 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		renewed := func(want int, why string) {
			t.Helper()
			if n := p.renewed(); n != want {
				t.Fatalf("%s: %d renewals, want %d", why, n, want)
			}
		}
		first := asks(ours)
		renewed(1, "the first question")
		time.Sleep(time.Second)
		asks(ours)
		renewed(1, "a token that was renewed just now; the next refusal counts")
		time.Sleep(3 * time.Second)
		asks(theirs)
		renewed(1, "another program")
		if second := asks(ours); second.Value.Reveal() == first.Value.Reveal() {
			t.Error("the refused token was given again")
		}
		renewed(2, "asked again")
		time.Sleep(3 * time.Second)
		asks(ours)
		renewed(2, "once per window")
		time.Sleep(4 * time.Minute)
		asks(ours)
		renewed(2, "the tool's cache is over: no sign of a refusal")
		time.Sleep(time.Second)
		asks(ours)
		renewed(3, "a refusal in the next window")

		// How long a tool keeps a token is the client's to say, how often a guess is made is not.
		before := p.renewed()
		for i := range 6 * 60 {
			window := []time.Duration{time.Millisecond, 3 * time.Second, 4 * time.Minute, 10 * time.Hour}[i%4]
			req := protocol.TokenRequest{Profile: []string{"claude", "Claude"}[i%2], ReaskWindow: window}
			if _, err := a.Token(server.WithPeer(t.Context(), protocol.Peer{PID: ours}), req); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2500 * time.Millisecond)
		}
		if n := p.renewed() - before; n > 5 { // 15 minutes
			t.Errorf("%d renewals for clients that choose a window, want one in 4 minutes at most", n)
		}

		// What can't be renewed is given, with a line for the person.
		time.Sleep(5 * time.Minute)
		asks(ours)
		time.Sleep(3 * time.Second)
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeConfig, Message: "fake static key"} })
		if got := asks(ours); !strings.Contains(got.Notice, "probably refused") || !strings.Contains(got.Notice, "fake static key") {
			t.Errorf("notice %q", got.Notice)
		}
		if n := p.count(job.Renew); n < 4 {
			t.Errorf("%d jobs", n)
		}
	})
}

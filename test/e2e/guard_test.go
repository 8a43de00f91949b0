//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// claudeSession is a Claude Code that runs on and is asked one thing after another.
type claudeSession struct {
	in  io.WriteCloser
	out *bufio.Scanner
}

// newSession starts one in a folder, "" for the home, with more arguments.
func newSession(t *testing.T, h *home, env []string, dir string, args ...string) *claudeSession {
	t.Helper()
	cmd := h.command(need(t, partsDir()+"/claude"), slices.Concat(sessionArgs, args)...)
	cmd.Env = append(cmd.Env, env...)
	if dir != "" {
		cmd.Dir = dir
	}
	return converse(t, cmd)
}

// sessionArgs have Claude Code read one prompt after another.
var sessionArgs = []string{"-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"}

// converse starts a Claude Code that reads one prompt after another.
func converse(t *testing.T, cmd *exec.Cmd) *claudeSession {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	return &claudeSession{in, scanner}
}

// prompt asks whether the token is good, and returns what is wrong with the answer, "" for nothing.
func (s *claudeSession) prompt() string { return s.ask("is the token good?", answer) }

// ask asks, and returns the answer if it does not hold what is wanted, else "".
func (s *claudeSession) ask(question, want string) string {
	fmt.Fprintf(s.in, `{"type":"user","message":{"role":"user","content":%q}}`+"\n", question)
	for s.out.Scan() {
		var line struct {
			Type   string `json:"type"`
			Failed bool   `json:"is_error"`
			Result string `json:"result"`
		}
		if json.Unmarshal(s.out.Bytes(), &line) != nil || line.Type != "result" {
			continue
		}
		if line.Failed || !strings.Contains(line.Result, want) {
			return line.Result
		}
		return ""
	}
	return fmt.Sprintf("the session ended: %v", s.out.Err())
}

// wayOut is a proxy that lets nobody through, and notes who wanted to go to a provider.
func wayOut(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int32)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "platform.claude.com") || strings.HasPrefix(r.Host, "console.anthropic.com") {
			asked.Add(1)
		}
		http.Error(w, "no way", http.StatusForbidden)
	})}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return "http://" + ln.Addr().String(), asked
}

// TestClaudeCodeGuarded has five sessions of the real Claude Code work for three minutes with a sign-in whose tokens live 8 s,
// while its file is emptied twenty times and the agent is killed ten times: no prompt fails, and nobody but the agent renews.
func TestClaudeCodeGuarded(t *testing.T) {
	t.Parallel()
	const (
		sessions = 5
		length   = 3 * time.Minute
		kills    = 10
		stubs    = 20
	)
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: 8 * time.Second})
	h.config(fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = %q\n", provider.TokenURL()))
	h.signIn(provider.Issue())
	api := newMessagesAPI(t, provider.Live)
	out, asked := wayOut(t)
	a := h.serve()
	h.ccagent("guard", "claude-code", "--store", "file").must(t)
	if s := readStored(t, h.credentialsFile()); s.RefreshToken != "" || s.AccessToken == "" {
		t.Fatalf("the view is %+v", s)
	}

	stop := make(chan struct{})
	var all sync.WaitGroup
	var prompts atomic.Int32
	var failures sync.Map
	// A prompt that reads the file in the moment before a stub is mended finds nobody signed in. What is proven here is that it
	// is mended for the next one, so that none begins in that moment; kills come whenever they come.
	var mending sync.RWMutex
	var longest time.Duration
	env := append(claudeEnv(api), "HTTPS_PROXY="+out, "NO_PROXY=127.0.0.1")
	for i := range sessions {
		s := newSession(t, h, env, "")
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				mending.RLock()
				wrong := s.prompt()
				mending.RUnlock()
				if wrong != "" {
					failures.Store(fmt.Sprintf("session %d, prompt %d", i, n), time.Now().Format("15:04:05.000 ")+wrong)
					return
				}
				prompts.Add(1)
			}
		})
	}
	begun := time.Now()
	done := 0
	for step := range kills + stubs {
		time.Sleep(time.Until(begun.Add(length * time.Duration(step+1) / (kills + stubs + 1))))
		if step%3 == 2 {
			a.kill()
			a = h.serve()
			done++
			continue
		}
		mending.Lock()
		h.write("stub",
			`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0,"scopes":["user:inference"],"subscriptionType":"max"}}`)
		if err := os.Rename(h.path("stub"), h.credentialsFile()); err != nil {
			t.Fatal(err)
		}
		written := time.Now()
		wait(t, "the stub to be mended", func() bool {
			data, err := os.ReadFile(h.credentialsFile())
			return err == nil && strings.Contains(string(data), "fake-access-")
		})
		longest = max(longest, time.Since(written))
		mending.Unlock()
	}
	time.Sleep(time.Until(begun.Add(length)))
	close(stop)
	all.Wait()

	failures.Range(func(where, what any) bool {
		t.Errorf("%v: %v", where, what)
		return true
	})
	counts := provider.Counts()
	if counts.Reuses != 0 || counts.Refreshes != counts.Requests || counts.Refreshes < int(length/(8*time.Second)) {
		t.Errorf("at the provider: %+v", counts)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("Claude Code went to its provider %d times", n)
	}
	if n := prompts.Load(); n < 10*sessions {
		t.Errorf("%d prompts are too few to judge by", n)
	}
	t.Logf("%d prompts, %d renewals, %d kills, %d stubs, mended within %v", prompts.Load(), counts.Refreshes, done, stubs,
		longest.Round(time.Millisecond))
}

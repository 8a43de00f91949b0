//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// viewReader reads one view as its program does, and returns the token.
type viewReader struct {
	path string
	read func(content string) string
}

func bareToken(content string) string { return strings.TrimSpace(content) }

func envToken(content string) string {
	token, _ := strings.CutPrefix(strings.TrimSuffix(content, "\n"), "LLM_KEY=")
	return token
}

func claudeToken(content string) string {
	var file struct {
		ClaudeAiOauth stored `json:"claudeAiOauth"`
	}
	if json.Unmarshal([]byte(content), &file) != nil || file.ClaudeAiOauth.RefreshToken != "" ||
		file.ClaudeAiOauth.ExpiresAt <= time.Now().UnixMilli() {
		return ""
	}
	return file.ClaudeAiOauth.AccessToken
}

func sdkToken(content string) string {
	var file struct {
		Token string `json:"access_token"`
	}
	json.Unmarshal([]byte(content), &file)
	return file.Token
}

// viewedProfile is the profile work without its views.
func viewedProfile(provider *oauthtest.Server) string {
	return fmt.Sprintf("[profiles.work]\nprovider = \"claude\"\nstore = \"file\"\ntoken_url = %q\n", provider.TokenURL())
}

// TestViewsWhileRenewed reads five views of one sign-in without a pause, while it is renewed fifty times, and by itself after
// that. Every fifth worker is killed when it has just saved the record, which is when it writes views, and the agent five times.
// Each read finds a whole token that lives, and no refresh token. A sign-out takes all of them away.
func TestViewsWhileRenewed(t *testing.T) {
	t.Parallel()
	const renewals = 50
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: 16 * time.Second})
	h.write("run/in-place", "")
	h.config(viewedProfile(provider) + `
views = [
	{ kind = "token", path = "~/run/token" },
	{ kind = "token", path = "~/run/in-place", in_place = true },
	{ kind = "env", path = "~/run/env", name = "LLM_KEY" },
	{ kind = "claude-code", dir = "~/.w1" },
	"anthropic-sdk",
]
`)
	readers := []viewReader{
		{"run/token", func(content string) string { return content }}, {"run/in-place", bareToken}, {"run/env", envToken},
		{".w1/.credentials.json", claudeToken}, {".config/anthropic/credentials/work.json", sdkToken},
	}
	a := h.serve()
	h.importSignIn(provider)
	for _, r := range readers {
		wait(t, r.path, func() bool {
			content, _ := os.ReadFile(h.path(r.path))
			return provider.Live(r.read(string(content)))
		})
	}

	stop := make(chan struct{})
	var reading sync.WaitGroup
	var reads atomic.Int64
	for _, r := range readers {
		reading.Go(func() {
			for ; ; time.Sleep(100 * time.Microsecond) { // for the other tests
				select {
				case <-stop:
					return
				default:
				}
				content, err := os.ReadFile(h.path(r.path))
				reads.Add(1)
				if err != nil || !provider.Live(r.read(string(content))) || strings.Contains(string(content), "fake-refresh") {
					t.Errorf("%s holds %q, %v", r.path, content, err)
					return
				}
			}
		})
	}
	record := h.path(".local/share/ccagent/work.json")
	killed := 0
	for n := range renewals {
		if n%9 == 8 { // an agent renews ten times as often as it is asked, and then less often
			a.kill()
			a = h.serve()
		}
		time.Sleep(2100 * time.Millisecond) // a renewal that is younger than 2 s would be the answer
		asked := provider.Counts().Refreshes
		before, err := os.Stat(record)
		if err != nil {
			t.Fatal(err)
		}
		refresh := h.command(program("ccagent"), "refresh", "-p", "work")
		if err := refresh.Start(); err != nil {
			t.Fatal(err)
		}
		if n%5 == 4 {
			for deadline := time.Now().Add(30 * time.Second); ; { // without a pause, which could last until the worker has ended
				after, err := os.Stat(record)
				if err == nil && !os.SameFile(before, after) && provider.Counts().Refreshes > asked {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the record was not saved")
				}
			}
			time.Sleep(rand.N(3 * time.Millisecond)) // the moment; nothing below depends on which it is
			for _, p := range h.processes() {
				if len(p.args) > 1 && p.args[1] == "worker" && syscall.Kill(p.pid, syscall.SIGKILL) == nil {
					killed++
				}
			}
		}
		refresh.Wait() // of one whose worker was killed, the token counts
	}
	t.Logf("%d workers killed, %d renewals, %d reads", killed, provider.Counts().Refreshes, reads.Load())
	if n := provider.Counts(); n.Refreshes < renewals || n.Reuses != 0 || killed == 0 {
		t.Errorf("%+v, and %d workers killed", n, killed)
	}
	asked := provider.Counts().Refreshes
	wait(t, "two renewals that nobody has asked for", func() bool { return provider.Counts().Refreshes >= asked+2 })
	close(stop)
	reading.Wait()

	h.ccagent("logout", "work", "--yes").must(t)
	for _, r := range readers {
		content, err := os.ReadFile(h.path(r.path))
		switch emptied := r.path == "run/in-place"; {
		case emptied && (err != nil || len(content) != 0), !emptied && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("after the sign-out %s holds %q, %v", r.path, content, err)
		}
	}
	nothingBeside(t, h.path("run"))
	nothingBeside(t, h.path(".w1"))
}

// importSignIn gives the profile work a sign-in.
func (h *home) importSignIn(provider *oauthtest.Server) {
	h.t.Helper()
	h.write("sign-in.json", string(provider.Issue().CredentialsFile()))
	h.ccagent("import", h.path("sign-in.json"), "-p", "work").must(h.t)
	if err := os.Remove(h.path("sign-in.json")); err != nil {
		h.t.Fatal(err)
	}
}

// TestViewMounted: a view that is mounted here as a single file is written in place, and emptied by a sign-out.
func TestViewMounted(t *testing.T) {
	needRoot(t)
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.write("outside/token", "")
	h.write("run/token", "")
	mountFile(t, h.path("outside/token"), h.path("run/token"), false)
	h.config(viewedProfile(provider) + `views = [{ kind = "token", path = "~/run/token" }]`)
	h.serve()
	h.importSignIn(provider)
	shows := func(what string) {
		t.Helper()
		wait(t, what, func() bool {
			return h.read("outside/token") == h.token("-p", "work") && provider.Live(h.read("outside/token"))
		})
	}
	shows("the first token")
	h.ccagent("refresh", "-p", "work").must(t)
	shows("the second token")
	h.ccagent("lock").must(t)
	if got := h.read("outside/token"); got != "" {
		t.Errorf("locked, it holds %q", got)
	}
	h.ccagent("unlock").must(t)
	shows("the token after the lock")
	h.ccagent("logout", "work", "--yes").must(t)
	if got := h.read("outside/token"); got != "" {
		t.Errorf("signed out, it holds %q", got)
	}
	nothingBeside(t, h.path("run"))
}

// TestViewThatCantBeWritten: the token is served all the same, and it is said what is in the way. Once that is mended the view is
// written, though nobody asks.
func TestViewThatCantBeWritten(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config(viewedProfile(provider) + `
views = [{ kind = "token", path = "~/run/llm/token" }]
`)
	h.serve()
	h.importSignIn(provider)
	wait(t, "the view", func() bool { return exists(h.path("run/llm/token")) })
	for name, harm := range map[string]func(){
		"a folder in its place": func() {
			mkdir(t, h.path("run/llm"), 0o700)
			os.Remove(h.path("run/llm/token"))
			mkdir(t, h.path("run/llm/token"), 0o700)
		},
		"a folder for everybody": func() { mkdir(t, h.path("run/llm"), 0o777) },
		"a file in the place of its folder": func() {
			os.RemoveAll(h.path("run/llm"))
			h.write("run/llm", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			harm()
			token := h.token("-p", "work")
			wait(t, "the status to say so", func() bool {
				same := h.token("-p", "work") == token
				return same && strings.Contains(h.ccagent("status").stdout, "run/llm/token could not be written")
			})
			if p := h.profile("work"); p.State != "live" {
				t.Errorf("status %+v", p)
			}
			if r := h.ccagent("doctor"); !strings.Contains(r.stdout, "run/llm") {
				t.Errorf("doctor says %s", r.stdout)
			}
			if !strings.Contains(h.log(), "could not be written") {
				t.Error("the log does not have it")
			}
			if err := os.RemoveAll(h.path("run/llm")); err != nil {
				t.Fatal(err)
			}
			wait(t, "the view to be written", func() bool {
				content, _ := os.ReadFile(h.path("run/llm/token"))
				return provider.Live(string(content))
			})
			checkMode(t, h.path("run/llm/token"), 0o600)
		})
	}
}

// TestClaudeCodeWithAView runs Claude Code in a directory with nothing but a view: it shows the token, follows a renewal, and
// writes nothing into the file. With a token that has expired it says so, and the file stays.
func TestClaudeCodeWithAView(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	api := newMessagesAPI(t, provider.Live)
	h.config(viewedProfile(provider) + `views = [{ kind = "claude-code", dir = "~/.w1" }]`)
	a := h.serve()
	h.importSignIn(provider)
	ask := func() *exec.Cmd {
		cmd := claude(t, h, api)
		cmd.Env = append(cmd.Env, "CLAUDE_CONFIG_DIR="+h.path(".w1"))
		return cmd
	}
	for range 2 {
		wait(t, "the view", func() bool { return exists(h.path(".w1/.credentials.json")) })
		before := h.read(".w1/.credentials.json")
		answers(t, ask())
		if s := api.seen(); s[len(s)-1].Bearer != h.token("-p", "work") {
			t.Errorf("Claude Code showed %+v, want the profile's token", s[len(s)-1])
		}
		if after := h.read(".w1/.credentials.json"); after != before {
			t.Errorf("Claude Code made %s of %s", after, before)
		}
		h.ccagent("refresh", "-p", "work").must(t)
	}

	a.kill() // nobody renews
	stale := strings.Replace(h.read(".w1/.credentials.json"), `"expiresAt":`, `"expiresAt":1000000000000,"was":`, 1)
	h.write(".w1/.credentials.json", stale)
	provider.RevokeToken(claudeToken(strings.Replace(stale, "1000000000000", "9000000000000", 1)))
	r := finish(t, ask())
	t.Logf("at its expiry: exit %d, %s%s", r.exit, r.stdout, r.stderr)
	if r.exit == 0 {
		t.Error("Claude Code had an answer")
	}
	if after := h.read(".w1/.credentials.json"); after != stale {
		t.Errorf("at its expiry, Claude Code made %s of %s", after, stale)
	}
}

// TestSystemdReadsAView: the real systemd takes the token from a view of kind env, as EnvironmentFile of a service.
func TestSystemdReadsAView(t *testing.T) {
	c, _ := newAlice(t)
	c.write(".config/ccagent/config.toml", "[profiles.key]\nprovider = \"static\"\nstore = \"file\"\n"+
		`views = [{ kind = "env", path = "~/run/key.env", name = "LLM_KEY" }]`+"\n")
	const key = "fake-key:/+=@%,~x"
	c.must("echo '" + key + "' | ccagent add key --provider static --force && ccagent token -p key >/dev/null")
	said := c.must(`systemd-run --user --quiet --wait --pipe -p EnvironmentFile=$HOME/run/key.env printenv LLM_KEY`)
	if said != key {
		t.Errorf("the service has %q", said)
	}
}

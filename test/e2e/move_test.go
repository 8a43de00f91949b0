//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// killAll ends everything of ours at once, and what that has just begun to start: no worker is left to finish.
func (h *home) killAll() {
	wait(h.t, "everything to be gone", func() bool {
		left := h.processes()
		for _, p := range left {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
}

// TestKillWhileMoving: a record is moved to and fro, and every process is killed at a random moment of each move. One whole
// record is in force after each, and its refresh token is good at the end: it was neither lost nor sent twice.
func TestKillWhileMoving(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	h.write("key", key.String()+"\n")
	if err := os.Chmod(h.path("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.config(
		fmt.Sprintf("[profiles.work]\nprovider = \"claude\"\nstore = \"auto\"\nidentity = %q\ntoken_url = %q\n", h.path("key"),
			provider.TokenURL()),
	)
	h.write("sign-in", string(provider.Issue().CredentialsFile()))
	h.ccagent("import", "-p", "work", h.path("sign-in")).must(t)
	token := h.token("-p", "work")
	h.killAll()

	const kills = 200
	moved := 0
	for i := range kills {
		to := []string{"encrypted", "file"}[i%2]
		h.serve()
		move := h.command(program("ccagent"), "move", "work", to)
		if err := move.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(40 * time.Millisecond)) // the moment; nothing below depends on which it is
		h.killAll()
		move.Wait()
		h.serve()
		if got := h.token("-p", "work"); got != token {
			t.Fatalf("after kill %d the token is %s, and was %s", i, got, token)
		}
		if strings.Contains(h.profile("work").Location, "encrypted") == (to == "encrypted") {
			moved++
		}
		h.killAll()
	}
	t.Logf("%d of %d moves had been written down when they were killed", moved, kills)
	if moved == 0 || moved == kills {
		t.Error("the moments were not spread over the moves")
	}

	h.serve()
	h.ccagent("refresh", "-p", "work").must(t)
	h.ccagent("move", "work", "encrypted").must(t)
	h.ccagent("move", "work", "encrypted").must(t)
	if _, err := os.Stat(h.path(".local/share/ccagent/work.json")); !os.IsNotExist(err) {
		t.Errorf("a copy is left in the file: %v", err)
	}
	h.ccagent("refresh", "-p", "work").must(t)
	if n := provider.Counts(); n.Reuses != 0 {
		t.Errorf("%d refresh tokens were used twice", n.Reuses)
	}
}

// TestKillWhileThePassphraseChanges: afterwards the old one or the new one opens the store, and the record is there.
func TestKillWhileThePassphraseChanges(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.config("[profiles.work]\nprovider = \"static\"\nstore = \"encrypted\"\n")
	say := func(input string, args ...string) result {
		cmd := h.command(program("ccagent"), args...)
		cmd.Stdin = strings.NewReader(input)
		return finish(t, cmd)
	}
	say("fake passphrase 0\n", "unlock", "--create", "--passphrase-stdin").must(t)
	say("fake-key-1\n", "add", "work", "--provider", "static", "--store", "encrypted", "--force").must(t)
	h.killAll()
	known := "fake passphrase 0"
	for i := range 8 {
		next := fmt.Sprintf("fake passphrase %d", i+1)
		h.serve()
		change := h.command(program("ccagent"), "unlock", "--change", "--passphrase-stdin")
		change.Stdin = strings.NewReader(known + "\n" + next + "\n")
		if err := change.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(4 * time.Second)) // the moment; nothing below depends on which it is
		h.killAll()
		change.Wait()
		h.serve()
		if r := say(next+"\n", "unlock", "--passphrase-stdin"); r.exit == 0 {
			known = next
		} else {
			time.Sleep(time.Second) // the agent's own pause after a wrong passphrase
			say(known+"\n", "unlock", "--passphrase-stdin").must(t)
		}
		if got := h.token("-p", "work"); got != "fake-key-1" {
			t.Fatalf("after kill %d the key is %q", i, got)
		}
		h.killAll()
	}
}

// TestKillWhileImporting: every process is killed at a random moment of an import that replaces a record. The old record or the
// new one is in force after each, whole.
func TestKillWhileImporting(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config(fmt.Sprintf("[profiles.work]\nprovider = \"claude\"\nstore = \"file\"\ntoken_url = %q\n", provider.TokenURL()))
	var tokens [2]string
	for i := range tokens {
		s := provider.Issue()
		tokens[i] = s.AccessToken
		h.write(fmt.Sprintf("sign-in-%d", i), string(s.CredentialsFile()))
	}
	h.ccagent("import", "-p", "work", h.path("sign-in-0")).must(t)
	h.killAll()
	const kills = 100
	replaced, now := 0, 0
	for i := range kills {
		h.serve()
		command := h.command(program("ccagent"), "import", "--force", "-p", "work", h.path(fmt.Sprintf("sign-in-%d", 1-now)))
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(40 * time.Millisecond)) // the moment; nothing below depends on which it is
		h.killAll()
		command.Wait()
		h.serve()
		switch got := h.token("-p", "work"); got {
		case tokens[now]:
		case tokens[1-now]:
			now = 1 - now
			replaced++
		default:
			t.Fatalf("after kill %d the token is %s", i, got)
		}
		h.killAll()
	}
	t.Logf("%d of %d imports had come about when they were killed", replaced, kills)
	if replaced == 0 || replaced == kills {
		t.Error("the moments were not spread over the imports")
	}
	h.serve()
	h.ccagent("refresh", "-p", "work").must(t)
	if n := provider.Counts(); n.Reuses != 0 {
		t.Errorf("%+v", n)
	}
}

// TestKillWhileGuarding: a sign-in is guarded and given back again and again, and every process is killed at a random moment of
// each. It is in force after each, and good at the end.
func TestKillWhileGuarding(t *testing.T) {
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	h.config(fmt.Sprintf("[profiles.claude]\nprovider = \"claude\"\ntoken_url = %q\n", provider.TokenURL()))
	h.signIn(provider.Issue())
	token := h.token()
	h.killAll()
	const kills = 100
	guarded := 0
	for i := range kills {
		h.serve()
		args := []string{"guard", "claude-code", "--undo"}
		if i%2 == 0 {
			args = []string{"guard", "claude-code", "--store", "file"}
		}
		command := h.command(program("ccagent"), args...)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(200 * time.Millisecond)) // the moment; nothing below depends on which it is
		h.killAll()
		command.Wait()
		h.serve()
		if got := h.token(); got != token {
			t.Fatalf("after kill %d of %q the token is %s, and was %s", i, args, got, token)
		}
		if i%2 == 0 && strings.Contains(h.profile("claude").Location, "claude.json") {
			guarded++
		}
		h.killAll()
	}
	t.Logf("%d of %d were guarded when they were killed", guarded, kills/2)
	if guarded == 0 || guarded == kills/2 {
		t.Error("the moments were not spread over it")
	}
	h.serve()
	h.ccagent("guard", "claude-code", "--undo").must(t)
	h.ccagent("refresh").must(t)
	checkSignIn(t, h.credentialsFile(), provider)
	h.ccagent("guard", "claude-code", "--store", "file").must(t)
	h.ccagent("refresh").must(t)
	if s := readStored(t, h.credentialsFile()); s.RefreshToken != "" || !provider.Live(s.AccessToken) {
		t.Errorf("the view at the end is %+v", s)
	}
	if n := provider.Counts(); n.Reuses != 0 || n.Refreshes != n.Requests {
		t.Errorf("%+v", n)
	}
}

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

// killAll ends everything of ours at once: no worker is left to finish.
func (h *home) killAll() {
	for _, p := range h.processes() {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
	wait(h.t, "everything to be gone", func() bool { return len(h.processes()) == 0 })
}

// TestKillWhileMoving: a record is moved to and fro, and every process is killed at a random moment of each move. One whole record is in force after
// each, and its refresh token is good at the end: it was neither lost nor sent twice.
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
	h.config(fmt.Sprintf("[profiles.work]\nprovider = \"claude\"\nstore = \"auto\"\nidentity = %q\ntoken_url = %q\n", h.path("key"), provider.TokenURL()))
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

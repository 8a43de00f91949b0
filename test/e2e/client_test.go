//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"
	"time"
)

// The client that docs/protocol.md shows, in a language of its own, against a real agent.
func TestPythonClient(t *testing.T) {
	h, provider := newSignedIn(t, time.Hour)
	client, err := filepath.Abs("../../docs/client.py")
	if err != nil {
		t.Fatal(err)
	}
	python := need(t, "/usr/bin/python3")
	if r := h.run(python, "-I", client); r.exit != 5 || r.stdout != "" {
		t.Errorf("with no agent: exit %d, stdout %q, want 5", r.exit, r.stdout)
	}
	h.serve()
	if r := h.run(python, "-I", client).must(t); r.stdout != h.token()+"\n" {
		t.Errorf("printed %q, want %q", r.stdout, h.token())
	}
	if r := h.run(python, "-I", client, "nobody"); r.exit == 0 || r.stdout != "" || r.stderr == "" {
		t.Errorf("of a profile that is not there: exit %d, stdout %q, stderr %q", r.exit, r.stdout, r.stderr)
	}
	if n := provider.Counts().Requests; n != 0 {
		t.Errorf("%d renewals of a token that was live", n)
	}
}

package main

import (
	"strings"
	"testing"

	"github.com/ccagent/ccagent/store"
	"github.com/ccagent/ccagent/store/storetest"
)

// TestStore: the example is as good a store as ours are.
func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) func() store.Store {
		r, dir := &row{}, t.TempDir()
		return func() store.Store { return open(r, dir) }
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), t.TempDir(), &out); err != nil {
		t.Fatal(err)
	}
	if want := "the table holds [redacted] until 2027-01-01\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

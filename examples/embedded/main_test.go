package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), func(string) string { return "fake-key-1" }, &out); err != nil {
		t.Fatal(err)
	}
	if want := "profile main has a token of kind api-key and 10 characters\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	if err := run(t.Context(), func(string) string { return "" }, io.Discard); !errors.Is(err, protocol.ErrNotFound) {
		t.Errorf("without a key: %v", err)
	}
}

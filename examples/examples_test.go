// Package examples_test holds the examples to what they promise: each is short enough to be read at a glance.
package examples_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestExamplesAreShort(t *testing.T) {
	t.Parallel()
	programs, err := filepath.Glob("*/main.go")
	if err != nil || len(programs) < 5 {
		t.Fatalf("%d examples, %v", len(programs), err)
	}
	for _, path := range programs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n >= 60 {
			t.Errorf("%s has %d lines, 59 are the most", path, n)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "main_test.go")); err != nil {
			t.Errorf("%s is run by no test", path)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedFlags: cchelper takes the flags and knows the formats that documents show.
func TestDocumentedFlags(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	// Flags with small letters as their values: FORMAT stands for one.
	shown := regexp.MustCompile("cchelper((?: --?[a-z][a-z-]*(?:[ =][a-z0-9]+)?)+)")
	seen := 0
	for _, path := range append(paths, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shown.FindAllStringSubmatch(string(text), -1) {
			if strings.HasSuffix(m[1], " -f") {
				continue
			}
			seen++
			if _, err := parse(strings.Fields(m[1]), func(string) string { return "" }, "cchelper"); err != nil {
				t.Errorf("%s shows cchelper%s: %v", path, m[1], err)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d were found", seen)
	}
}

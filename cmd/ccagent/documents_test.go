package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestDocumentedCommands: every command and option of ccagent that a document shows is one that ccagent has.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	var paths []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	word := regexp.MustCompile(`^[a-z]+$`)
	seen := 0
	for _, path := range paths {
		if filepath.Base(path) == "CHANGELOG.md" { // tells of what was
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range shownCommands(string(text)) {
			name, rest, _ := strings.Cut(line, " ")
			if !word.MatchString(name) {
				continue
			}
			seen++
			command := app.Command(name)
			if command == nil {
				t.Errorf("%s: there is no command %s: ccagent %s", path, name, line)
				continue
			}
			for _, option := range options(rest) {
				if !hasFlag(command, option) {
					t.Errorf("%s: %s has no option --%s: ccagent %s", path, name, option, line)
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d commands were found in %d documents", seen, len(paths))
	}
}

// shownCommands are the arguments of ccagent in the blocks of code and the code spans of a document, each to the end of its
// command.
func shownCommands(text string) (found []string) {
	begin := regexp.MustCompile(`(?:^|[ /(])ccagent `)
	end := regexp.MustCompile("[|;#`)]|&&| -- ")
	span := regexp.MustCompile("`([^`]+)`")
	fenced := false
	for line := range strings.Lines(text) {
		var codes []string
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			codes = []string{line}
		default:
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				codes = append(codes, m[1])
			}
		}
		for _, code := range codes {
			for _, at := range begin.FindAllStringIndex(code, -1) {
				found = append(found, strings.TrimSpace(end.Split(code[at[1]:]+"\n", 2)[0]))
			}
		}
	}
	return found
}

// options are the long options among arguments.
func options(arguments string) (names []string) {
	for _, m := range regexp.MustCompile(`(?:^|[ \[])--([a-z][a-z-]*)`).FindAllStringSubmatch(arguments, -1) {
		names = append(names, m[1])
	}
	return names
}

func hasFlag(command *cli.Command, name string) bool {
	if name == "help" {
		return true
	}
	return slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

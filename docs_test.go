package ccagent_test

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// documents returns every Markdown file of the module with its text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found[path] = string(text)
		}
	}
	if len(found) < 2 {
		t.Fatalf("only %d documents found", len(found))
	}
	return found
}

var (
	link    = regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	target  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	finding = regexp.MustCompile(`\bfinding\{"([^"]+)"`)
	called  = regexp.MustCompile("(?m)(?:^ {4}|`)make ([a-z][a-z0-9-]*)")
)

// TestLinks: what a document points at within the repository is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	for path, text := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// TestMakeTargets: what a document tells people to make can be made.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, m := range target.FindAllSubmatch(makefile, -1) {
		targets[string(m[1])] = true
	}
	seen := 0
	for path, text := range documents(t) {
		for _, m := range called.FindAllStringSubmatch(text, -1) {
			seen++
			if !targets[m[1]] {
				t.Errorf("%s: make %s: there is no such target", path, m[1])
			}
		}
	}
	if seen == 0 {
		t.Error("no document mentions make")
	}
}

// TestTroubleshootingMessages: README's table is by error message, so each one there is one that the programs say.
func TestTroubleshootingMessages(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(documents(t)["README.md"], "\n| message | what to do |\n|---|---|\n")
	if !ok {
		t.Fatal("README has no table of messages")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		message, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if !ok {
			t.Errorf("not a message in backquotes: %s", line)
		}
		for part := range strings.SplitSeq(message, "…") {
			if part = strings.Trim(part, " :"); part != "" && !strings.Contains(source.String(), part) {
				t.Errorf("%q: no program says %q", message, part)
			}
		}
	}
}

// TestConfigReference has docs/config.md name every key of config.toml, in the words of the program's own check.
func TestConfigReference(t *testing.T) {
	source, err := os.ReadFile("cmd/ccagent/config.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile("`toml:\"([a-z_]+)\"`").FindAllStringSubmatch(string(source), -1)
	if len(keys) < 30 {
		t.Fatalf("%d keys were found", len(keys))
	}
	for _, key := range keys {
		if key[1] != "profiles" && key[1] != "client_secret" && !strings.Contains(string(text), "`"+key[1]+"`") {
			t.Errorf("docs/config.md says nothing of %s", key[1])
		}
	}
}

// TestDoctorFindings: docs/json.md names each finding that doctor's source names.
func TestDoctorFindings(t *testing.T) {
	t.Parallel()
	reference, err := os.ReadFile("docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, _ := filepath.Glob("cmd/ccagent/*.go")
	seen := 0
	for _, path := range sources {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range finding.FindAllSubmatch(source, -1) {
			seen++
			id := "`" + string(m[1]) // a name follows where the source has a blank at its end
			if !strings.HasSuffix(id, " ") {
				id += "`"
			}
			if !strings.Contains(string(reference), id) {
				t.Errorf("%s: docs/json.md does not name %q", path, m[1])
			}
		}
	}
	if seen == 0 {
		t.Error("no finding found")
	}
}

// TestWidth: lines fit .editorconfig's max_line_length. In a document, tables and code are as wide as they must be; in a
// program, the text of a raw string is.
func TestWidth(t *testing.T) {
	t.Parallel()
	const width = 130
	check := func(path string, number int, line string) {
		if n := utf8.RuneCountInString(line); n > width {
			t.Errorf("%s:%d has %d columns, and %d are the limit", path, number, n, width)
		}
	}
	for path, text := range documents(t) {
		fenced := false
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if !fenced && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "    ") {
				check(path, i+1, line)
			}
		}
	}
	for path, text := range sources(t) {
		raw := rawLines(path, text)
		for i, line := range strings.Split(text, "\n") {
			if !raw[i+1] {
				check(path, i+1, line)
			}
		}
	}
}

// sources are the Go files of the repository by their paths.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rawLines are the numbers of the lines that hold a part of a raw string.
func rawLines(path, text string) map[int]bool {
	files := token.NewFileSet()
	file := files.AddFile(path, -1, len(text))
	var s scanner.Scanner
	s.Init(file, []byte(text), nil, 0)
	lines := make(map[int]bool)
	for {
		pos, kind, literal := s.Scan()
		switch {
		case kind == token.EOF:
			return lines
		case kind == token.STRING && literal[0] == '`':
			first := file.Line(pos)
			for n := first; n <= first+strings.Count(literal, "\n"); n++ {
				lines[n] = true
			}
		}
	}
}

package ccagent_test

import (
	"encoding/xml"
	"errors"
	"go/scanner"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// documents returns every Markdown file of the module with its text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "cmd/cchelper/early/*.md"} {
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
	link    = regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`)
	target  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	finding = regexp.MustCompile(`\bFinding\{"([^"]+)"`)
	called  = regexp.MustCompile("(?m)(?:^ {4}|`)make ([a-z][a-z0-9-]*)")
)

// TestLinks: what a document points at within the repository is there, also the section.
func TestLinks(t *testing.T) {
	t.Parallel()
	all := documents(t)
	for path, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to := path
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if m[2] != "" && !slices.Contains(anchors(all[to]), m[2]) {
				t.Errorf("%s points at %s%s, and there is no such section", path, to, m[2])
			}
		}
	}
}

// anchors are the names that GitHub gives to a document's sections, each with its #.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile("(?m)^#+ (.+)$").FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return names
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

// TestTroubleshootingMessages: the table of messages in docs/errors.md has only messages that the programs say.
func TestTroubleshootingMessages(t *testing.T) {
	t.Parallel()
	source := programSource(t)
	_, table, ok := strings.Cut(documents(t)["docs/errors.md"], "\n| message | what to do |\n|---|---|\n")
	if !ok {
		t.Fatal("docs/errors.md has no table of messages")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		message, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if !ok {
			t.Errorf("not a message in backquotes: %s", line)
		}
		for part := range strings.SplitSeq(message, "…") {
			if part = strings.Trim(part, " :"); part != "" && !strings.Contains(source, part) {
				t.Errorf("%q: no program says %q", message, part)
			}
		}
	}
}

// programSource is the text of all Go files but the tests.
func programSource(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for path, text := range sources(t) {
		if !strings.HasSuffix(path, "_test.go") {
			all.WriteString(text)
		}
	}
	return all.String()
}

// TestReadmeIsShort: README leads to the documents, and does not replace them.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	const most = 150
	if n := strings.Count(documents(t)["README.md"], "\n"); n > most {
		t.Errorf("README has %d lines, and %d are the limit", n, most)
	}
}

// TestLibraryExample: the Go code that docs/library.md shows is that of examples/client, which is compiled and run.
func TestLibraryExample(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("examples/client/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(documents(t)["docs/library.md"], "\n```go\n")
	block, _, closed := strings.Cut(block, "```")
	if !ok || !closed {
		t.Fatal("docs/library.md shows no Go code")
	}
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(strings.ReplaceAll(line, `"gateway"`, "*profile")) // a flag of the example
		if !strings.Contains(string(example), line) {
			t.Errorf("docs/library.md shows %q, which examples/client does not have", line)
		}
	}
}

// TestRecording: docs/demo.svg can be drawn, and shows the demo's steps in the words of today's program (make recording).
func TestRecording(t *testing.T) {
	t.Parallel()
	file, err := os.Open("docs/demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var lines []string
	for d := xml.NewDecoder(file); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "text" {
				lines = append(lines, "")
			}
		case xml.CharData:
			if len(lines) > 0 {
				lines[len(lines)-1] += string(token)
			}
		}
	}
	source := programSource(t)
	steps := 0
	for _, line := range lines {
		number, title, ok := strings.Cut(strings.TrimSpace(line), ". ")
		if _, err := strconv.Atoi(number); !ok || err != nil {
			continue
		}
		if steps++; !strings.Contains(source, `"`+title+`"`) {
			t.Errorf("docs/demo.svg shows the step %q, which the demo does not have: make recording", title)
		}
	}
	if steps < 6 {
		t.Errorf("docs/demo.svg shows %d steps", steps)
	}
}

// TestContributingRuns: each test that CONTRIBUTING shows how to run is there, also a script.
func TestContributingRuns(t *testing.T) {
	t.Parallel()
	seen := 0
	for line := range strings.Lines(documents(t)["CONTRIBUTING.md"]) {
		run := regexp.MustCompile(`-run (\w+)(?:/(\w+))?`).FindStringSubmatch(line)
		if !strings.HasPrefix(line, "    ") || run == nil {
			continue
		}
		seen++
		dir := regexp.MustCompile(`\./\S+`).FindString(line)
		tests, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
		found := slices.ContainsFunc(tests, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && strings.Contains(string(text), "\nfunc "+run[1])
		})
		if !found {
			t.Errorf("%s has no test %s: %s", dir, run[1], line)
		}
		if run[2] != "" {
			if _, err := os.Stat(filepath.Join(dir, "testdata", run[2]+".txtar")); err != nil {
				t.Error(err)
			}
		}
	}
	if seen < 4 {
		t.Errorf("CONTRIBUTING shows how to run %d tests", seen)
	}
}

// TestMacCheckElsewhere: on a machine that is no Mac, the script says so and tries nothing.
func TestMacCheckElsewhere(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "darwin" {
		t.Skip("this is a Mac: make mac-check")
	}
	out, err := exec.Command("test/mac/check.sh").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "no Mac, so nothing was tried") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestConfigReference has docs/config.md name every key of config.toml, in the words of the program's own check.
func TestConfigReference(t *testing.T) {
	source, err := os.ReadFile("cmd/ccagent/config/config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"cmd/ccagent/config/gateway.go", "cmd/ccagent/config/sandbox.go"} {
		more, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, more...)
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
	sources, _ := filepath.Glob("cmd/ccagent/doctor/*.go")
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

package ccagent_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	heading  = regexp.MustCompile(`(?m)^#{2,3} (\d+(?:\.\d+)?) (.+)$`)
	citation = regexp.MustCompile(`§(\d+(?:\.\d+)*)`)
	foreign  = regexp.MustCompile(`(RFC \d+|supplement,)( §[\d.]+ and)?\s+([/#]+ )?$`) // what comes before another document's §
	opCode   = regexp.MustCompile(`(?m)^\tOp(\w+) +Op = \d+ +// §([\d.]+)`)
)

// TestCitations: each section of docs/protocol.md that the repository cites is there, and one of an operation has its name. A §
// is of that document unless an RFC or another standard is named right before it.
func TestCitations(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	titles := map[string]string{}
	for _, m := range heading.FindAllSubmatch(text, -1) {
		titles[string(m[1])] = string(m[2])
	}
	seen := 0
	for path, text := range citing(t) {
		for _, m := range citation.FindAllStringSubmatchIndex(text, -1) {
			if foreign.MatchString(text[max(m[0]-60, 0):m[0]]) {
				continue
			}
			seen++
			if section := text[m[2]:m[3]]; titles[section] == "" {
				line := 1 + strings.Count(text[:m[0]], "\n")
				t.Errorf("%s:%d cites §%s, which docs/protocol.md does not have", path, line, section)
			}
		}
	}
	if seen < 90 {
		t.Errorf("only %d citations were found", seen)
	}

	frames, err := os.ReadFile("protocol/frame.go")
	if err != nil {
		t.Fatal(err)
	}
	ops := opCode.FindAllStringSubmatch(string(frames), -1)
	for _, op := range ops {
		if titles[op[2]] != op[1] {
			t.Errorf("protocol/frame.go cites §%s for %s, which is about %s", op[2], op[1], titles[op[2]])
		}
	}
	if len(ops) < 8 {
		t.Errorf("only %d operations were found", len(ops))
	}
}

// citing returns the files that may cite the protocol, by their paths: programs and documents.
func citing(t *testing.T) map[string]string {
	t.Helper()
	all := maps.Clone(documents(t))
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".go", ".s", ".c", ".py"}, filepath.Ext(path)) {
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

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
)

// showDiff shows what would be changed in a file, and nothing else of it: settings may hold secrets. Nothing in it can move the
// terminal's cursor.
func showDiff(w io.Writer, path string, before, after []byte) {
	for _, line := range changedLines(diff.Diff(path, before, path+" (new)", after)) {
		fmt.Fprintln(w, sanitize(string(bytes.ReplaceAll(line, []byte("\t"), []byte("    ")))))
	}
}

// changedLines are the heads of a unified diff and the lines that go and come, without those around them, and without those that get
// no more than the comma that a new neighbour needs.
func changedLines(unified []byte) [][]byte {
	var lines [][]byte
	for line := range bytes.Lines(unified) {
		if line = bytes.TrimSuffix(line, []byte("\n")); !bytes.HasPrefix(line, []byte(" ")) {
			lines = append(lines, line)
		}
	}
	for i := 0; i < len(lines); i++ {
		if len(lines[i]) < 2 || lines[i][0] != '-' || bytes.HasPrefix(lines[i], []byte("---")) {
			continue
		}
		same := func(line []byte) bool {
			return len(line) > 1 && line[0] == '+' && bytes.Equal(bytes.TrimSuffix(line[1:], []byte(",")), bytes.TrimSuffix(lines[i][1:], []byte(",")))
		}
		if j := slices.IndexFunc(lines[i:], same); j > 0 {
			lines = slices.Delete(lines, i+j, i+j+1)
			lines = slices.Delete(lines, i, i+1)
			i--
		}
	}
	return lines
}

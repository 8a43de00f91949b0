package terminal

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
)

// ShowDiff shows what would be changed in a file, and nothing else of it: settings may hold secrets. Nothing in it can move the
// terminal's cursor.
func ShowDiff(w io.Writer, path string, before, after []byte) {
	for _, line := range changedLines(diff.Diff(path, before, path+" (new)", after)) {
		fmt.Fprintln(w, Sanitize(string(bytes.ReplaceAll(line, []byte("\t"), []byte("    ")))))
	}
}

// changedLines are the heads of a unified diff and the lines that go and come, without those around them, without those that get
// no more than the comma that a new neighbour needs, and without what else is on a line that holds a whole document.
func changedLines(unified []byte) [][]byte {
	var lines [][]byte
	for line := range bytes.Lines(unified) {
		if line = bytes.TrimSuffix(line, []byte("\n")); !bytes.HasPrefix(line, []byte(" ")) && !bytes.HasPrefix(line, []byte(`\`)) {
			lines = append(lines, line)
		}
	}
	for i := 0; i < len(lines); i++ {
		if len(lines[i]) < 2 || lines[i][0] != '-' || bytes.HasPrefix(lines[i], []byte("---")) {
			continue
		}
		same := func(line []byte) bool {
			return len(line) > 1 && line[0] == '+' &&
				bytes.Equal(bytes.TrimSuffix(line[1:], []byte(",")), bytes.TrimSuffix(lines[i][1:], []byte(",")))
		}
		if j := slices.IndexFunc(lines[i:], same); j > 0 {
			lines = slices.Delete(lines, i+j, i+j+1)
			lines = slices.Delete(lines, i, i+1)
			i--
		}
	}
	for i := 1; i < len(lines); i++ {
		was, is := lines[i-1], lines[i]
		if bytes.HasPrefix(was, []byte("-")) && bytes.HasPrefix(is, []byte("+")) && !bytes.HasPrefix(is, []byte("+++")) {
			lines[i-1], lines[i] = shorter(was, is)
		}
	}
	return slices.DeleteFunc(lines, func(line []byte) bool { return string(line) == "-…" || string(line) == "+…" })
}

// shorter leaves out the values of other keys that two versions of a line begin or end with.
func shorter(was, is []byte) (_, _ []byte) {
	a, b := was[1:], is[1:]
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	// The same may come twice in a row: what begins with its comma is the member that came or went.
	if longer := slices.MaxFunc([][]byte{a, b}, func(x, y []byte) int { return len(x) - len(y) }); head+tail == min(
		len(a),
		len(b),
	) &&
		len(a) != len(b) {
		for h := head; h > 0 && longer[h-1] == longer[len(longer)-1-tail-(head-h)]; h-- {
			if longer[h-1] == ',' {
				tail += head - h + 1
				head = h - 1
				break
			}
		}
	}
	cut := func(line []byte) []byte {
		before, middle, after := line[:head], line[head:len(line)-tail], line[len(line)-tail:]
		if i := bytes.LastIndexAny(before, "{[,"); i >= 0 && head+tail < min(len(a), len(b)) { // a value that changes, with its key
			before = append([]byte("…"), before[i+1:]...)
		} else if i >= 0 {
			before = []byte("…")
		}
		if bytes.Count(after, []byte(`"`)) > 1 {
			after = []byte("…")
		}
		if len(middle) == 0 && string(before) == "…" {
			after = nil // all that is left of the line is that it gets something
		}
		return slices.Concat(before, middle, after)
	}
	return slices.Concat(was[:1], cut(a)), slices.Concat(is[:1], cut(b))
}

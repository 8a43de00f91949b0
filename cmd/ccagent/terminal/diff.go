package terminal

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
)

// ShowDiff shows what would change in a file. It shows nothing else of the file, because settings may contain secrets. The text
// is sanitized.
func ShowDiff(w io.Writer, path string, before, after []byte) {
	for _, line := range changedLines(diff.Diff(path, before, path+" (new)", after)) {
		fmt.Fprintln(w, Sanitize(string(bytes.ReplaceAll(line, []byte("\t"), []byte("    ")))))
	}
}

// changedLines returns the heads of a unified diff and the lines that are removed and added. It leaves out the lines around
// these, and lines that only get or lose a comma because of a new neighbour. If a line is a whole document, it leaves out the
// rest of that line.
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

// shorter shortens two versions of a line to the part that differs, so that the values of other keys are not shown.
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
	// If the text repeats itself, the difference could begin at several places. Begin it with the comma before the member that was
	// added or removed.
	if longer := slices.MaxFunc([][]byte{a, b}, func(x, y []byte) int { return len(x) - len(y) }); head+tail == min(len(a),
		len(b)) &&
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
		if i := bytes.LastIndexAny(before, "{[,"); i >= 0 && head+tail < min(len(a), len(b)) { // show the key of a value that changes
			before = append([]byte("…"), before[i+1:]...)
		} else if i >= 0 {
			before = []byte("…")
		}
		if bytes.Count(after, []byte(`"`)) > 1 {
			after = []byte("…")
		}
		if len(middle) == 0 && string(before) == "…" {
			after = nil // nothing of this version is left to show
		}
		return slices.Concat(before, middle, after)
	}
	return slices.Concat(was[:1], cut(a)), slices.Concat(is[:1], cut(b))
}

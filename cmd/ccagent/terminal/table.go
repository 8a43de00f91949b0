package terminal

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is rows of cells; the first row is the heading. A cell may hold colours, which take no room.
type Table [][]string

// Write writes the rows with their columns aligned, each line cut to width unless that is 0. The last column is ragged.
func (t Table) Write(w io.Writer, width int) error {
	columns := make([]int, len(t[0]))
	for _, row := range t {
		for i, cell := range row {
			columns[i] = max(columns[i], CellWidth(cell))
		}
	}
	var text strings.Builder
	for _, row := range t {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", columns[i]-CellWidth(cell)+2))
			}
		}
		text.WriteString(Cut(strings.TrimRight(line.String(), " "), width))
		text.WriteByte('\n')
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// WritePairs writes rows of a name and a value, from outside perhaps, each on a line; - is for no value.
func (t Table) WritePairs(w io.Writer) error {
	for _, row := range t {
		if _, err := fmt.Fprintf(w, "%-13s %s\n", row[0]+":", Dash(row[1])); err != nil {
			return err
		}
	}
	return nil
}

// Dash is text for a terminal, - if it is empty.
func Dash(text string) string { return Sanitize(cmp.Or(text, "-")) }

// CellWidth counts the characters that are seen.
func CellWidth(cell string) int { return utf8.RuneCountInString(plain(cell)) }

// plain removes the colours, which are our own: outside text has no escapes left.
func plain(text string) string {
	for {
		before, after, ok := strings.Cut(text, "\x1b[")
		if !ok {
			return text
		}
		_, after, _ = strings.Cut(after, "m")
		text = before + after
	}
}

// Cut shortens a line to width characters, 0 for no limit. A line that is cut loses its colours.
func Cut(line string, width int) string {
	if width <= 0 || CellWidth(line) <= width {
		return line
	}
	return string([]rune(plain(line))[:max(width-1, 0)]) + "…"
}

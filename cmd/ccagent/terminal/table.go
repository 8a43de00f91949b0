package terminal

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is rows of cells. The first row is the heading. A cell may contain colours, which have no width.
type Table [][]string

// Write writes the rows with their columns aligned, and cuts each line to width characters unless that is 0. The last column is
// not padded.
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

// WritePairs writes rows of a name and a value, each on a line of its own. It sanitizes the values, and writes - for an empty
// one.
func (t Table) WritePairs(w io.Writer) error {
	for _, row := range t {
		if _, err := fmt.Fprintf(w, "%-13s %s\n", row[0]+":", Dash(row[1])); err != nil {
			return err
		}
	}
	return nil
}

// Dash sanitizes text for a terminal. It returns - for an empty one.
func Dash(text string) string { return Sanitize(cmp.Or(text, "-")) }

// CellWidth counts the characters of a cell, without its colours.
func CellWidth(cell string) int { return utf8.RuneCountInString(plain(cell)) }

// plain removes the colours. Any escape sequence is a colour of our own, because text from outside is sanitized.
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

// Cut shortens a line to width characters; 0 means no limit. A line that is shortened loses its colours.
func Cut(line string, width int) string {
	if width <= 0 || CellWidth(line) <= width {
		return line
	}
	return string([]rune(plain(line))[:max(width-1, 0)]) + "…"
}

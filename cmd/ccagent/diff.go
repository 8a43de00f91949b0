package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/rogpeppe/go-internal/diff"
)

// showDiff shows what a file is, or is to be, line by line. Nothing in it can move the terminal's cursor.
func showDiff(w io.Writer, path string, before, after []byte) {
	for line := range bytes.Lines(diff.Diff(path, before, path+" (new)", after)) {
		fmt.Fprintln(w, sanitize(string(bytes.ReplaceAll(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"), []byte("    ")))))
	}
}

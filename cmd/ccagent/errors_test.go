package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ccagent/ccagent/protocol"
)

// documentedError is a row of docs/errors.md: a condition of the predecessor's.
type documentedError struct {
	sentinel, message, hint string
	exit                    int
}

// documentedErrors reads the second table of docs/errors.md.
func documentedErrors() (map[string]documentedError, error) {
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		return nil, err
	}
	_, table, _ := strings.Cut(string(text), "| predecessor |")
	rows := map[string]documentedError{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\w+Error[^|]*) \\| `(\\w+)` \\| (\\d+) \\| `([^`]+)` \\| (?:`([^`]+)`)? "+
		"?\\|$").FindAllStringSubmatch(table, -1) {
		exit, _ := strconv.Atoi(m[3])
		rows[m[1]] = documentedError{sentinel: m[2], exit: exit, message: m[4], hint: m[5]}
	}
	return rows, nil
}

// documented runs a program that must fail as docs/errors.md says of the condition: documented CONDITION PROGRAM ARGUMENTS.
// A script can follow its hint, as that of what it meets.
func documented(ts *testscript.TestScript, neg bool, args []string) {
	rows, err := documentedErrors()
	ts.Check(err)
	row, ok := rows[args[0]]
	if neg || !ok {
		ts.Fatalf("docs/errors.md has no row of %q", args[0])
	}
	exits(ts, false, append([]string{strconv.Itoa(row.exit)}, args[1:]...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output holds %q", out)
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stderr")), "\n")
	for len(lines) > 0 && !strings.HasPrefix(lines[0], "ccagent: ") { // what a sign-in says while it waits
		lines = lines[1:]
	}
	text := strings.Join(lines, "\n")
	metBy.set(ts, met{rowPattern(row.message), strings.ReplaceAll(text, "hint: ", ""), args[1:]})
	what, hints, _ := strings.Cut(text, "\n")
	if !strings.Contains(what, row.message) || !strings.Contains(hints, row.hint) ||
		row.hint != "" && !strings.HasPrefix(hints, "hint: ") {
		ts.Fatalf("docs/errors.md has message %q and hint %q, and what was printed is:\n%s", row.message, row.hint, text)
	}
}

// TestErrorsAreDocumented holds docs/errors.md against the errors of package protocol, and against the script that produces each.
func TestErrorsAreDocumented(t *testing.T) {
	t.Parallel()
	rows, err := documentedErrors()
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/errors.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 11 {
		t.Errorf("docs/errors.md has %d conditions of the predecessor's, and there are 11", len(rows))
	}
	sentinels := map[string]error{
		"ErrConfig": protocol.ErrConfig, "ErrNotFound": protocol.ErrNotFound, "ErrLoginRequired": protocol.ErrLoginRequired,
		"ErrExpired": protocol.ErrExpired,
		"ErrDenied":  protocol.ErrDenied, "ErrUnavailable": protocol.ErrUnavailable, "ErrStorage": protocol.ErrStorage,
		"ErrInvalid": protocol.ErrInvalid,
		"ErrLogin":   protocol.ErrLogin, "ErrCallback": protocol.ErrCallback,
	}
	for name, row := range rows {
		if got := protocol.ExitCode(sentinels[row.sentinel]); sentinels[row.sentinel] == nil || got != row.exit {
			t.Errorf("%s: %s has exit code %d, and docs/errors.md says %d", name, row.sentinel, got, row.exit)
		}
		if !strings.Contains(string(script), "documented '"+name+"'") {
			t.Errorf("%s: no test produces it", name)
		}
	}
}

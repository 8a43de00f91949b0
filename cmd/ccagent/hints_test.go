package main

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ccagent/ccagent/protocol"
)

// hintCommands are the commands of scripts that follow the hints of docs/errors.md:
//
//	meets MESSAGE CODE PROGRAM ARGUMENTS    the program ends with the code, and says a message of docs/errors.md, written as there
//	follow REGEXP [WORD=VALUE ...]          the command in the hint of that message works; VALUE takes the place of a WORD in it.
//	                                        With -until before REGEXP it may fail at first: the agent does not ask a provider
//	                                        twice within a second, where a person takes longer. After a ! it fails, which shows
//	                                        the person why. With -add the hint names an option, and the command that was met
//	                                        works with it
//	left [CODE [PROGRAM ARGUMENTS]]         what was met is run again, or what the person goes on with: it ends with the code (0),
//	                                        and does not say the same
var hintCommands = map[string]func(*testscript.TestScript, bool, []string){
	"meets":  meets,
	"follow": follow,
	"left":   left,
}

// met is what a script has met last.
type met struct {
	row   *regexp.Regexp
	hints string // with the line of the message itself, as notices name commands there
	args  []string
}

var metBy ofScripts[met]

// rowPattern matches what a program prints for the message of a row, in which "…" stands for a name or the like.
func rowPattern(message string) *regexp.Regexp {
	var parts []string
	for part := range strings.SplitSeq(message, "…") {
		parts = append(parts, regexp.QuoteMeta(strings.TrimSpace(part)))
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}

// said is what a program has printed for a person.
func said(ts *testscript.TestScript) string { return ts.ReadFile("stderr") + ts.ReadFile("stdout") }

func meets(ts *testscript.TestScript, neg bool, args []string) {
	rows, err := hintRows()
	ts.Check(err)
	if neg || len(args) < 3 || !slices.Contains(rows, args[0]) {
		ts.Fatalf("usage: meets MESSAGE CODE PROGRAM [ARGUMENTS], with a message of docs/errors.md")
	}
	exits(ts, false, args[1:])
	m := met{row: rowPattern(args[0]), args: args[2:]}
	for line := range strings.Lines(said(ts)) {
		if hint, ok := strings.CutPrefix(line, "hint: "); ok || m.row.MatchString(line) {
			m.hints += hint
		}
	}
	if !m.row.MatchString(said(ts)) {
		ts.Fatalf("it does not say %q", args[0])
	}
	metBy.set(ts, m)
}

func follow(ts *testscript.TestScript, neg bool, args []string) {
	again, adds := len(args) > 0 && args[0] == "-until", len(args) > 0 && args[0] == "-add"
	if again || adds {
		args = args[1:]
	}
	if len(args) < 1 {
		ts.Fatalf("usage: follow [-until|-add] REGEXP [WORD=VALUE ...]")
	}
	// The command ends where a hint ends it, so that nothing of it is left out here.
	hints := metBy.of(ts).hints
	m := regexp.MustCompile("(?m)(?:^|[ `\"(])(" + args[0] + ")(?:[`\":;,)]|$)").FindStringSubmatch(hints)
	if m == nil {
		ts.Fatalf("no hint names %s:\n%s", args[0], hints)
	}
	command := m[1]
	for _, arg := range args[1:] {
		word, value, _ := strings.Cut(arg, "=")
		if !strings.Contains(command, word) {
			ts.Fatalf("there is no %s in %s", word, command)
		}
		command = strings.ReplaceAll(command, word, value)
	}
	if adds {
		typed := slices.Clone(metBy.of(ts).args)
		option, _, _ := strings.Cut(command, " ")
		if at := slices.Index(typed, option); at >= 0 { // another value
			typed = slices.Delete(typed, at, at+2)
		}
		command = protocol.ShellLine(typed...) + " " + command
	}
	if name, ok := strings.CutPrefix(command, "unset "); ok { // in the shell that a person goes on in
		ts.Setenv(name, "")
		return
	}
	if name, _, ok := strings.Cut(strings.TrimPrefix(command, "export "), "="); ok && strings.HasPrefix(command, "export ") {
		ts.Check(ts.Exec("sh", "-c", command+`; printf %s "$`+name+`"`))
		ts.Setenv(name, ts.ReadFile("stdout"))
		return
	}
	if again {
		until(ts, false, []string{"0", "sh", "-c", command})
		return
	}
	if err := ts.Exec("sh", "-c", command); (err != nil) != neg {
		ts.Fatalf("%s: %v", command, err)
	}
}

func left(ts *testscript.TestScript, neg bool, args []string) {
	m := metBy.of(ts)
	if neg {
		ts.Fatalf("usage: left [CODE [PROGRAM ARGUMENTS]]")
	}
	if len(args) < 2 {
		args = append(append(args, "0")[:1:1], m.args...)
	}
	exits(ts, false, args)
	if text := said(ts); m.row.MatchString(text) {
		ts.Fatalf("the hint has led back to where it came from:\n%s", text)
	}
}

// hintRows returns the messages of docs/errors.md for which there is something to do.
func hintRows() (rows []string, err error) {
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		return nil, err
	}
	_, table, _ := strings.Cut(string(text), "\n| message | what to do |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		messages, _, _ := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		rows = append(rows, strings.Split(messages, "`, `")...)
	}
	return rows, nil
}

// notFollowed are the messages of docs/errors.md whose hint is nothing that a script can do, each with the reason.
var notFollowed = map[string]string{
	"… begins with a byte order mark (BOM) …":                                   "an editor has to save the file in another way",
	"… does not say that it supports PKCE with S256 …":                          "only whoever runs the provider can mend that",
	"this socket does not give other tokens of a sign-in than its access token": "who exported it has to allow it",
	"no route covers …": "where a tool may go, a person decides",
	"… bytes (longer than the 16384 that a token may have) …":  "whoever issues the token has to shorten it",
	"a sandbox needs bubblewrap (bwrap), which is not on PATH": "a person has to install a package",
	"this machine allows no sandbox…":                          "whoever manages the machine has to allow it",
	"the sandbox would show the tool all of …":                 "where the project is, a person knows",
	"… kept out of the sandbox":                                "where the project is, a person knows",
	"the sandbox is not closed, so the tool was not run: …":    "it is a fault, of ours or of bubblewrap's",
}

// TestHintsAreFollowed: a script meets each message of docs/errors.md, does what its hint says, and sees that this has helped.
func TestHintsAreFollowed(t *testing.T) {
	t.Parallel()
	rows, err := hintRows()
	if err != nil || len(rows) < 20 {
		t.Fatalf("%d messages, %v", len(rows), err)
	}
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	followed := map[string]string{} // by message: the script
	step := regexp.MustCompile(`(?m)^(?:\[[^\]]*\] )?(?:meets '((?:[^']|'')*)' |(?:! )?(follow) |(left)\b)`)
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		message, following := "", false
		for _, m := range step.FindAllStringSubmatch(string(text), -1) {
			switch {
			case m[1] != "":
				message, following = strings.ReplaceAll(m[1], "''", "'"), false
			case m[2] != "":
				following = true
			case following && message != "": // what `documented` has met has a test of its own
				followed[message] = script
			}
		}
	}
	for _, row := range rows {
		if reason := notFollowed[row]; (followed[row] == "") == (reason == "") {
			t.Errorf("%q: it is followed by script %q, and the reason why none can is %q", row, followed[row], reason)
		}
	}
	for _, message := range slices.Concat(slices.Collect(maps.Keys(followed)), slices.Collect(maps.Keys(notFollowed))) {
		if !slices.Contains(rows, message) {
			t.Errorf("docs/errors.md does not have %q", message)
		}
	}
}

// TestHintedCommands: every command of ccagent that a text of the programs shows after a colon or in backquotes is one that
// ccagent has, with these options.
func TestHintedCommands(t *testing.T) {
	t.Parallel()
	app := newApp(strings.NewReader(""), io.Discard, io.Discard)
	shown := regexp.MustCompile("(?:: |[`(])ccagent ([a-z]+)([^`;,)\"\\\\]*)")
	seen := 0
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(strings.TrimSpace(line), "//") {
				continue
			}
			for _, m := range shown.FindAllStringSubmatch(line, -1) {
				command := app.Command(m[1])
				if command == nil && strings.HasSuffix(m[1], "s") { // "ccagent keeps ..." is a sentence
					continue
				}
				seen++
				arguments, _, _ := strings.Cut(m[2], " -- ")
				if command == nil || slices.ContainsFunc(options(arguments), func(name string) bool { return !hasFlag(command, name) }) {
					t.Errorf("%s: there is no such command, or no such option: ccagent %s%s", path, m[1], m[2])
				}
			}
		}
		return err
	})
	if err != nil || seen < 50 {
		t.Errorf("%d commands, %v", seen, err)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// Every command says what it does, and shows it. The CLI library keeps its help flag in a global: no two tests run the
// program in this process at once.
func TestHelp(t *testing.T) {
	for _, command := range commands() {
		if command.Hidden {
			continue
		}
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), []string{"ccagent", command.Name, "--help"}, strings.NewReader(""), &stdout,
			&stderr); code != 0 {
			t.Errorf("%s --help: exit code %d: %s", command.Name, code, &stderr)
		}
		_, example, _ := strings.Cut(stdout.String(), "EXAMPLE:\n")
		shown := command.Name
		if shown == "help" { // whose help is that of the whole
			shown = "status"
		}
		if !strings.Contains(strings.SplitN(example, "\n\n", 2)[0], "ccagent "+shown) {
			t.Errorf("%s --help has no example of its use:\n%s", command.Name, &stdout)
		}
		if command.Usage == "" || strings.HasSuffix(command.Usage, ".") {
			t.Errorf("%s: usage %q", command.Name, command.Usage)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestOutputFails(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"version"}, {"version", "--json"}, {"completion", "bash"}, {"token", "--help"}} {
		var stderr bytes.Buffer
		if code := run(context.Background(), append([]string{"ccagent"}, args...), strings.NewReader(""), fullDisk{},
			&stderr); code != 1 {
			t.Errorf("%v: exit code %d", args, code)
		}
		if got := stderr.String(); got != "ccagent: standard output could not be written: disk full\n" {
			t.Errorf("%v: stderr %q", args, got)
		}
	}
}

func TestPermute(t *testing.T) {
	t.Parallel()
	app := newApp(nil, nil, nil)
	for in, want := range map[string]string{
		"ccagent":                         "ccagent",
		"ccagent --help":                  "ccagent --help",
		"ccagent nosuch -x":               "ccagent nosuch -x",
		"ccagent status --json":           "ccagent status --json --",
		"ccagent add a --provider static": "ccagent add --provider static -- a",
		"ccagent add a --force --provider=command b c": "ccagent add --force --provider=command -- a b c",
		"ccagent add a --provider command -- b -c --":  "ccagent add --provider command -- a b -c --",
		"ccagent import - -p x":                        "ccagent import -p x -- -",
		"ccagent exec -p x prog -p y":                  "ccagent exec -p x -- prog -p y",
		"ccagent exec prog -p x -p y -- z":             "ccagent exec -- prog -p x -p y -- z",
		"ccagent add a --host b --host c -f -f":        "ccagent add --host b --host c -f -f -- a",
		"ccagent token -p":                             "ccagent token -p",
		"ccagent import file -p":                       "ccagent import -p",
	} {
		if got, err := permute(app, strings.Fields(in)); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %s, want %s, %v", in, got, want, err)
		}
	}
	if got, err := permute(app, nil); len(got) != 0 || err != nil {
		t.Errorf("no arguments: %q, %v", got, err)
	}
}

// TestGivenTwice tries each option of each command that has one value: given twice, neither of its values is taken.
func TestGivenTwice(t *testing.T) {
	t.Parallel()
	app := newApp(nil, nil, nil)
	for _, command := range app.Commands {
		for _, flag := range command.Flags {
			switch flag.(type) {
			case *cli.StringSliceFlag, *cli.IntSliceFlag, *cli.BoolFlag:
				continue
			}
			for _, second := range flag.Names() {
				first := dashed(flag.Names()[0])
				for _, line := range [][]string{
					{first, "a", dashed(second), "b"}, {first + "=a", dashed(second) + "=a"}, {first, "-p", dashed(second), ""},
				} {
					args := append([]string{"ccagent", command.Name}, line...)
					got, err := permute(app, args)
					if protocol.CodeOf(err) != protocol.CodeConfig || !strings.Contains(err.Error(), first) ||
						!strings.HasPrefix(protocol.HintOf(err), "give it once") {
						t.Errorf("%q: got %q, %v", args, got, err)
					}
				}
			}
		}
	}
	for line, want := range map[string]string{
		"ccagent token -p a --profile b":               "-p and --profile are the same option",
		"ccagent exec --env A --env B -- env":          "--env is given more than once",
		"ccagent exec -p a -p a env":                   "-p is given more than once",
		"ccagent add a --provider static --provider=b": "--provider is given more than once",
		"ccagent setup git --yes=false -y":             "--yes and -y are the same option",
		"ccagent forward -p a -p b host -- -p c":       "",
		"ccagent status --prompt -p a -p b":            "-p is given more than once",
		"ccagent setup git -n -n --host a --host b":    "",
		"ccagent exec -p a -- sh -p b -p c":            "",
		"ccagent import file -- -p -p":                 "",
	} {
		_, err := permute(app, strings.Fields(line))
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: got %v, want %q", line, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"stauts": "status", "statu": "status", "tokne": "token", "e": "", "": "", "xyzzy": "",
		"lst": "list"} {
		if got := nearest(commands(), in); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTokenEnvironment(t *testing.T) {
	t.Parallel()
	all := []string{
		"A=1",
		"ANTHROPIC_AUTH_TOKEN=fake",
		"ANTHROPIC_API_KEY=fake",
		"CLAUDE_CODE_OAUTH_TOKEN=fake",
		"ANTHROPIC_API_KEY_X=2",
	}
	for name, want := range map[string]string{
		"CLAUDE_CODE_OAUTH_TOKEN": "A=1 ANTHROPIC_API_KEY_X=2 CLAUDE_CODE_OAUTH_TOKEN=new",
		"ANTHROPIC_API_KEY":       "A=1 CLAUDE_CODE_OAUTH_TOKEN=fake ANTHROPIC_API_KEY_X=2 ANTHROPIC_API_KEY=new",
		"ANTHROPIC_AUTH_TOKEN": "A=1 ANTHROPIC_API_KEY=fake CLAUDE_CODE_OAUTH_TOKEN=fake ANTHROPIC_API_KEY_X=2 " +
			"ANTHROPIC_AUTH_TOKEN=new",
		"A": "ANTHROPIC_AUTH_TOKEN=fake ANTHROPIC_API_KEY=fake CLAUDE_CODE_OAUTH_TOKEN=fake " +
			"ANTHROPIC_API_KEY_X=2 A=new",
	} {
		if got := strings.Join(tokenEnvironment(slices.Clone(all), name, "new"), " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status := protocol.Status{
		Agent: protocol.AgentStatus{
			PID:            7,
			Version:        "v1",
			Socket:         "/run/a.sock",
			Started:        now.Add(-time.Hour),
			Requests:       3,
			Memory:         3 << 20,
			DefaultProfile: "CLAUDE", Here: "CLAUDE",
			ConfigError: "line\x1b one", ConfigHint: "fix\x1b it",
		},
		Profiles: []protocol.ProfileStatus{
			{
				Name:        "claude",
				State:       protocol.StateLive,
				HasToken:    true,
				Expiry:      now.Add(6 * time.Hour),
				Issued:      now.Add(-2 * time.Hour),
				LastRenewal: now.Add(-2 * time.Hour),
				Location:    "/f",
			},
			{Name: "down", State: protocol.StateBackoff, Retry: now.Add(time.Minute), LastError: "no\nroute",
				LastHint: "first: ccagent doctor\nthen ask again", Store: "none"},
			{Name: "key", State: protocol.StateLive, HasToken: true, Location: "memory"},
			{Name: "old", State: protocol.StateSignIn, HasToken: true, Expiry: now.Add(-time.Second), Issued: now.Add(-time.Hour)},
		},
	}
	want := `agent 7, version v1, up 1h00m, at /run/a.sock
3 requests, 0 renewals, 0 connections, memory 3.0 MiB
config.toml can't be used: line\x1b one
  hint: fix\x1b it

PROFILE   STATE                       LEFT           RENEWED    STORED IN
claude *  live                        6h00m          2h00m ago  /f
down      backing off until TT:TT:TT  -              -          none
key       live                        never expires  -          memory
old       sign-in needed              expired        -          -

down: no\nroute
  hint: first: ccagent doctor
  hint: then ask again
`
	want = strings.ReplaceAll(want, "TT:TT:TT", now.Add(time.Minute).Local().Format("15:04:05"))
	if got := (screen{program: "v1"}).render(now, status); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	upgraded := "memory 3.0 MiB\nthe agent's version is not that of this program, v2; " +
		"run ccagent stop, and the next request starts a new agent\n"
	if got := (screen{program: "v2"}).render(now, status); !strings.Contains(got, upgraded) {
		t.Errorf("an agent from before an upgrade is not told:\n%s", got)
	}
	tty := screen{width: 60, bars: true, colour: true, program: "v1"}.render(now, status)
	if !strings.Contains(tty, "███████░░░ 6h00m") {
		t.Errorf("no bar in\n%s", tty)
	}
	for line := range strings.Lines(tty) {
		if n := terminal.CellWidth(strings.TrimSuffix(line, "\n")); n > 60 {
			t.Errorf("%d characters in %q", n, line)
		}
	}
	// Where there is not room for all, the profiles that nobody asked for go first, and no line is lost unseen.
	for i := range 30 {
		status.Profiles = append(
			[]protocol.ProfileStatus{{Name: fmt.Sprintf("a%02d", i), State: protocol.StateIdle}},
			status.Profiles...)
	}
	small := screen{width: 30, height: 19, program: "v1"}.render(now, status)
	if n := strings.Count(small, "\n"); n != 18 {
		t.Errorf("%d lines and the cursor's on 19:\n%s", n, small)
	}
	for _, want := range []string{"agent 7", "claude *  live", "\nold ", "\n... and 28 more\n", "\ndown: no\\nroute\n"} {
		if !strings.Contains(small, want) {
			t.Errorf("no %q in\n%s", want, small)
		}
	}
	if tiny := (screen{width: 30, height: 4}).render(now, status); strings.Count(tiny, "\n") != 3 {
		t.Errorf("4 lines:\n%s", tiny)
	}
	if narrow := (screen{width: 60, colour: true}).render(now, protocol.Status{Profiles: status.Profiles[32:33]}); !strings.Contains(
		narrow,
		"\x1b[32mlive\x1b[0m",
	) {
		t.Errorf("no colour in %q", narrow)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                        "\n",
		"one two":                 "one two\n",
		"one two three":           "one two\nthree\n",
		"one /long/path/ö":        "one\n/long/p\nath/ö\n",
		"/a/very/long/path there": "/a/very\n/long/p\nath\nthere\n",
	} {
		if got := (screen{width: 7}).wrap(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := (screen{}).wrap("as long as it is"); got != "as long as it is\n" {
		t.Errorf("without a limit: %q", got)
	}
}

// The documents of --json are described, key by key.
func TestJSONIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "json.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range commands() {
		has := slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return f.Names()[0] == "json" })
		if described := strings.Contains(string(text), "## `ccagent "+command.Name+" --json`"); has != described {
			t.Errorf("%s: --json %t, described %t", command.Name, has, described)
		}
	}
	status := newStatusJSON(protocol.Status{Profiles: []protocol.ProfileStatus{{Note: "fake note"}}}, nil, nil)
	if note := status.Profiles[0].Note; note != "fake note" {
		t.Errorf("a profile's note is %q", note)
	}
	for _, document := range []any{statusJSON{}, agentJSON{}, profileJSON{}, listJSON{}, listProfileJSON{}, choice{}, tokenJSON{},
		refreshJSON{}, validateJSON{}, versionJSON{}, checkJSON{},
		sessionJSON{}, audit.Entry{}, audit.Began{}} {
		for _, key := range jsonKeys(document) {
			if !strings.Contains(string(text), "`"+key+"`") {
				t.Errorf("%T: key %s is not described", document, key)
			}
		}
	}
}

func jsonKeys(document any) []string {
	var keys []string
	for _, field := range reflect.VisibleFields(reflect.TypeOf(document)) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if key == "" { // it is not printed
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

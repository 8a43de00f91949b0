package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
)

var static = Table{Provider: "static"}

func ptr(s string) *string { return &s }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAddProfile(t *testing.T) {
	t.Parallel()
	env, path := home(t, "# mine\ndefault_profile = 'a' # yes\n\n[profiles.a]\nprovider='static' # odd  spacing\n# the end")
	before := read(t, path)
	table := Table{
		Provider: "command",
		Command:  []string{"sh", "-c", "echo \"a\\b\"\n\t\x7f é"},
		TTL:      ptr("30m"),
		Timeout:  ptr("5s"),
		Hosts:    []string{"a.example"},
	}
	edit, err := Add(t.Context(), env, "b.c", table, false)
	if err != nil {
		t.Fatal(err)
	}
	want := before + "\n\n" + `[profiles."b.c"]
provider = "command"
command = ["sh", "-c", "echo \"a\\b\"\u000A\u0009\u007F é"]
ttl = "30m"
timeout = "5s"
hosts = ["a.example"]
`
	if got := read(t, path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := edit.Undo(t.Context()); err != nil || read(t, path) != before {
		t.Errorf("undo: %v\n%s", err, read(t, path))
	}
}

func TestAddProfileFirst(t *testing.T) {
	t.Parallel()
	env, path := home(t, "")
	edit, err := Add(t.Context(), env, "x", static, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "[profiles.x]\nprovider = \"static\"\n" {
		t.Errorf("got %q", got)
	}
	again, err := Add(t.Context(), env, "x", static, false)
	if err != nil || again.Changes() || !edit.Changes() {
		t.Errorf("the same once more: %v, it changes something: %v, the first did: %v", err, again.Changes(), edit.Changes())
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	if err := edit.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after undo: %v", err)
	}
}

func TestUndoLeavesOthersEdits(t *testing.T) {
	t.Parallel()
	env, path := home(t, "")
	edit, err := Add(t.Context(), env, "x", static, false)
	if err != nil {
		t.Fatal(err)
	}
	theirs := read(t, path) + "# theirs\n"
	if err := os.WriteFile(path, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := edit.Undo(t.Context()); err == nil || read(t, path) != theirs {
		t.Errorf("undo: %v\n%s", err, read(t, path))
	}
}

func TestRemoveProfile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"only", "[profiles.x]\nprovider='static'\n", ""},
		{"comments stay", "# top\n\n# of x\n[profiles.x]\nprovider='static'\n# after\n\n# of y\n[profiles.y]\nprovider='static'\n",
			"# top\n\n# of x\n# after\n\n# of y\n[profiles.y]\nprovider='static'\n"},
		{"with tables below it, apart",
			"[profiles.x]\nprovider='claude'\nconfig_dir='/x'\n[profiles.y]\nprovider='static'\n[profiles.x.headers]\na='b'\n",
			"[profiles.y]\nprovider='static'\n"},
		{"values of several lines", "[profiles.x]\nprovider='command'\ncommand=[\n'a', # one\n\n# two\n'''\n[profiles.y]\n''',\n]\n" +
			"[profiles.y]\nprovider='static'",
			"[profiles.y]\nprovider='static'"},
		{"another case", "[profiles.X]\nprovider='static'\n", ""},
		{"quoted, indented, CRLF", "  [ profiles . \"x\" ]\r\n  provider='static'\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, path := home(t, test.text)
			if _, err := Remove(t.Context(), env, "x"); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); got != test.want {
				t.Errorf("got\n%q, want\n%q", got, test.want)
			}
		})
	}
}

func TestEditRefused(t *testing.T) {
	t.Parallel()
	add := func(name string, table Table) func(environ.Vars) error {
		return func(env environ.Vars) error {
			_, err := Add(context.Background(), env, name, table, false)
			return err
		}
	}
	remove := func(env environ.Vars) error {
		_, err := Remove(context.Background(), env, "x")
		return err
	}
	for _, test := range []struct {
		name, text string
		edit       func(environ.Vars) error
		want       error
	}{
		{"add to what is broken", "a = 1\n", add("x", static), protocol.ErrConfig},
		{"add what is there and says something else", "[profiles.x]\nprovider='static'\nhosts=['a.example']\n", add("X", static),
			protocol.ErrConfig},
		{"add what is there and says the same", "[profiles.x]\nprovider='static'\n", add("X", static), nil},
		{"add to an inline table", "profiles = {y = {provider='static'}}\n", add("x", static), protocol.ErrConfig},
		{"add what is invalid", "", add("x", Table{Provider: "command"}), protocol.ErrConfig},
		{"add what is not UTF-8", "", add("x", Table{Provider: "command", Command: []string{"\xff"}}), protocol.ErrConfig},
		{"add a second one of a directory", "[profiles.claude]\nprovider='claude'\n", add("x", Table{Provider: "claude"}),
			protocol.ErrConfig},
		{"remove what is not there", "[profiles.y]\nprovider='static'\n", remove, protocol.ErrNotFound},
		{"remove from an inline table", "profiles = {x = {provider='static'}}\n", remove, protocol.ErrConfig},
		{"remove what is dotted", "[profiles]\nx.provider='static'\n", remove, protocol.ErrConfig},
		{"remove the default", "default_profile='x'\n[profiles.x]\nprovider='static'\n", remove, protocol.ErrConfig},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, path := home(t, test.text)
			if err := test.edit(env); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if text, _ := os.ReadFile(path); string(text) != test.text {
				t.Errorf("the file is now\n%s", text)
			}
		})
	}
}

func TestConcurrentEdits(t *testing.T) {
	t.Parallel()
	env, path := home(t, "# kept\n")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := Add(t.Context(), env, fmt.Sprint("p", i), static, false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := strings.Count(read(t, path), "[profiles.p"); got != 20 || !strings.HasPrefix(read(t, path), "# kept\n") {
		t.Errorf("%d profiles in\n%s", got, read(t, path))
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.ccagent-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestEditThroughLink(t *testing.T) {
	t.Parallel()
	env, path := home(t, "# mine\n")
	target := filepath.Join(t.TempDir(), "dotfile")
	if err := errors.Join(os.Rename(path, target), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(t.Context(), env, "x", static, false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 ||
		!strings.Contains(read(t, target), "[profiles.x]") {
		t.Errorf("link %v, %v; target\n%s", info.Mode(), err, read(t, target))
	}
}

// FuzzEdit: whatever the document, adding a table and removing it gives back every byte of it, and an addition says what
// was meant.
func FuzzEdit(f *testing.F) {
	seeds := []string{
		"",
		"# only\n",
		"\n",
		"\n\n",
		"a=1",
		"[profiles.x]\nprovider='static'\n\n\n# end",
		"default_profile='x'\r\n[profiles.x]\r\n",
		"[profiles]\n\"x\" = {provider='static'}",
		"[profiles.x]\ncommand=[\n'''\n# '''\n]\n#",
		"[profiles.\"p.q\"]\n[profiles.x.headers]\na='''\n\n'''",
	}
	for _, seed := range seeds {
		f.Add([]byte(seed), "-c \"x\"\n")
	}
	f.Fuzz(func(t *testing.T, text []byte, arg string) {
		const name = "added.one"
		before, err := parseConfig("config.toml", text)
		if err != nil || before.written(name) != "" {
			t.Skip()
		}
		after := AppendTable([]byte(string(text)), name, Table{Provider: "command", Command: []string{"sh", arg}})
		doc, err := parseConfig("config.toml", after)
		if err != nil {
			if strings.ContainsRune(arg, 0xfffd) || !Encodable(arg) {
				t.Skip()
			}
			return // an inline table of profiles: editConfig refuses it
		}
		if got := doc.Profiles[name].Command; Encodable(arg) && (len(got) != 2 || got[1] != arg) {
			t.Fatalf("%q became %q", arg, got)
		}
		cut := cutTables(after, doc.index, "profiles", name)
		want := string(text)
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if string(cut) != want {
			t.Fatalf("%q became %q", want, cut)
		}
	})
}

// TestSetViews changes views however they are written, and leaves the rest of the table as it is.
func TestSetViews(t *testing.T) {
	t.Parallel()
	const head, tail = "[profiles.x]\nprovider = 'static'\n", "hosts = ['a.example'] # mine\n"
	for _, tt := range []struct {
		name, before, after string
		table               []View // what they are then
	}{
		{"none", "", "views = [{ kind = \"token\", path = \"/run/new\" }]\n", nil},
		{"words", "views = ['anthropic-sdk']\n", "views = [\"anthropic-sdk\", { kind = \"token\", path = \"/run/new\" }]\n",
			[]View{{Kind: "anthropic-sdk"}}},
		{"tables", "views = [ # here: ]\n  { kind = 'token', path = '/run/a]b' }, # }\n  'anthropic-sdk',\n] # end\n",
			"views = [{ kind = \"token\", path = \"/run/a]b\" }, \"anthropic-sdk\", { kind = \"token\", path = \"/run/new\" }] # end\n",
			[]View{{Kind: "token", Path: "/run/a]b"}, {Kind: "anthropic-sdk"}}},
		{"headers", "[[profiles.x.views]]\nkind = 'env'\npath = '/run/env'\nname = 'A'\n",
			"views = [{ kind = \"env\", path = \"/run/env\", name = \"A\" }, { kind = \"token\", path = \"/run/new\" }]\n",
			[]View{{Kind: "env", Path: "/run/env", Name: "A"}}},
	} {
		before, after := head+tt.before+tail, head+tt.after+tail
		if tt.name == "none" || tt.name == "headers" { // a new key comes first
			before, after = head+tail+tt.before, "[profiles.x]\n"+tt.after+"provider = 'static'\n"+tail
		}
		env, path := home(t, before)
		_, err := SetViews(t.Context(), env, "x", "static", "", func(views []View) []View {
			if !reflect.DeepEqual(views, tt.table) {
				t.Errorf("%s: there are %v", tt.name, views)
			}
			return append(views, View{Kind: "token", Path: "/run/new"})
		})
		if got := read(t, path); err != nil || got != after {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.name, err, got, after)
		}
		if _, err := SetViews(t.Context(), env, "X", "static", "", func([]View) []View { return nil }); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if cfg, _, err := Load(env); err != nil || Viewed(cfg) || strings.Contains(read(t, path), "views") {
			t.Errorf("%s: %v, and without views\n%s", tt.name, err, read(t, path))
		}
	}
}

// TestSetClient changes what names a client, and nothing else: comments and the person's own keys stay.
func TestSetClient(t *testing.T) {
	t.Parallel()
	before := "# mine\n[profiles.docs] # docs\nprovider = \"oauth2\"\nissuer = \"https://sso.example.com\"\n" +
		"mcp_url = \"https://mcp.example.com/mcp\"\nclient_id = \"fake-1\" # theirs\nclient_registered = true\n" +
		"redirect_port = 4711 # open\n[profiles.key]\nprovider = \"static\"\n"
	env, path := home(t, before)
	edit, err := SetClient(t.Context(), env, "DOCS", "fake-2", "client_secret_post", 4712)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("fake-1", "fake-2", "4711", "4712", "# docs\n", "# docs\nclient_auth = \"client_secret_post\"\n").
		Replace(before)
	if got := read(t, path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := SetClient(t.Context(), env, "docs", "fake-1", "", 4711); err != nil || read(t, path) != before {
		t.Errorf("%v, got\n%s", err, read(t, path))
	}
	if err := edit.Undo(t.Context()); err == nil { // another edit has followed it
		t.Error("the edit is undone")
	}
}

// TestEveryKeyIsWritten makes a table with every key, and reads back what is written of it.
func TestEveryKeyIsWritten(t *testing.T) {
	t.Parallel()
	var table Table
	fill := reflect.ValueOf(&table).Elem()
	for i := range fill.NumField() {
		word, number, yes := "word", 7, true
		switch field := fill.Field(i); field.Interface().(type) {
		case string:
			field.SetString(word)
		case *string:
			field.Set(reflect.ValueOf(&word))
		case *int:
			field.Set(reflect.ValueOf(&number))
		case *bool:
			field.Set(reflect.ValueOf(&yes))
		case []string:
			field.Set(reflect.ValueOf([]string{`a "b"`, "c"}))
		case map[string]string:
			field.Set(reflect.ValueOf(map[string]string{"a.b": "c", "d": `\`}))
		case []View:
			field.Set(reflect.ValueOf([]View{{Kind: "a"}, {Kind: `b"`, Dir: "c", Path: "#]", Name: "}", InPlace: true}}))
		case nil: // a key that is known only to be refused
		default:
			t.Fatalf("%s is of a type that is not written", fill.Type().Field(i).Name)
		}
	}
	d, err := parseConfig("config.toml", AppendTable(nil, "x", table))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d.Profiles["x"], table) {
		t.Errorf("wrote %+v, read %+v", table, d.Profiles["x"])
	}
}

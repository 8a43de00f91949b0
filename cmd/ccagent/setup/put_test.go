package setup

import (
	"bytes"
	"strings"
	"testing"
)

// TestPutIsTakenOut puts each kind of thing into files as people have them, and takes it out again: exactly, and beside what
// somebody has changed meanwhile.
func TestPutIsTakenOut(t *testing.T) {
	t.Parallel()
	value := jsonValue("ours", "env", "X")
	lines := put{How: linesPut, Text: "[ours]\nx = 1\n"}
	goauth := put{How: goauthPut, Text: "/bin/cchelper -f goauth"}
	user := put{kubePut, []string{"alice"}, "- name: \"alice\"\n  user: {exec: {command: \"x\"}}\n"}
	for name, tt := range map[string]struct {
		put
		src  string
		want string // "": whatever
	}{
		"empty json":  {value, "", "{\n  \"env\": {\n    \"X\": \"ours\"\n  }\n}\n"},
		"braces":      {value, "{}\n", ""},
		"blank":       {value, " \n", ""},
		"with others": {value, "{\n\t\"a\": 1.50\n}\n", "{\n\t\"a\": 1.50,\n\t\"env\": {\"X\":\"ours\"}\n}\n"},
		"DOS": {value, "{\r\n  \"env\": {\r\n    \"Y\": \"\\u00e9\"\r\n  }\r\n}\r\n",
			"{\r\n  \"env\": {\r\n    \"Y\": \"\\u00e9\",\r\n    \"X\": \"ours\"\r\n  }\r\n}\r\n"},
		"a value of theirs": {value, `{"env": {"X": "theirs", "Y": "2"}, "a": []}`, `{"env": {"X": "ours", "Y": "2"}, "a": []}`},
		"an empty object":   {value, `{"env": {}, "a": 1}`, `{"env": {"X":"ours"}, "a": 1}`},
		"lines":             {lines, "a\nb\n", "a\nb\n[ours]\nx = 1\n"},
		"lines of nothing":  {lines, "", "[ours]\nx = 1\n"},
		"go":                {goauth, "GOFLAGS=-mod=mod\n", "GOFLAGS=-mod=mod\nGOAUTH=/bin/cchelper -f goauth; netrc\n"},
		"go, last of two":   {goauth, "GOAUTH=off\nGOAUTH=git /x\n", "GOAUTH=off\nGOAUTH=/bin/cchelper -f goauth; git /x\n"},
		"kubectl":           {user, "# mine\nusers:\n- name: bob\n  user: {}\n", ""},
	} {
		out, err := tt.add([]byte(tt.src))
		if err != nil || tt.want != "" && string(out) != tt.want {
			t.Errorf("%s: %q, %v; want %q", name, out, err, tt.want)
			continue
		}
		if !tt.in(out) || tt.in([]byte(tt.src)) {
			t.Errorf("%s: not seen to be in %q, or seen before", name, out)
		}
		e := Entry{digestOf(out), []byte(tt.src), []put{tt.put}}
		if back, err := e.takeOut(out); err != nil || string(back) != tt.src {
			t.Errorf("%s: it came back as %q, %v", name, back, err)
		}
		e.Digest = "of another"
		back, err := e.takeOut(out)
		if err != nil || tt.in(back) || len(bytes.TrimSpace([]byte(tt.src))) > 2 && string(back) != tt.src {
			t.Errorf("%s: taken out it came back as %q, %v", name, back, err)
		}
	}
}

// TestPutLeavesAlone gives each kind files that it must not touch.
func TestPutLeavesAlone(t *testing.T) {
	t.Parallel()
	value := jsonValue("ours", "env", "X")
	for name, tt := range map[string]struct {
		put
		src, why string
	}{
		"remarks":       {value, "{\n// mine\n}", "not valid JSON"},
		"a comma":       {value, `{"a": 1,}`, "not valid JSON"},
		"a list":        {value, `[]`, "something else than a JSON object"},
		"null":          {value, `{"env": null}`, "something else than a JSON object around env.X"},
		"UTF-16":        {value, "\xff\xfe{\x00}\x00", "it is UTF-16"},
		"a line of it":  {put{How: linesPut, Text: "x\n"}, "\xfe\xff\x00y", "it is UTF-16"},
		"half a line":   {put{How: linesPut, Text: "x\n"}, "y \\\n", "continues on the next one"},
		"go without":    {put{How: goauthPut, Text: "x"}, "GOAUTH=off\n", "GOAUTH=off"},
		"another user":  {put{kubePut, []string{"a"}, "- name: a\n"}, "users:\n- name: a\n  user: {}\n", "another user"},
		"users in flow": {put{kubePut, []string{"a"}, "- name: a\n"}, "users: [{name: b}]\n", "can't edit safely"},
	} {
		if out, err := tt.add([]byte(tt.src)); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// TestPutKeepsMark adds to files that begin with a byte order mark, and takes out what was added.
func TestPutKeepsMark(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		put
		src, want string
	}{
		"json":  {jsonValue("ours", "x"), `{"a": 1}`, `"x":`},
		"lines": {put{How: linesPut, Text: "x\n"}, "y\n", "y\nx\n"},
		"go":    {put{How: goauthPut, Text: "x"}, "GOAUTH=y\n", "GOAUTH=x; y\n"},
		"kubectl": {put{kubePut, []string{"a"}, "- name: a\n  user: {exec: {command: x}}\n"}, "users:\n- name: b\n  user: {}\n",
			"users:\n- name: a\n  user: {exec: {command: x}}\n- name: b\n"},
	} {
		src := []byte(byteOrderMark + tt.src)
		out, err := tt.add(src)
		text, marked := strings.CutPrefix(string(out), byteOrderMark)
		if err != nil || !marked || !strings.Contains(text, tt.want) || strings.Contains(text, byteOrderMark) || !tt.in(out) {
			t.Errorf("%s: %q, %v", name, out, err)
			continue
		}
		if back, err := tt.cut(out, src); err != nil || string(back) != string(src) {
			t.Errorf("%s: taken out: %q, %v", name, back, err)
		}
	}
}

// TestKubeconfigWrittenAgain: kubectl writes the whole file in its own way whenever it changes something in it. What setup has
// added is found in it, and taken out.
func TestKubeconfigWrittenAgain(t *testing.T) {
	t.Parallel()
	user := put{kubePut, []string{"alice"}, "- name: \"alice\"\n  user: {exec: {command: \"x\", args: [-p, \"a\"]}}\n"}
	const written = "- name: alice\n  user:\n    exec:\n      args:\n      - -p\n      - a\n      command: x\n      env: null\n"
	const bob = "# a remark\n- name: bob\n  user: {}\n"
	for name, tt := range map[string]struct {
		before, after string
		in            bool
		cut           string // what is left after user was taken out
	}{
		"alone":   {"users:\n", "", true, "users:\n"},
		"first":   {"users:\n", bob, true, "users:\n" + bob},
		"last":    {"users:\n" + bob, "kind: Config\n", true, "users:\n" + bob + "kind: Config\n"},
		"more":    {"users:\n", "    token: fake-token\n", true, "users:\n" + written + "    token: fake-token\n"},
		"other":   {"users:\n", "      installHint: y\n", false, "users:\n" + written + "      installHint: y\n"},
		"between": {"a: {}\nusers:\n", bob + "b: {}\n", true, "a: {}\nusers:\n" + bob + "b: {}\n"},
	} {
		src := []byte(tt.before + written + tt.after)
		if user.in(src) != tt.in {
			t.Errorf("%s: it is not said that the file has the user: %v", name, tt.in)
		}
		if out, err := user.cut(src, nil); err != nil || string(out) != tt.cut {
			t.Errorf("%s: taken out: %q, %v", name, out, err)
		}
	}
	flow := []byte("users: [{name: alice, user: {exec: {command: x, args: [-p, a]}}}, {name: bob}]\n")
	if out, err := user.cut(flow, nil); err == nil {
		t.Errorf("users on one line: %q", out)
	}
}

func TestWholeHCL(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		"":                                   true,
		"# {\nx = \"{\\\"\" // [\n/* { */\n": true,
		"a \"b\" {\n  c = [1, {}]\n}\n":      true,
		"a {\n":                              false,
		"}\n":                                false,
		"a = [}\n":                           false,
		"a = \"b\n":                          false,
		"a = \"b\\":                          false,
		"/* a":                               false,
		"{\"credentials\": {}}":              false,
	} {
		if wholeHCL([]byte(src)) != want {
			t.Errorf("%q: not %v", src, want)
		}
	}
}

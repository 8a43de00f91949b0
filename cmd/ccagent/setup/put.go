package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/store/splice"
)

// put is one thing that setup adds to a file. It is plain data, so that the journal can record it: by the time of --undo the
// profile, its hosts or the path of the helper may have changed.
type put struct {
	How  string   `json:"how"`            // one of the constants below
	Keys []string `json:"keys,omitempty"` // of JSON: where the value is; kubePut: the user's name
	Text string   `json:"text"`
}

const (
	jsonPut   = "json"    // a value, in JSON
	notedPut  = "noted"   // a value, in JSON with comments
	jsoncPut  = "jsonc"   // a value, in JSON with comments and commas after the last member
	linesPut  = "lines"   // whole lines
	goauthPut = "goauth"  // a command among those of go's GOAUTH
	kubePut   = "kubectl" // a user of a kubeconfig, as two lines of YAML
)

// jsonValue is the put of a string in a JSON document, at the path of keys.
func jsonValue(value string, keys ...string) put {
	return put{jsonPut, keys, string(splice.Encode(value))}
}

// dialect is the dialect of JSON that the file is in.
func (p put) dialect() splice.Dialect {
	switch p.How {
	case notedPut:
		return splice.Commented
	case jsoncPut:
		return splice.JSONC
	}
	return splice.JSON
}

// byHand says what a person would add to the file.
func (p put) byHand() string {
	switch p.How {
	case jsonPut, notedPut, jsoncPut:
		return strings.Join(p.Keys, ".") + " = " + p.Text
	case goauthPut:
		return "GOAUTH=" + p.Text
	}
	return strings.TrimSpace(p.Text)
}

// add returns src with p added. It returns src itself if p is in it already. src is nil if there is no file. A byte order mark
// before UTF-8 stays. The message of an error continues a sentence that begins with the path of the file, as in "is not valid
// JSON".
func (p put) add(src []byte) ([]byte, error) { return afterMark(src, p.addTo) }

// cut returns src without p. original is the content of the file from before p was added.
func (p put) cut(src, original []byte) ([]byte, error) {
	return afterMark(src, func(src []byte) ([]byte, error) {
		return p.cutFrom(src, unmarked(original))
	})
}

const byteOrderMark = "\ufeff"

// afterMark has change edit what follows the byte order mark that a text may begin with. A text in UTF-16 is left alone.
func afterMark(src []byte, change func([]byte) ([]byte, error)) ([]byte, error) {
	text, marked := bytes.CutPrefix(src, []byte(byteOrderMark))
	if other := lookalike.Marked(text); other != "" {
		return nil, errors.New(other)
	}
	if !marked {
		return change(src)
	}
	out, err := change(text)
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(byteOrderMark), out), nil
}

// unmarked returns a text without the byte order mark that it may begin with.
func unmarked(src []byte) []byte { return bytes.TrimPrefix(src, []byte(byteOrderMark)) }

// addTo is add for a text without a byte order mark.
func (p put) addTo(src []byte) ([]byte, error) {
	switch p.How {
	case jsonPut, notedPut, jsoncPut:
		return p.addValue(src)
	case goauthPut:
		return p.addCommand(src)
	case kubePut:
		return p.addUser(src)
	}
	if bytes.Contains(src, []byte(p.Text)) {
		return src, nil
	}
	if bytes.HasSuffix(bytes.TrimRight(src, "\r\n"), []byte(`\`)) {
		return nil, errors.New("ends in a line that continues on the next one")
	}
	return append(wholeLines(src), p.Text...), nil
}

// cutFrom is cut for texts without a byte order mark.
func (p put) cutFrom(src, original []byte) ([]byte, error) {
	switch p.How {
	case jsonPut, notedPut, jsoncPut:
		return p.cutValue(src, original)
	case goauthPut:
		return p.cutCommand(src), nil
	case kubePut:
		return p.cutUser(src)
	}
	return bytes.Replace(src, []byte(p.Text), nil, 1), nil
}

// in reports whether src contains p.
func (p put) in(src []byte) bool {
	out, err := p.add(src)
	return err == nil && bytes.Equal(out, src)
}

// wholeLines returns a copy of src that ends in a newline, so that lines can be appended.
func wholeLines(src []byte) []byte {
	out := slices.Clone(src)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return out
}

func (p put) addValue(src []byte) ([]byte, error) {
	if p.is(src) {
		return src, nil
	}
	if trimmed := bytes.TrimSpace(src); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("{}")) {
		// People edit this file, so a new one is indented.
		v := any(json.RawMessage(p.Text))
		for _, key := range slices.Backward(p.Keys) {
			v = map[string]any{key: v}
		}
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err := enc.Encode(v)
		return out.Bytes(), err
	}
	out, err := p.dialect().Set(src, []byte(p.Text), p.Keys...)
	if err != nil {
		return nil, notJSON(err, p.Keys)
	}
	return out, nil
}

// notJSON describes why a file can't take a value at keys.
func notJSON(err error, keys []string) error {
	if errors.Is(err, splice.ErrNotObject) {
		return fmt.Errorf("has something else than a JSON object around %s", strings.Join(keys, "."))
	}
	return errors.New("is not valid JSON")
}

// is reports whether the document has this value, in whatever notation.
func (p put) is(src []byte) bool {
	there, ok, err := p.dialect().Get(unmarked(src), p.Keys...)
	var a, b any
	return err == nil && ok && json.Unmarshal(there, &a) == nil && json.Unmarshal([]byte(p.Text), &b) == nil &&
		reflect.DeepEqual(a, b)
}

func (p put) cutValue(src, original []byte) ([]byte, error) {
	if !p.is(src) {
		if _, err := p.dialect().Scan(src); err != nil {
			return nil, notJSON(err, p.Keys)
		}
		return src, nil // somebody has changed the value since
	}
	if was, ok, err := p.dialect().Get(original, p.Keys...); err == nil && ok {
		return p.dialect().Set(src, was, p.Keys...)
	}
	// The objects around the value that setup has added are removed with it. Those that were there before stay.
	kept := len(p.Keys) - 1
	for ; kept > 0; kept-- {
		if _, ok, err := p.dialect().Get(original, p.Keys[:kept]...); err == nil && ok {
			break
		}
	}
	inner, _, err := p.dialect().Get(src, p.Keys[:kept]...)
	if err == nil {
		inner, err = p.dialect().Drop(inner, p.Keys[kept:]...)
	}
	if err != nil || kept == 0 {
		return inner, err
	}
	return p.dialect().Set(src, inner, p.Keys[:kept]...)
}

// addCommand makes our command the first in the list of GOAUTH. What was in the list follows, or else go's default.
func (p put) addCommand(src []byte) ([]byte, error) {
	line := regexp.MustCompile(`(?m)^GOAUTH=(.*)\n?`) // as `go env -w` writes it; if there are several, go uses the last
	all := line.FindAllSubmatchIndex(src, -1)
	if all == nil {
		return append(wholeLines(src), "GOAUTH="+p.Text+"; netrc\n"...), nil
	}
	at := all[len(all)-1]
	was := strings.TrimSpace(string(src[at[2]:at[3]]))
	for command := range strings.SplitSeq(was, ";") {
		switch strings.TrimSpace(command) {
		case p.Text:
			return src, nil
		case "off": // with it, go uses no command at all
			return nil, errors.New("has GOAUTH=off")
		}
	}
	if was == "" {
		was = "netrc"
	}
	return slices.Concat(src[:at[2]], []byte(p.Text+"; "+was), src[at[3]:]), nil
}

func (p put) cutCommand(src []byte) []byte {
	out := bytes.Replace(src, []byte("GOAUTH="+p.Text+"; netrc\n"), nil, 1)
	return bytes.Replace(out, []byte(p.Text+"; "), nil, 1)
}

// readUsers reads a kubeconfig. YAML is read to be sure of what is there, and never written: lines are put in and taken out, and
// what comes of it must be what was there, with or without the user.
func readUsers(src []byte) (doc map[string]any, users []any, err error) {
	err = yaml.Unmarshal(src, &doc)
	users, _ = doc["users"].([]any)
	return doc, users, err
}

var errUnsafeYAML = errors.New("is written in a way that ccagent can't edit safely")

func (p put) addUser(src []byte) ([]byte, error) {
	doc, users, err := readUsers(src)
	if err != nil {
		return nil, errors.New("is not valid YAML")
	}
	var ours []any
	if err := yaml.Unmarshal([]byte(p.Text), &ours); err != nil || len(ours) != 1 {
		return nil, errUnsafeYAML
	}
	for _, u := range users {
		if named(u, p.Keys[0]) {
			if credential(u)["exec"] != nil && reflect.DeepEqual(credential(u)["exec"], credential(ours[0])["exec"]) {
				return src, nil
			}
			return nil, fmt.Errorf("already has another user %s", p.Keys[0])
		}
	}
	var out []byte
	begin := regexp.MustCompile(`(?m)^users:[ \t]*(?:\[\]|null|~)?[ \t]*(?:#.*)?\n`) // of the list
	if at := begin.FindIndex(src); at != nil {
		indent := regexp.MustCompile(`^[ \t]*`).FindString(string(src[at[1]:]))
		if len(users) == 0 {
			indent = ""
		}
		block := indent + strings.ReplaceAll(strings.TrimSuffix(p.Text, "\n"), "\n", "\n"+indent) + "\n"
		out = slices.Concat(src[:at[0]], []byte("users:\n"), []byte(block), src[at[1]:])
		if len(users) > 0 { // the line "users:" may have a comment, which stays
			out = slices.Concat(src[:at[1]], []byte(block), src[at[1]:])
		}
	} else {
		if len(src) == 0 {
			src = []byte("apiVersion: v1\nkind: Config\n")
		}
		out = append(wholeLines(src), "users:\n"+p.Text...)
	}
	after, now, err := readUsers(out)
	if err != nil || len(now) != len(users)+1 || !reflect.DeepEqual(now[0], ours[0]) ||
		!reflect.DeepEqual(append([]any{}, now[1:]...), append([]any{}, users...)) {
		return nil, errUnsafeYAML
	}
	for key, value := range doc {
		if key != "users" && !reflect.DeepEqual(after[key], value) {
			return nil, errUnsafeYAML
		}
	}
	return out, nil
}

// named reports whether an entry of a kubeconfig's users has that name.
func named(user any, name string) bool {
	m, _ := user.(map[string]any)
	return m != nil && m["name"] == name
}

// credential returns what an entry of a kubeconfig's users says, without the fields that say nothing: kubectl writes the whole
// file again whenever it changes something in it, and puts `env: null` into each exec.
func credential(user any) map[string]any {
	m, _ := user.(map[string]any)
	said, _ := withoutNulls(m["user"]).(map[string]any)
	return said
}

func withoutNulls(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for key, value := range m {
		if value != nil {
			out[key] = withoutNulls(value)
		}
	}
	return out
}

// cutUser removes the lines of the user. One to which somebody has added something else than the command stays.
func (p put) cutUser(src []byte) ([]byte, error) {
	_, users, err := readUsers(src)
	var ours []any
	if err != nil || yaml.Unmarshal([]byte(p.Text), &ours) != nil || len(ours) != 1 {
		return nil, errUnsafeYAML
	}
	at := slices.IndexFunc(users, func(u any) bool {
		return named(u, p.Keys[0]) && reflect.DeepEqual(credential(u), credential(ours[0]))
	})
	if at < 0 {
		return src, nil
	}
	first, last, err := linesOfUser(src, at)
	if err != nil {
		return nil, err
	}
	lines := slices.Collect(bytes.Lines(src))
	out := bytes.Join(slices.Delete(lines, first-1, last), nil)
	if _, left, err := readUsers(out); err != nil || !reflect.DeepEqual(append([]any{}, left...), slices.Delete(users, at, at+1)) {
		return nil, errUnsafeYAML
	}
	return out, nil
}

// linesOfUser returns the first and the last line of an entry of a kubeconfig's users. Lines are counted from 1.
func linesOfUser(src []byte, at int) (first, last int, err error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil || len(doc.Content) != 1 {
		return 0, 0, errUnsafeYAML
	}
	for i, key := range doc.Content[0].Content {
		if i%2 == 0 && key.Value == "users" && at < len(doc.Content[0].Content[i+1].Content) {
			user := doc.Content[0].Content[i+1].Content[at]
			return user.Line, lastLine(user), nil
		}
	}
	return 0, 0, errUnsafeYAML
}

// lastLine returns the line on which the last value of a node begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, inner := range n.Content {
		last = max(last, lastLine(inner))
	}
	return last
}

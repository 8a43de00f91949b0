package splice

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, src string
		path      []string
		want      string
	}{
		{"empty", `{}`, []string{"a"}, `{"a":1}`},
		{"one line", `{"b": 1.50}`, []string{"a"}, `{"b": 1.50,"a":1}`},
		{"lines", "{\n  \"b\": 2\n}\n", []string{"a"}, "{\n  \"b\": 2,\n  \"a\": 1\n}\n"},
		{"lines of DOS", "{\r\n  \"b\": 2\r\n}\r\n", []string{"a"}, "{\r\n  \"b\": 2,\r\n  \"a\": 1\r\n}\r\n"},
		{"tabs", "{\n\t\"b\": [\n\t\t2\n\t]\n}", []string{"a"}, "{\n\t\"b\": [\n\t\t2\n\t],\n\t\"a\": 1\n}"},
		{"replaced", `{"a": "old", "b": 2}`, []string{"a"}, `{"a": 1, "b": 2}`},
		{"repeated", `{"a": 0, "a": 2}`, []string{"a"}, `{"a": 1, "a": 1}`},
		{"deep", "{\n  \"x\": {\n    \"y\": 0\n  }\n}", []string{"x", "a"}, "{\n  \"x\": {\n    \"y\": 0,\n    \"a\": 1\n  }\n}"},
		{"made", `{}`, []string{"x", "a"}, `{"x":{"a":1}}`},
	} {
		got, err := Set([]byte(tt.src), []byte("1"), tt.path...)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	if _, err := Set([]byte(`{"x": 1}`), []byte("1"), "x", "a"); err == nil {
		t.Error("a number was made an object")
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, src, want string }{
		{"first", `{"x": {"a": 1, "b": 2}}`, `{"x": {"b": 2}}`},
		{"last", "{\n  \"x\": {\n    \"b\": 2,\n    \"a\": 1\n  }\n}", "{\n  \"x\": {\n    \"b\": 2\n  }\n}"},
		{"alone", `{"y": 1, "x": {"a": 1}}`, `{"y": 1}`},
		{"absent", `{"y": 1}`, `{"y": 1}`},
	} {
		got, err := Drop([]byte(tt.src), "x", "a")
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

// FuzzSplice sets a key in whatever it is given, and takes it out again: other members keep their bytes, and nothing panics.
func FuzzSplice(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":[1, 2]}`, "{\n \"x\": {\"y\": null}\n}", `{"a":1,"a":2}`, `[1]`, `{"a"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before, err := Scan(src)
		out, setErr := Set(src, []byte(`"v"`), "a key that nobody has")
		if (err == nil) != (setErr == nil) {
			t.Fatalf("scan: %v, set: %v", err, setErr)
		}
		if err != nil {
			return
		}
		if v, ok, err := Get(out, "a key that nobody has"); err != nil || !ok || string(v) != `"v"` || !json.Valid(out) {
			t.Fatalf("%q: %s, %v", out, v, err)
		}
		after, err := Scan(out)
		if err != nil || len(after) != len(before)+1 {
			t.Fatalf("%q: %v", out, err)
		}
		for i, s := range before {
			if !bytes.Equal(src[s.Value:s.After], out[after[i].Value:after[i].After]) {
				t.Errorf("%q: member %d is another", out, i)
			}
		}
		back, n, err := Remove(out, "a key that nobody has")
		if err != nil || n != len(before) || !bytes.Equal(bytes.TrimSpace(back), bytes.TrimSpace(src)) && n > 0 {
			t.Errorf("%q came back as %q, %v", src, back, err)
		}
	})
}

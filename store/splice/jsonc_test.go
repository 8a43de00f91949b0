package splice

import (
	"bytes"
	"testing"
)

// TestCommented sets a key in documents with comments and takes it out again: every byte of the document stays where it was.
func TestCommented(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, src, want string }{
		{"none", `{"b": 2}`, `{"b": 2,"a":1}`},
		{"before all", "// \"a\": {\n{\"b\": 2}", "// \"a\": {\n{\"b\": 2,\"a\":1}"},
		{"in an empty object", "{ // }\n}", "{\"a\":1 // }\n}"},
		{"behind the last", "{\n  \"b\": 2 // b, of course\n}", "{\n  \"b\": 2, // b, of course\n  \"a\": 1\n}"},
		{"behind a comma", "{\n  \"b\": 2, // b\n}\n", "{\n  \"b\": 2, // b\n  \"a\": 1,\n}\n"},
		{"before a comma", "{\n  \"b\": 2 /* , */, // b\n}\n", "{\n  \"b\": 2 /* , */, // b\n  \"a\": 1,\n}\n"},
		{"a comma alone", "{\n\t\"b\": 2,\n}", "{\n\t\"b\": 2,\n\t\"a\": 1,\n}"},
		{"lines of DOS", "{\r\n  \"b\": 2 // b\r\n}\r\n", "{\r\n  \"b\": 2, // b\r\n  \"a\": 1\r\n}\r\n"},
		{"a comma and a blank", "{\n\t\"b\": 2, \n}", "{\n\t\"b\": 2,\n\t\"a\": 1, \n}"},
		{"a comma on the line", `{"b": [1, 2,], }`, `{"b": [1, 2,],"a":1, }`},
		{"of several lines", "{\n  \"b\": 2 /* b\n  is two */\n}", "{\n  \"b\": 2, /* b\n  is two */\n  \"a\": 1\n}"},
		{"below the last", "{\n  \"b\": 2\n  // \"c\": 3,\n}", "{\n  \"b\": 2,\n  \"a\": 1\n  // \"c\": 3,\n}"},
		{"in a string", "{\n  \"b//\": \"/* \\\" //\" // b\n}", "{\n  \"b//\": \"/* \\\" //\", // b\n  \"a\": 1\n}"},
		{"of another", "{\n  \"x\": {\n    \"y\": 0, // y\n  } // x\n}", "{\n  \"x\": {\n    \"y\": 0, // y\n  }, // x\n  \"a\": 1\n}"},
	} {
		got, err := JSONC.Set([]byte(tt.src), []byte("1"), "a")
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
			continue
		}
		if v, ok, err := JSONC.Get(got, "a"); err != nil || !ok || string(v) != "1" {
			t.Errorf("%s: %s, %v", tt.name, v, err)
		}
		if back, err := JSONC.Drop(got, "a"); err != nil || string(back) != tt.src {
			t.Errorf("%s came back as %q, %v", tt.name, back, err)
		}
	}
}

// TestCutComments takes out members that somebody has written comments around.
func TestCutComments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, src, want string }{
		{"first", "{\n  \"a\": 1, // a\n  \"b\": 2\n}", "{\n   // a\n  \"b\": 2\n}"},
		{"between", "{\n  \"c\": 3, // c\n  \"a\": 1,\n  // b\n  \"b\": 2,\n}", "{\n  \"c\": 3, // c\n  // b\n  \"b\": 2,\n}"},
		{"twice", `{"a": 1, /* , */ "a": 2 /* b */}`, `{ /* , */  /* b */}`},
		{"last", "{\n  \"b\": 2, // b\n  \"a\": 1 // a\n}", "{\n  \"b\": 2 // b\n   // a\n}"},
		{"absent", "{\n  // \"a\": 1\n}", "{\n  // \"a\": 1\n}"},
	} {
		got, err := JSONC.Drop([]byte(tt.src), "a")
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestDialects: JSON takes no comments, only JSONC takes a comma too many, and none takes what is wrong in all.
func TestDialects(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"{} // c", `{"a": 1,}`, `/**/ {}`} {
		if _, err := JSON.Scan([]byte(src)); err == nil {
			t.Errorf("%s is JSON", src)
		}
		if _, err := JSONC.Scan([]byte(src)); err != nil {
			t.Errorf("%s: %v", src, err)
		}
	}
	for src, commented := range map[string]bool{"{} // c": true, `{"a": 1,} // c`: false, `{"a": [1,]}`: false} {
		if _, err := Commented.Scan([]byte(src)); (err == nil) != commented {
			t.Errorf("%s: %v", src, err)
		}
	}
	for _, src := range []string{`{,}`, `{"a": 1,,}`, `{"a": [,]}`, `{"a":,}`, `{} /*`, `{"a": "b // }`, `// {}`, ``, `{"a" 1}`} {
		if _, err := JSONC.Scan([]byte(src)); err == nil {
			t.Errorf("%s was taken", src)
		}
	}
}

// FuzzCommented sets a key and takes it out again: nothing else changes, comments included.
func FuzzCommented(f *testing.F) {
	for _, seed := range []string{"{}", "{ // c\n}", "{\n \"b\": 2 // b\n}", "{\n \"b\": 2, /* b\n */\n}", `{"b": [1,], /**/ }`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before, err := JSONC.Scan(src)
		if err != nil {
			return
		}
		out, err := JSONC.Set(src, []byte(`"v"`), "a key that nobody has")
		if err != nil {
			t.Fatal(err)
		}
		after, err := JSONC.Scan(out)
		if err != nil || len(after) != len(before)+1 {
			t.Fatalf("%q: %v", out, err)
		}
		for i, s := range before {
			if !bytes.Equal(src[s.Value:s.After], out[after[i].Value:after[i].After]) {
				t.Errorf("%q: member %d is another", out, i)
			}
		}
		back, n, err := JSONC.Remove(out, "a key that nobody has")
		if err != nil || n != len(before) || !bytes.Equal(back, src) {
			t.Errorf("%q became %q, and came back as %q, %v", src, out, back, err)
		}
	})
}

package main

import (
	"bytes"
	"testing"
)

func TestDiffShowsNoNeighbour(t *testing.T) {
	t.Parallel()
	before := "{\n  \"a\": 1,\n  \"token\": \"fake-secret-1\"\n}\n"
	after := "{\n  \"a\": 1,\n  \"token\": \"fake-secret-1\",\n  \"apiKeyHelper\": \"cchelper\"\n}\n"
	for _, way := range [][2]string{{before, after}, {after, before}} {
		var out bytes.Buffer
		showDiff(&out, "settings.json", []byte(way[0]), []byte(way[1]))
		if !bytes.Contains(out.Bytes(), []byte(`"apiKeyHelper": "cchelper"`)) || bytes.Contains(out.Bytes(), []byte("fake-secret")) {
			t.Errorf("it shows %s", out.Bytes())
		}
	}
	var out bytes.Buffer
	showDiff(&out, "x", []byte("a\n"), []byte("b\x1b[2J\n"))
	if got := out.String(); !bytes.Contains(out.Bytes(), []byte("-a\n+b\\x1b[2J\n")) {
		t.Errorf("it shows %q", got)
	}
}

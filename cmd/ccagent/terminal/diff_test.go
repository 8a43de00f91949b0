package terminal

import (
	"bytes"
	"strings"
	"testing"
)

func TestDiffShowsNoNeighbour(t *testing.T) {
	t.Parallel()
	before := "{\n  \"a\": 1,\n  \"token\": \"fake-secret-1\"\n}\n"
	after := "{\n  \"a\": 1,\n  \"token\": \"fake-secret-1\",\n  \"apiKeyHelper\": \"cchelper\"\n}\n"
	for _, way := range [][2]string{{before, after}, {after, before}} {
		var out bytes.Buffer
		ShowDiff(&out, "settings.json", []byte(way[0]), []byte(way[1]))
		if !bytes.Contains(out.Bytes(), []byte(`"apiKeyHelper": "cchelper"`)) || bytes.Contains(out.Bytes(), []byte("fake-secret")) {
			t.Errorf("it shows %s", out.Bytes())
		}
	}
	// A document on one line.
	before = `{"auths":{"r":{"auth":"fake-secret-1"}},"x":"fake-secret-2"}`
	after = `{"auths":{"r":{"auth":"fake-secret-1"}},"helper":"cchelper","x":"fake-secret-2"}`
	for sign, way := range map[string][2]string{"+": {before, after}, "-": {after, before}} {
		var out bytes.Buffer
		ShowDiff(&out, "config.json", []byte(way[0]), []byte(way[1]))
		if want := "\n" + sign + `…,"helper":"cchelper"…` + "\n"; !bytes.Contains(out.Bytes(), []byte(want)) ||
			bytes.Contains(out.Bytes(), []byte("fake-secret")) {
			t.Errorf("it shows %s", out.Bytes())
		}
	}
	var changed bytes.Buffer
	ShowDiff(&changed, "config.json", []byte(after), []byte(strings.Replace(after, "cchelper", "theirs", 1)))
	if want := "\n-…\"helper\":\"cchelper…\n+…\"helper\":\"theirs…\n"; !strings.Contains(changed.String(), want) {
		t.Errorf("it shows %s", changed.String())
	}
	var out bytes.Buffer
	ShowDiff(&out, "x", []byte("a\n"), []byte("b\x1b[2J\n"))
	if got := out.String(); !bytes.Contains(out.Bytes(), []byte("-a\n+b\\x1b[2J\n")) {
		t.Errorf("it shows %q", got)
	}
}

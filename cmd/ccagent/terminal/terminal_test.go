package terminal

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

func TestPrintError(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	PrintError(&b,
		fmt.Errorf("asking: %w", &protocol.Error{Code: protocol.CodeConfig, Message: "bad\x1b[31m\nthing", Hint: "one\ntwo\u202e"}))
	if want := "ccagent: asking: bad\\x1b[31m\\nthing\nhint: one\nhint: two\\u202e\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestSanitize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain é 日本": "plain é 日本", "a\tb": `a\tb`, "\x1b]0;x\a": `\x1b]0;x\a`, "\xff": `\xff`, "\u009b": `\u009b`,
		"a\u2028b": `a\u2028b`, "\x00": `\x00`,
	} {
		if got := Sanitize(in); got != want {
			t.Errorf("sanitize(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]string{
		0: "0s", 42 * time.Second: "42s", -90 * time.Second: "1m30s", 7*time.Hour + 12*time.Minute: "7h12m", 76 * time.Hour: "3d4h",
		1<<63 - 1: "over 100 years",
	} {
		if got := Span(in); got != want {
			t.Errorf("span(%d) = %s, want %s", in, got, want)
		}
	}
}

func TestUTF8Locale(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		all, lang string
		want      bool
	}{{"", "C.UTF-8", true}, {"C", "en_US.UTF-8", false}, {"", "de_DE.utf8", true}, {"", "", false}} {
		got := UTF8(func(name string) string { return map[string]string{"LC_ALL": test.all, "LANG": test.lang}[name] })
		if got != test.want {
			t.Errorf("LC_ALL=%q LANG=%q: %v", test.all, test.lang, got)
		}
	}
}

package terminal

import (
	"testing"
)

func TestEdited(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"code#state\n": "code#state\n", "cod\x7fde": "code", "wrong\x15right": "right", "\x1b[200~code\x1b[201~": "code",
		"\x7f\x7fa": "a",
	} {
		if got := Edited([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

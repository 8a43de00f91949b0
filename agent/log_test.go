package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestFailureIsLoggedOnce: a profile without a sign-in is tried again each second while somebody asks, and each time nothing is
// found.
func TestFailureIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		p := &provider{fail: &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored"}, local: true}
		a := start(t, p, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&text, nil)) })
		lines := func(want int) {
			t.Helper()
			for range 20 {
				refused(t, a, protocol.TokenRequest{}, protocol.ErrNotFound)
				time.Sleep(time.Second)
			}
			if n := strings.Count(text.String(), "no new token"); n != want {
				t.Errorf("%d lines, want %d", n, want)
			}
		}
		lines(1)
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeNotFound, Message: "the folder is gone"} })
		lines(2)
		if n := len(p.all()); n < 20 {
			t.Errorf("%d tries", n)
		}
	})
}

package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestSignInIsAskedForWhileTheTokenLives tells a person before the tools stop, and no longer than it is true.
func TestSignInIsAskedForWhileTheTokenLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		a := start(t, p)
		noticed := func() string {
			t.Helper()
			tok, err := a.Token(t.Context(), protocol.TokenRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return tok.Notice
		}
		if n := noticed(); n != "" {
			t.Errorf("notice %q though all is well", n)
		}
		time.Sleep(time.Minute)
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeUnavailable, Message: "no network"} })
		refused(t, a, protocol.TokenRequest{Force: true}, protocol.ErrUnavailable)
		if n := noticed(); n != "" {
			t.Errorf("notice %q of what may mend itself", n)
		}
		time.Sleep(time.Minute)
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeLoginRequired, Message: "revoked"} })
		refused(t, a, protocol.TokenRequest{Force: true}, protocol.ErrLoginRequired)
		by := profileOf(t, a).Expiry.Local().Format("2006-01-02 15:04")
		if n := noticed(); !strings.Contains(n, "sign in again by "+by+": ccagent login claude") {
			t.Errorf("notice %q, want the time %s and the command", n, by)
		}
		time.Sleep(time.Minute)
		p.set(func() { p.fail = nil })
		if tok, err := a.Token(t.Context(), protocol.TokenRequest{Force: true}); err != nil || tok.Notice != "" {
			t.Errorf("after a renewal: notice %q, %v", tok.Notice, err)
		}
	})
}

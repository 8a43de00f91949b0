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

// TestEndOfSignIn tells of the end of a sign-in before it comes: in status always, and to whoever asks for a token in its last
// days, once an hour.
func TestEndOfSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(10 * 24 * time.Hour)
		p := &provider{lifetime: 100 * 24 * time.Hour, tells: toTell{end: end, from: end.Add(-3 * 24 * time.Hour)}}
		a := start(t, p)
		cached := func() bool { return a.cachedFor(&protocol.TokenRequest{Home: ours}) != nil }
		noticed := func() string {
			t.Helper()
			tok, err := a.Token(t.Context(), protocol.TokenRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return tok.Notice
		}
		if n := noticed(); n != "" || !cached() {
			t.Errorf("notice %q too early, or the token is not in memory", n)
		}
		if s := profileOf(t, a); !s.SignInEnds.Equal(end) || !s.RemindFrom.Equal(p.tells.from) {
			t.Errorf("status: %v, told from %v", s.SignInEnds, s.RemindFrom)
		}
		time.Sleep(7 * 24 * time.Hour)
		by := end.Local().Format("2006-01-02 15:04")
		for range 2 {
			if cached() {
				t.Error("the ordinary answer is given where somebody is to be told")
			}
			if n := noticed(); n != "the sign-in of profile claude ends on "+by+"; sign in again: ccagent login claude" {
				t.Errorf("notice %q", n)
			}
			if n := noticed(); n != "" || !cached() {
				t.Errorf("notice %q again at once", n)
			}
			time.Sleep(time.Hour)
		}
		time.Sleep(3 * 24 * time.Hour)
		if n := noticed(); !strings.Contains(n, "was to end on "+by) {
			t.Errorf("notice %q", n)
		}
		p.set(func() { p.tells = toTell{} })
		if tok, err := a.Token(t.Context(), protocol.TokenRequest{Force: true}); err != nil || tok.Notice != "" {
			t.Errorf("after a renewal: notice %q, %v", tok.Notice, err)
		}
	})
}

// TestLostScopes tells whoever asks for a token which scopes a renewal has left out: at once, and then once a day.
func TestLostScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: 100 * 24 * time.Hour}
		a := start(t, p)
		noticed := func(req protocol.TokenRequest) string {
			t.Helper()
			tok, err := a.Token(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return tok.Notice
		}
		says := func(scopes string) string {
			return "a renewal of profile claude left out scopes: " + scopes +
				"; where a service misses them, sign in again: ccagent login claude"
		}
		noticed(protocol.TokenRequest{})
		for _, lost := range []string{"a b", "a"} {
			p.set(func() { p.tells.lost = lost })
			time.Sleep(time.Minute)
			if n := noticed(protocol.TokenRequest{Force: true}); n != says(lost) {
				t.Errorf("at the renewal: %q", n)
			}
			if n := noticed(protocol.TokenRequest{}); n != "" {
				t.Errorf("again at once: %q", n)
			}
			time.Sleep(scopePause)
			if n := noticed(protocol.TokenRequest{}); n != says(lost) {
				t.Errorf("a day later: %q", n)
			}
		}
		end := time.Now().Add(24 * time.Hour)
		p.set(func() { p.tells = toTell{end: end, from: time.Now(), lost: "a"} })
		noticed(protocol.TokenRequest{Force: true})
		time.Sleep(endPause)
		if n := noticed(protocol.TokenRequest{}); !strings.Contains(n, " ends on ") || !strings.HasSuffix(n, "; "+says("a")) {
			t.Errorf("with the end of the sign-in: %q", n)
		}
		p.set(func() { p.tells = toTell{} })
		if n := noticed(protocol.TokenRequest{Force: true}); n != "" {
			t.Errorf("they are back: %q", n)
		}
	})
}

// TestQuietRequests: who does not read a notice does not use up a reminder that somebody else would read.
func TestQuietRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(24 * time.Hour)
		p := &provider{lifetime: 100 * 24 * time.Hour, tells: toTell{end: end, from: time.Now(), lost: "a"}}
		a := start(t, p)
		for _, req := range []protocol.TokenRequest{{Quiet: true}, {Quiet: true, Force: true}, {Quiet: true}} {
			if tok, err := a.Token(t.Context(), req); err != nil || tok.Notice != "" {
				t.Errorf("%+v: notice %q, %v", req, tok.Notice, err)
			}
		}
		if a.cachedFor(&protocol.TokenRequest{Home: ours, Quiet: true}) == nil {
			t.Error("a quiet request does not get the token in memory at once")
		}
		if tok, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || !strings.Contains(tok.Notice, "ends on") {
			t.Errorf("who reads it: %q, %v", tok.Notice, err)
		}
	})
}

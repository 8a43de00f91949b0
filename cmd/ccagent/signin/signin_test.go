package signin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
)

func TestCodes(t *testing.T) {
	t.Parallel()
	large := largeText("AB-12", 80)
	if strings.Count(large, "\n") != 3 {
		t.Errorf("a large code has the lines:\n%s", large)
	}
	if largeText("ABCD-EFGH", 35) != "" || largeText("äöü", 80) != "" {
		t.Error("a code that does not fit, or has no letters of the font, was drawn")
	}
	for r, glyph := range font {
		if len(glyph) != 5 || strings.Trim(glyph, "01234567") != "" {
			t.Errorf("%c is %q", r, glyph)
		}
	}
	if qrCode("https://example.com/device?user_code=ABCD-EFGH", 39, false) != "" {
		t.Error("a QR code was drawn on a terminal of 39 columns")
	}
	code := qrCode("https://example.com/device?user_code=ABCD-EFGH", 80, false)
	for line := range strings.Lines(code) {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("a line of the QR code has %d columns", n)
		}
	}
	if strings.Contains(code, "\x1b") || !strings.Contains(qrCode("x", 80, true), "\x1b[30;107m") {
		t.Error("colour is where it should not be, or is not where it should")
	}
}

// Who is asked to confirm a sign-in is shown nobody else's name for it.
func TestWhoSignedIn(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"sub":"alice-1","email":"alice@example.com"}`))
	}))
	defer server.Close()
	s := &Flow{Client: &oauth.Client{ProfileURL: server.URL}}
	for account, want := range map[string]string{"": "alice@example.com", "alice-1": "alice@example.com", "bob-1": ""} {
		reply := oauth.Reply{AccessToken: protocol.NewSecret("fake-access-1"), Identity: protocol.Identity{Account: account}}
		if got := s.who(t.Context(), reply); got.Email != want {
			t.Errorf("the ID token names %q: %+v", account, got)
		}
	}
}

package httpauth

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestBearer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", protocol.MaxToken)
	tests := []struct {
		name   string
		fields []string
		token  string
		want   presence
	}{
		{"no header", nil, "", absent},
		{"a token", []string{"Bearer fake-1"}, "fake-1", present},
		{"in capitals", []string{"BEARER fake-1"}, "fake-1", present},
		{"in small letters", []string{"bearer fake-1"}, "fake-1", present},
		{"several spaces", []string{"Bearer   fake-1"}, "fake-1", present},
		{"every character of a token", []string{"Bearer aZ09-._~+/=!\"#"}, "aZ09-._~+/=!\"#", present},
		{"the longest", []string{"Bearer " + long}, long, present},
		{"too long", []string{"Bearer " + long + "a"}, "", malformed},
		{"nothing", []string{""}, "", malformed},
		{"white space", []string{"   "}, "", malformed},
		{"the scheme alone", []string{"Bearer"}, "", malformed},
		{"the scheme and spaces", []string{"Bearer   "}, "", malformed},
		{"a tab between", []string{"Bearer\tfake-1"}, "", malformed},
		{"two tokens", []string{"Bearer fake-1 fake-2"}, "", malformed},
		{"a list", []string{"Bearer fake-1, Bearer fake-2"}, "", malformed},
		{"a space at the end", []string{"Bearer fake-1 "}, "", malformed},
		{"two headers", []string{"Bearer fake-1", "Bearer fake-1"}, "", malformed},
		{"two headers, one of them empty", []string{"Bearer fake-1", ""}, "", malformed},
		{"a NUL", []string{"Bearer fake\x00"}, "", malformed},
		{"a line feed", []string{"Bearer fake\nX-Evil: 1"}, "", malformed},
		{"an escape", []string{"Bearer \x1b[31m"}, "", malformed},
		{"DEL", []string{"Bearer fake\x7f"}, "", malformed},
		{"UTF-8", []string{"Bearer fäke"}, "", malformed},
		{"a token without a scheme", []string{"fake-1"}, "", foreign},
		{"Basic", []string{"Basic ZmFrZTpmYWtl"}, "", foreign},
		{"a scheme that begins alike", []string{"Bearers fake-1"}, "", foreign},
		{"no scheme", []string{" Bearer fake-1"}, "", malformed},
		{"a scheme that is none", []string{"Be@rer fake-1"}, "", malformed},
	}
	for _, tt := range tests {
		token, got := bearer(tt.fields)
		if token != tt.token || got != tt.want {
			t.Errorf("%s: %q, %d; want %q, %d", tt.name, token, got, tt.token, tt.want)
		}
	}
}

// FuzzBearer: whatever the header holds, a token that is found in it is a possible token, is part of the header, and is
// found again.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{"", "Bearer fake-1", "bearer  fake-1", "Basic ZmFrZQ==", "Bearer", "Bearer \x00", "Bearer a b",
		"\tBearer a", "Bearer " + strings.Repeat("a", 20000)} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, field string, twice bool) {
		fields := []string{field}
		if twice {
			fields = append(fields, field)
		}
		token, p := bearer(fields)
		if (p == present) != (token != "") {
			t.Fatalf("%q: token %q, presence %d", field, token, p)
		}
		if p == absent || p == present && twice {
			t.Fatalf("%q, twice %v: presence %d", field, twice, p)
		}
		if p != present {
			return
		}
		if err := protocol.CheckToken(protocol.NewSecret(token)); err != nil {
			t.Fatalf("%q: the token %q is none: %v", field, token, err)
		}
		if !strings.HasSuffix(field, " "+token) ||
			!strings.EqualFold(strings.TrimRight(strings.TrimSuffix(field, token), " "), "bearer") {
			t.Fatalf("%q: the token is %q", field, token)
		}
		if again, p := bearer(http.Header{"Authorization": {"Bearer " + token}}["Authorization"]); p != present || again != token {
			t.Fatalf("%q: sent again it is %q, %d", token, again, p)
		}
	})
}

func TestWantsJSON(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/html,application/xhtml+xml,*/*;q=0.8": false, "text/plain": false,
		"application/json": true, "Application/JSON; charset=utf-8": true, "application/*": true, "application/problem+json": true,
		"application/json;q=0": false, "application/json;q=0.5, text/plain": false, "text/plain;q=0.5, application/json": true,
		"application/json, text/plain, */*": true, "application/json;q=nonsense": true, ";;,,": false, "+json": false,
	} {
		if got := wantsJSON([]string{accept}); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
	if wantsJSON(nil) || !wantsJSON([]string{"text/html", "application/json"}) {
		t.Error("several fields are not read as one")
	}
}

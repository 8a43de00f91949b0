package store

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// TestReadClaude is one table, which is why it is long.
func TestReadClaude(t *testing.T) {
	at := time.UnixMilli
	tests := []struct {
		name, in string
		expiry   time.Time
		wantErr  error
	}{
		{"as written", `{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":"fake-r","expiresAt":1900000000000,"scopes":["x"]}}`,
			at(1900000000000), nil},
		{
			"written by the predecessor",
			`{"claudeAiOauth": {"accessToken": "fake-a", "refreshToken": "fake-r", "expiresAt": 1900000000000, "scopes": [], "subscriptionType": null}}`,
			at(1900000000000),
			nil,
		},
		{
			"null never expires",
			`{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":"fake-r","expiresAt":null}}`,
			time.Time{},
			nil,
		},
		{"zero is due", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":0}}`, at(0), nil},
		{"negative is due", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":-62135596800000}}`, at(0), nil},
		{"seconds are due", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":1900000000}}`, at(1900000000), nil},
		{"absent with a refresh token is due", `{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":"fake-r"}}`, at(0), nil},
		{"absent without one never expires", `{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":null}}`, time.Time{}, nil},
		{"no access token is due", `{"claudeAiOauth":{"accessToken":"","refreshToken":"fake-r","expiresAt":1900000000000}}`, at(0),
			nil},
		{"year 9999", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":253402300799999}}`, at(253402300799999), nil},
		{"another way to write an integer", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":1.9e12}}`, at(1900000000000), nil},
		{"the last of a repeated key",
			`{"claudeAiOauth":{},"claudeAiOauth":{"accessToken":"b","expiresAt":1,"accessToken":"fake-a","expiresAt":2}}`, at(2), nil},
		{"escaped keys", `{"claude\u0041iOauth":{"access\u0054oken":"fake-a","expiresAt":2}}`, at(2), nil},
		{"a key in another case is another key",
			`{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":2,"expiresat":"x","ACCESSTOKEN":3}}`, at(2), nil},

		{"year 10000", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":253402300800000}}`, time.Time{}, protocol.ErrInvalid},
		{"huge", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":1e999}}`, time.Time{}, protocol.ErrInvalid},
		{"a fraction", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":1.5}}`, time.Time{}, protocol.ErrInvalid},
		{"a string", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":"1900000000000"}}`, time.Time{}, protocol.ErrInvalid},
		{"a bool", `{"claudeAiOauth":{"accessToken":"fake-a","expiresAt":true}}`, time.Time{}, protocol.ErrInvalid},
		{"a number for a token", `{"claudeAiOauth":{"accessToken":7,"expiresAt":1}}`, time.Time{}, protocol.ErrInvalid},
		{"a list for a token", `{"claudeAiOauth":{"accessToken":["fake-secret"],"expiresAt":1}}`, time.Time{}, protocol.ErrInvalid},
		{
			"a newline in a token",
			`{"claudeAiOauth":{"accessToken":"fake-secret\nX: y","expiresAt":1}}`,
			time.Time{},
			protocol.ErrInvalid,
		},
		{
			"a control character in a refresh token",
			`{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":"fake-secret\u001b","expiresAt":1}}`,
			time.Time{},
			protocol.ErrInvalid,
		},
		{"a lone surrogate", `{"claudeAiOauth":{"accessToken":"fake-secret\ud800","expiresAt":1}}`, time.Time{}, protocol.ErrInvalid},
		{
			"scopes of a wrong type",
			`{"claudeAiOauth":{"accessToken":"fake-a","scopes":"fake-secret"}}`,
			time.Time{},
			protocol.ErrInvalid,
		},
		{"a null scope", `{"claudeAiOauth":{"accessToken":"fake-a","scopes":[null]}}`, time.Time{}, protocol.ErrInvalid},
		{"empty", ``, time.Time{}, protocol.ErrInvalid},
		{"white space", " \n", time.Time{}, protocol.ErrInvalid},
		{"truncated", `{"claudeAiOauth":{"accessToken":"fake-secret`, time.Time{}, protocol.ErrInvalid},
		{"two values", `{} {}`, time.Time{}, protocol.ErrInvalid},
		{"binary", "\x00\x01\xfffake-secret", time.Time{}, protocol.ErrInvalid},
		{"a list", `["fake-secret"]`, time.Time{}, protocol.ErrInvalid},
		{"a sign-in of a wrong type", `{"claudeAiOauth":"fake-secret"}`, time.Time{}, protocol.ErrInvalid},
		{"too large", `{"claudeAiOauth":{"accessToken":"fake-a"}}` + strings.Repeat(" ", MaxFile), time.Time{}, protocol.ErrInvalid},
		{"nobody signed in", `{"mcpOAuth":{}}`, time.Time{}, protocol.ErrNotFound},
		{"null", `{"claudeAiOauth":null}`, time.Time{}, protocol.ErrNotFound},
		{
			"a stub",
			`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0,"scopes":[]}}`,
			time.Time{},
			protocol.ErrLoginRequired,
		},
		{"an empty object", `{"claudeAiOauth":{}}`, time.Time{}, protocol.ErrLoginRequired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ReadClaude(strings.NewReader(tt.in))
			if !errors.Is(err, tt.wantErr) {
				t.Fatalf("error %v, want %v", err, tt.wantErr)
			}
			if err != nil {
				text := err.Error() + protocol.HintOf(err)
				if strings.Contains(text, "secret") || strings.Contains(err.Error(), "\n") || protocol.HintOf(err) == "" {
					t.Errorf("error %q with hint %q", err, protocol.HintOf(err))
				}
				return
			}
			if !sameMillis(r.Expiry, tt.expiry) {
				t.Errorf("expiry %v, want %v", r.Expiry, tt.expiry)
			}
			if got := r.AccessToken.Reveal(); got != "fake-a" && got != "" {
				t.Errorf("token %q", got)
			}
		})
	}
}

func newRecord() Record {
	return Record{
		Kind:         protocol.KindOAuth,
		AccessToken:  protocol.NewSecret("fake-<new>"),
		RefreshToken: protocol.NewSecret("fake-new-r"),
		Expiry:       time.UnixMilli(1900000000000),
		Scopes:       []string{"a"},
	}
}

func TestSplice(t *testing.T) {
	full := newRecord()
	full.Subscription, full.RateLimit, full.GrantExpiry = "max", "tier", time.UnixMilli(1990000000000)
	tests := []struct {
		name, in string
		r        Record
		want     string
	}{
		{"a new file", ``, full,
			`{"claudeAiOauth":{"accessToken":"fake-<new>","refreshToken":"fake-new-r","expiresAt":1900000000000,"scopes":["a"],"subscriptionType":"max","rateLimitTier":"tier","refreshTokenExpiresAt":1990000000000}}`},
		{"beside others", "{ \"mcpOAuth\" : {\"x\":1.0e0,\"\\u0041\":\"\\/\"} }\n", newRecord(),
			"{ \"mcpOAuth\" : {\"x\":1.0e0,\"\\u0041\":\"\\/\"},\"claudeAiOauth\":{\"accessToken\":\"fake-<new>\"," +
				"\"refreshToken\":\"fake-new-r\",\"expiresAt\":1900000000000,\"scopes\":[\"a\"]} }\n"},
		{"instead of null", `{"claudeAiOauth":null,"b":1}`, newRecord(),
			`{"claudeAiOauth":{"accessToken":"fake-<new>","refreshToken":"fake-new-r","expiresAt":1900000000000,"scopes":["a"]},"b":1}`},
		{"white space and unknown keys",
			"{\n  \"claudeAiOauth\" : {\n\t\"new\" : {\"deep\":[1,2]},\r\n \"accessToken\" :\t\"old\" , " +
				"\"refreshToken\":\"old\",\"expiresAt\": 17 ,\"scopes\" : [ \"a\" ]\n }\n}\n", newRecord(),
			"{\n  \"claudeAiOauth\" : {\n\t\"new\" : {\"deep\":[1,2]},\r\n \"accessToken\" :\t\"fake-<new>\" , " +
				"\"refreshToken\":\"fake-new-r\",\"expiresAt\": 1900000000000 ,\"scopes\" : [ \"a\" ]\n }\n}\n"},
		{
			"same values keep their bytes",
			`{"claudeAiOauth":{"accessToken":"fake-\u003cnew\u003e","refreshToken":"old","expiresAt":1.9e12,"scopes":["\u0061"],"subscriptionType":"pro"}}`,
			newRecord(),
			`{"claudeAiOauth":{"accessToken":"fake-\u003cnew\u003e","refreshToken":"fake-new-r","expiresAt":1.9e12,"scopes":["\u0061"],"subscriptionType":"pro"}}`,
		},
		{
			"repeated and escaped keys",
			`{"claudeAiOauth":{"accessToken":"first"},"claudeAi\u004fauth":{"accessToken":"a","access\u0054oken":"b","refreshToken":"c","expiresAt":1,"scopes":["a"]}}`,
			newRecord(),
			`{"claudeAiOauth":{"accessToken":"first"},"claudeAi\u004fauth":{"accessToken":"fake-<new>","access\u0054oken":"fake-<new>","refreshToken":"fake-new-r","expiresAt":1900000000000,"scopes":["a"]}}`,
		},
		{"absent keys are added", `{"claudeAiOauth":{"accessToken":"old"}}`, full,
			`{"claudeAiOauth":{"accessToken":"fake-<new>","refreshToken":"fake-new-r","expiresAt":1900000000000,"scopes":["a"],"subscriptionType":"max","rateLimitTier":"tier","refreshTokenExpiresAt":1990000000000}}`},
		{
			"no refresh token where there is none",
			`{"claudeAiOauth":{"accessToken":"old","expiresAt":5}}`,
			Record{Kind: protocol.KindOAuth, AccessToken: protocol.NewSecret("fake-n")},
			`{"claudeAiOauth":{"accessToken":"fake-n","expiresAt":null}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := spliceClaude("file", []byte(tt.in), tt.r)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestRemoveMembers(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		left     int
	}{
		{`{"claudeAiOauth":{}}`, `{}`, 0},
		{`{ "claudeAiOauth" : {} , "b":1 }`, `{ "b":1 }`, 1},
		{`{"a":1 , "claudeAiOauth":{"x":[]}, "b":1}`, `{"a":1, "b":1}`, 2},
		{`{"a":"\u0041", "claudeAiOauth":1}`, `{"a":"\u0041"}`, 1},
		{`{"claudeAiOauth":1,"a":2,"claude\u0041iOauth":3,"claudeAiOauth":4}`, `{"a":2}`, 1},
		{`{"a":1}`, `{"a":1}`, 1},
	} {
		got, left, err := splice.Remove([]byte(tt.in), claudeKey)
		if err != nil || string(got) != tt.want || left != tt.left {
			t.Errorf("%s: got %s, %d left, %v; want %s", tt.in, got, left, err, tt.want)
		}
	}
}

// FuzzSplice: whatever the file holds, what we write is read back, every other value keeps its bytes, and writing once more
// changes nothing.
func FuzzSplice(f *testing.F) {
	seeds := []string{
		`{}`, `{"claudeAiOauth":{}}`, `{"claudeAiOauth":null}`, `{"a":1,"a":2}`,
		`{"claudeAiOauth":{"accessToken":"fake-a","refreshToken":"fake-r","expiresAt":1,"scopes":["x"]},"mcpOAuth":{"x|1":{"k":1.50}}}`,
		"{\t\"\\u0063laudeAiOauth\" : { \"z\":[{},[],\"\\\"}\"] , \"expiresAt\" : -0 } , \"é\" : \"\xff\" }\n",
	}
	for _, s := range seeds {
		if _, err := spliceClaude("seed", []byte(s), newRecord()); err != nil {
			f.Fatalf("a seed that tests nothing: %s: %v", s, err)
		}
		f.Add([]byte(s), "fake-access", "fake-refresh", int64(1900000000000))
	}
	ours := map[string]bool{"accessToken": true, "refreshToken": true, "expiresAt": true, "scopes": true}
	f.Fuzz(func(t *testing.T, src []byte, access, refresh string, ms int64) {
		r := newRecord()
		r.AccessToken, r.RefreshToken = protocol.NewSecret(access), protocol.NewSecret(refresh)
		r.Expiry = time.UnixMilli(max(0, ms) % lastMillis)
		out, err := spliceClaude("file", src, r)
		if err != nil {
			return
		}
		got, err := readClaude("file", out)
		if err != nil {
			t.Fatalf("spliced %q into %q: %v", src, out, err)
		}
		if got.AccessToken.Reveal() != access || got.RefreshToken.Reveal() != refresh ||
			access != "" && !sameMillis(got.Expiry, r.Expiry) || !reflect.DeepEqual(got.Scopes, r.Scopes) {
			t.Fatalf("spliced %q into %q", src, out)
		}
		if again, err := spliceClaude("file", out, r); err != nil || string(again) != string(out) {
			t.Fatalf("again: %q, %v; first %q", again, err, out)
		}
		if len(src) == 0 {
			return
		}
		before, after := takeApart(t, src), takeApart(t, out)
		if !reflect.DeepEqual(before.outer, after.outer) || !reflect.DeepEqual(strip(before.inner, ours), strip(after.inner, ours)) {
			t.Fatalf("other members changed: %q to %q", src, out)
		}
		// What is between the values of an existing sign-in stays, too: without our own members nothing differs.
		if before.had && !reflect.DeepEqual(before.prefix, after.prefix) {
			t.Fatalf("bytes around changed: %q to %q", src, out)
		}
	})
}

// parts are the parts of a file: the members besides the sign-in, those in it, and the bytes before and after it.
type parts struct {
	outer, inner [][2]string
	prefix       [2]string
	had          bool
}

func takeApart(t *testing.T, src []byte) (p parts) {
	t.Helper()
	spans, err := splice.Scan(src)
	if err != nil {
		t.Fatal(err)
	}
	last, ok := splice.Find(spans, claudeKey)
	for _, s := range spans {
		if !ok || s != last {
			p.outer = append(p.outer, [2]string{s.Key, string(src[s.Start:s.After])})
		}
	}
	if ok && src[last.Value] == '{' {
		p.had = true
		p.prefix = [2]string{string(src[:last.Value]), string(src[last.After:])}
		inner := src[last.Value:last.After]
		if !json.Valid(inner) {
			t.Fatalf("a value that is no value: %q", inner)
		}
		spans, err := splice.Scan(inner)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			p.inner = append(p.inner, [2]string{s.Key, string(inner[s.Start:s.After])})
		}
	}
	return p
}

func strip(members [][2]string, keys map[string]bool) (left [][2]string) {
	for _, m := range members {
		if !keys[m[0]] {
			left = append(left, m)
		}
	}
	return left
}

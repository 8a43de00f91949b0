package route

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/place"
)

func upstream(t testing.TB, written string) *url.URL {
	t.Helper()
	u, err := ParseUpstream(written)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func rule(t testing.TB, written string) Rule {
	t.Helper()
	r, err := ParseRule(written)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func table(t testing.TB) Table {
	return Table{
		{Name: "llm", Upstream: upstream(t, "https://llm.example.com"), Hosts: []string{"files.example.com", "*.cdn.example.com:8443"}},
		{Name: "deep", Upstream: upstream(t, "https://llm.example.com/deep/v1/")},
		{Name: "here", Upstream: upstream(t, "http://127.0.0.1:9000")},
	}
}

// TestCheckTarget: what two programs could read in two ways is refused.
func TestCheckTarget(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"/", "/a", "/a/", "/v1/messages?beta=true", "/a/b;c=d/", "/a...b/..c/.d", "/group%2Fproject", "/%41%20b", "/a?b=//../%2e\\",
		"/@scope%2fname", "/a:b@c,d", "/a%25b",
	} {
		if err := CheckTarget(target); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	for _, target := range []string{
		"", "a", "*", "http://llm.example.com/a", "//llm.example.com/a", "/a//b", "/a//", "/.", "/..", "/a/../b", "/a/./b", "/a/..",
		"/a/..;x/b", "/a/..;", "/a/%2e%2e/b", "/a/%2E/b", "/%2e", "/a/.%2e/b", `/a\b`, `/a\..\b`, "/a%5c..%5Cb", "/a%2f..%2fb",
		"/a%2f/b",
		"/a/%2fb", "/%2f", "/a%252e%252e/b", "/a%25%32%65/b", "/a%252fb", "/a%00b", "/a%0d%0ab", "/a%7f",
		"/a b", "/a\tb", "/ä", "/a#b",
		"/a%zz", "/a%", "/a%2", "/a?b#c", "/a?b c", "/{a}", "/a|b", "/a\"b",
	} {
		if err := CheckTarget(target); err == nil {
			t.Errorf("%s is let through", target)
		}
	}
}

func TestBase(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/llm":                                  "llm https://llm.example.com",
		"/llm/":                                 "llm https://llm.example.com/",
		"/llm/v1/messages?beta=true":            "llm https://llm.example.com/v1/messages?beta=true",
		"/llm/a%2fb/c;d?":                       "llm https://llm.example.com/a%2fb/c;d?",
		"/deep":                                 "deep https://llm.example.com/deep/v1",
		"/deep/models?a=1&a=%2":                 "deep https://llm.example.com/deep/v1/models?a=1&a=%2",
		"/here/x":                               "here http://127.0.0.1:9000/x",
		"/llm@files.example.com/a/b":            "llm https://files.example.com/a/b",
		"/llm@x.cdn.example.com:8443/a":         "llm https://x.cdn.example.com:8443/a",
		"/":                                     "",
		"/nosuch/a":                             "",
		"/LLM/a":                                "",
		"/llm@/a":                               "",
		"/llm@llm.example.com/a":                "",
		"/llm@FILES.example.com/a":              "",
		"/llm@files.example.com:443/a":          "",
		"/llm@cdn.example.com:8443/a":           "",
		"/llm@x.cdn.example.com/a":              "",
		"/llm@evil.example@files.example.com/a": "",
		"/here@127.0.0.1:9000/a":                "",
		"/llm%2fv1":                             "",
		"/llm/../deep":                          "",
		"http://llm.example.com/llm/a":          "",
	} {
		r, to, err := table(t).Base(target)
		var refusal *Refusal
		if got := ""; err == nil {
			got = r.Name + " " + to.String()
			if got != want {
				t.Errorf("%s: %s, want %q", target, got, want)
			}
		} else if want != "" || !errors.As(err, &refusal) {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
}

// TestLocation: where an answer leads to is written as the tool finds it, and leads back to the same.
func TestLocation(t *testing.T) {
	t.Parallel()
	const base = "http://127.0.0.1:1"
	for to, want := range map[string]string{
		"https://llm.example.com/a%2Fb?c=%2e#d": "/llm/a%2Fb?c=%2e#d",
		"https://LLM.example.com:443":           "/llm",
		"https://llm.example.com/deep/v1/x":     "/deep/x",
		"https://llm.example.com/deep/v1x":      "/llm/deep/v1x",
		"https://files.example.com/x":           "/llm@files.example.com/x",
		"https://a.cdn.example.com:8443/x":      "/llm@a.cdn.example.com:8443/x",
		"http://127.0.0.1:9000/x":               "/here/x",
		"https://127.0.0.1:9000/x":              "",
		"http://llm.example.com/x":              "",
		"https://evil.example/x":                "",
		"https://fake:fake@llm.example.com/x":   "",
		"https://a.cdn.example.com/x":           "",
	} {
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		got := table(t).Location(base, u)
		if want != "" {
			want = base + want
		}
		if got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
		if got == "" {
			continue
		}
		target, _, _ := strings.Cut(strings.TrimPrefix(got, base), "#")
		if r, back, err := table(t).Base(target); err != nil || back.EscapedPath() != u.EscapedPath() || back.RawQuery != u.RawQuery ||
			r != nil && table(t).At(u).Name != r.Name {
			t.Errorf("%s: %s leads to %v, %v", to, got, back, err)
		}
	}
}

func TestByHost(t *testing.T) {
	t.Parallel()
	routes := table(t)
	for _, tt := range []struct{ host, target, route, to string }{
		{"llm.example.com", "/v1/a%2Fb?c=d", "llm", "https://llm.example.com/v1/a%2Fb?c=d"},
		{"LLM.example.com:443", "/deep/v1/a", "deep", "https://llm.example.com/deep/v1/a"},
		{"files.example.com", "/a", "llm", "https://files.example.com/a"},
		{"a.cdn.example.com:8443", "/a", "llm", "https://a.cdn.example.com:8443/a"},
		{"a.cdn.example.com", "/a", "", ""},
		{"llm.example.com.", "/a/../b", "", ""},
		{"llm.example.com:80", "/a", "", ""},
		{"llm.example.com:443:1", "/a", "", ""},
		{"x@llm.example.com", "/a", "", ""},
		{"127.0.0.1:9000", "/a", "", ""}, // plain http is for base URLs
		{"localhost", "/llm/a", "", ""},
		{"", "/a", "", ""},
		{"llm.example.com", "//a", "", ""},
		{"llm.example.com", "https://llm.example.com/a", "", ""},
	} {
		r, to, found := routes.ByHost(tt.host, tt.target)
		name, at := "", ""
		if found {
			name, at = r.Name, to.String()
		}
		if name != tt.route || at != tt.to {
			t.Errorf("%s %s: %q, %q", tt.host, tt.target, name, at)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	routes := table(t)
	routes[0].Allow = []Rule{rule(t, "POST /v1/messages"), rule(t, "GET /")}
	for _, tt := range []struct{ method, url, route, rule, why string }{
		{"POST", "https://llm.example.com/v1/messages?beta=true#x", "llm", "POST /v1/messages", ""},
		{"POST", "https://LLM.example.com:443/v1/messages", "llm", "POST /v1/messages", ""},
		{"GET", "https://llm.example.com", "llm", "GET /", ""},
		{"HEAD", "https://llm.example.com?a", "llm", "GET /", ""},
		{"GET", "https://llm.example.com/deep/v1/a", "deep", "", ""},
		{"GET", "https://llm.example.com/v1/messages", "llm", "", "route llm does not allow GET /v1/messages"},
		{"TRACE", "https://llm.example.com/deep/v1/a", "deep", "", "the answer to TRACE would show the token"},
		{"GET", "http://llm.example.com/a", "", "", "no route covers http://llm.example.com/a"},
		{"GET", "https://other.example.com/a", "", "", "no route covers https://other.example.com/a"},
		{"GET", "https://llm.example.com/a/../b", "", "", "dot segment"},
		{"GET", "https://llm.example.com//a", "", "", "two slashes"},
		{"GET", `https://llm.example.com/a\b`, "", "", "backslash"},
		{"GET", "https://me:pw@llm.example.com/", "", "", "a user or a password"},
		{"GET", "/v1/messages", "", "", "not the URL of a request"},
		{"GET", "mailto:a@b.example", "", "", "not the URL of a request"},
	} {
		r, applies, err := routes.Check(tt.method, tt.url)
		name, why := "", ""
		if r != nil {
			name = r.Name
		}
		if err != nil {
			why = err.Error()
		}
		if name != tt.route || applies != tt.rule || !strings.Contains(why, tt.why) || (why == "") != (tt.why == "") {
			t.Errorf("%s %s: route %q, rule %q, %q", tt.method, tt.url, name, applies, why)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	r := &Route{Name: "llm",
		Allow: []Rule{rule(t, "POST /v1/messages"), rule(t, "GET /v1/models/**"), rule(t, "* /files/*/x-*"), rule(t, "GET /p/*/issues"),
			rule(t, "POST /m/*:generate")},
		Deny: []Rule{rule(t, "GET /v1/models/secret/**"), rule(t, "* /**/admin/*"), rule(t, "DELETE /**")}}
	for request, want := range map[string]bool{
		"POST /v1/messages":             true,
		"POST /v1/mess%61ges":           true,
		"GET /v1/messages":              false,
		"POST /v1/messages/":            false,
		"POST /v1/messages/batches":     false,
		"POST /V1/messages":             false,
		"GET /v1/models":                true,
		"HEAD /v1/models/a":             true,
		"GET /v1/models/a/b":            true,
		"POST /v1/models/a":             false,
		"GET /v1/modelsx":               false,
		"GET /v1/models/secret":         false,
		"HEAD /v1/models/secret/a":      false,
		"GET /v1/models/s%65cret/a":     false,
		"GET /v1/models/secret%2Fa":     false, // some servers take it for /v1/models/secret/a
		"GET /v1/models/secret;a=b/c":   false,
		"GET /v1/models/secrets":        true,
		"PUT /files/a/x-1":              true,
		"PUT /files/a/x-":               true,
		"PUT /files/a/y-1":              false,
		"PUT /files/a/b/x-1":            false,
		"GET /p/group%2Fproject/issues": true,
		"GET /p/group/project/issues":   false,
		"GET /p//issues":                false, // no such request comes through CheckTarget
		"POST /m/a-1.5:generate":        true,
		"POST /m/a:generateMore":        false,
		"GET /v1/models/admin/x":        false,
		"PUT /files/admin/x-1":          false,
		"DELETE /files/a/x-1":           false,
		"GET /":                         false,
		"GET ":                          false,
	} {
		method, path, _ := strings.Cut(request, " ")
		if _, err := r.Judge(method, path); (err == nil) != want && path != "/p//issues" {
			t.Errorf("%s: %v", request, err)
		}
	}
	if by, err := r.Judge("HEAD", "/v1/models/a"); by != "GET /v1/models/**" || err != nil {
		t.Errorf("by rule %q, %v", by, err)
	}
	open := &Route{Name: "open", Deny: []Rule{rule(t, "DELETE /**")}}
	if by, err := open.Judge("GET", "/a"); by != "" || err != nil {
		t.Errorf("by rule %q, %v", by, err)
	}
	if by, err := open.Judge("DELETE", ""); by != "DELETE /**" || err == nil {
		t.Errorf("by rule %q, %v", by, err)
	}
}

func TestParseRule(t *testing.T) {
	t.Parallel()
	for _, written := range []string{
		"", "GET", "GET  /a", "get /a", "/a", "GET a", "GET /a//b", "GET /a?b", "GET /a#b", `GET /a\b`, "GET /a%20b", "GET /../a",
		"GET /a/./b", "GET /a**/b", "GET /***", "GET,POST /a", "** /a", "GET /a\n",
	} {
		if r, err := ParseRule(written); err == nil {
			t.Errorf("%q is read as %v", written, r)
		}
	}
}

func TestParseUpstream(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]string{
		"https://llm.example.com":        "https://llm.example.com",
		"https://llm.example.com/":       "https://llm.example.com",
		"https://llm.example.com/a%2Fb/": "https://llm.example.com/a%2Fb",
		"http://localhost:1/v1":          "http://localhost:1/v1",
		"http://llm.example.com":         "",
		"https://llm.example.com/?":      "",
		"https://llm.example.com/?a=b":   "",
		"https://llm.example.com/a/../":  "",
		"https://llm.example.com//":      "",
		"https://a:b@llm.example.com/":   "",
		"llm.example.com":                "",
		"":                               "",
	} {
		u, err := ParseUpstream(written)
		if err == nil && u.String() != want || err != nil && want != "" {
			t.Errorf("%s: %v, %v", written, u, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for _, written := range []string{"1/s", "600/m", "1000000/h"} {
		if l, err := ParseLimit(written); err != nil || l.String() != written {
			t.Errorf("%s: %v, %v", written, l, err)
		}
	}
	for _, written := range []string{"", "600", "/m", "0/m", "-1/m", "600/d", "600/", "6e2/m", "+6/m", "06/m",
		"1000001/s", "1/s ", "1/m/m"} {
		if l, err := ParseLimit(written); err == nil {
			t.Errorf("%q is read as %v", written, l)
		}
	}
}

func TestFor(t *testing.T) {
	t.Parallel()
	key := place.Header("x-api-key")
	r := Route{Place: place.Bearer, Env: map[string]Value{"A": Token},
		Kinds: map[string]Variant{"api-key": {Place: &key}, "oauth": {Env: map[string]Value{"B": Token}}}}
	if got := r.For("bearer"); got.Place != place.Bearer || got.Env["A"] != Token {
		t.Errorf("%+v", got)
	}
	if got := r.For("api-key"); got.Place != key || got.Env["A"] != Token {
		t.Errorf("%+v", got)
	}
	if got := r.For("oauth"); got.Place != place.Bearer || len(got.Env) != 1 || got.Env["B"] != Token {
		t.Errorf("%+v", got)
	}
}

// FuzzTarget: whatever is let through is read by net/http as it was judged, and leads nowhere but below the upstream.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"/deep/a/b?c", "/deep/%2e%2e/a", "/deep/a%2fb", "/llm@files.example.com/x", "/deep/..;/a",
		"/deep//a"} {
		f.Add(seed)
	}
	routes := table(f)
	f.Fuzz(func(t *testing.T, target string) {
		r, to, err := routes.Base(target)
		if err != nil {
			return
		}
		sent := to.RequestURI()
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + sent + " HTTP/1.1\r\nHost: llm.example.com\r\n\r\n")))
		if err != nil {
			t.Fatalf("%q is sent as %q, which can't be read: %v", target, sent, err)
		}
		if to.Path != "" && (req.URL.Path != to.Path || req.URL.EscapedPath() != to.EscapedPath()) || req.URL.RawQuery != to.RawQuery {
			t.Errorf("%q is sent as %q, which is read as %q", target, sent, req.URL)
		}
		if clean := path.Clean(to.Path); to.Path != "" && clean != to.Path && clean+"/" != to.Path {
			t.Errorf("%q leads to %q, which some read as %q", target, to.Path, clean)
		}
		if to.Host == r.Upstream.Host && !below(to.EscapedPath(), r.Upstream.EscapedPath()) {
			t.Errorf("%q leads to %q", target, to)
		}
	})
}

// FuzzRule: a rule matches what a regular expression for it matches.
func FuzzRule(f *testing.F) {
	f.Add("GET /a/*/**/b*c", "/a/x/b/c/bc")
	f.Add("GET /**", "")
	f.Add("GET /**/a/**/b", "/a/a/b/a/b")
	f.Fuzz(func(t *testing.T, written, requested string) {
		r, err := ParseRule(written)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again.String() != r.String() {
			t.Fatalf("%q is written as %q: %v", written, r, err)
		}
		if !strings.HasPrefix(requested, "/") || len(requested) > 200 || len(written) > 100 {
			return
		}
		pattern := "(?s)^"
		for _, segment := range r.segments {
			if segment == "**" {
				pattern += "(/[^/]*)*"
				continue
			}
			pattern += "/" + strings.ReplaceAll(regexp.QuoteMeta(segment), `\*`, "[^/]*")
		}
		expression, err := regexp.Compile(pattern + "$")
		if err != nil {
			return
		}
		once := strings.Split(requested[1:], "/")
		if got, want := r.matches(strings.Fields(written)[0], once), expression.MatchString(requested); got != want {
			t.Errorf("%q on %q: %v, and %v as %s", written, requested, got, want, expression)
		}
	})
}

package main

import (
	"strings"
	"testing"
)

func TestHostOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://git.example.com/x":      "git.example.com",
		"https://GIT.example.com:8443":   "git.example.com",
		"git.example.com":                "git.example.com",
		"git.example.com:5000/v2/":       "git.example.com",
		"https://git.example.com?x":      "git.example.com",
		"https://git.example.com#x":      "git.example.com",
		"http://localhost:3000":          "localhost",
		"http://[::1]:3000/x":            "::1",
		"https://[2001:db8::1]":          "2001:db8::1",
		"http://git.example.com":         "",
		"ftp://git.example.com":          "",
		"https://":                       "",
		"":                               "",
		"https://user@git.example.com":   "",
		"https://git.example.com\\@evil": "",
		"https://git.example.com:8x":     "",
		"https://git.example.com%2f":     "",
		"https://git.example.com evil":   "",
		"https://gıt.example.com":        "",
		"https://[::1":                   "",
		"https://[git.example.com]":      "",
		"https://git.example.com\r":      "",
		"https://[::1]evil":              "",
		"https://git.example.com\nx":     "",
	} {
		if got, err := hostOf(url); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", url, got, err, want)
		}
	}
}

func TestOnlyMember(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"uri":"https://a"}`:                  "https://a",
		" { \"uri\" : \"https://a\" } \n":      "https://a",
		`{"uri":"https://a","uri":"evil"}`:     "",
		`{"uri":"https:\/\/a?b\u003dc\u0026"}`: "https://a?b=c&",
		`{"uri":"https://a\u0022"}`:            `https://a"`,
		`{"uri":"https://a\u0131"}`:            "",
		`{"uri":"https://a\u+031"}`:            "",
		`{"uri":"https://a\u003"}`:             "",
		`{"uri":"https://a\n"}`:                "",
		`{"uri":"https://a\"}`:                 "",
		`{"uri":"https://a\`:                   "",
		`{"x":"https://a"}`:                    "",
		`{"uri":"https://a"`:                   "",
		`{"uri":1}`:                            "",
		``:                                     "",
	} {
		if got, ok := onlyMember(text, "uri"); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}

// A carriage return ends no line of git's: what looks like two to others is one host that nobody has.
func TestGitLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"protocol=https\nhost=git.example.com\n\nhost=evil.example\n":         "git.example.com",
		"protocol=https\nhost=git.example.com\r\n":                            "",
		"protocol=https\nhost=evil.example\rhost=git.example.com\n":           "",
		"protocol=https\rhost=evil.example\nhost=git.example.com\n":           "",
		"protocol=https\nhost=git.example.com\x00.evil.example\n":             "",
		"protocol=https\nhost=evil.example\nusername=a\nhost=git.example.com": "git.example.com", // git's own last word
	} {
		q, err := git([]string{"get"}, strings.NewReader(text), nil)
		if q.host != want || err == nil && q.answer != nil && want == "" {
			t.Errorf("%q: %q, %v", text, q.host, err)
		}
	}
}

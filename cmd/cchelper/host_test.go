package main

import "testing"

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
		`{"uri":"https://a"}`:              "https://a",
		" { \"uri\" : \"https://a\" } \n":  "https://a",
		`{"uri":"https://a","uri":"evil"}`: "",
		`{"uri":"https:\/\/a"}`:            "",
		`{"x":"https://a"}`:                "",
		`{"uri":"https://a"`:               "",
		`{"uri":1}`:                        "",
		``:                                 "",
	} {
		if got, ok := onlyMember(text, "uri"); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
}

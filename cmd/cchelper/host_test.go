package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestHostOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://git.example.com/x":          "git.example.com",
		"https://GIT.example.com:8443":       "git.example.com:8443",
		"HTTPS://git.example.com/":           "git.example.com",
		"https://git.example.com?x":          "git.example.com",
		"https://git.example.com#x":          "git.example.com",
		"http://localhost:3000":              "localhost:3000",
		"http://[::1]:3000/x":                "[::1]:3000",
		"http://[0:0::1]":                    "[::1]:80",
		"https://[2001:DB8:0::1]":            "2001:db8::1",
		"https://xn--gt-eka.example.com":     "xn--gt-eka.example.com",
		"git.example.com":                    "",
		"//git.example.com":                  "",
		"https:git.example.com":              "",
		"https:/git.example.com":             "",
		"https:///git.example.com":           "",
		"http://git.example.com":             "",
		"http://localhost.":                  "",
		"http://localhost.example.com":       "",
		"http://127.0.0.1.example.com":       "",
		"http://[::ffff:192.0.2.1]":          "",
		"ftp://git.example.com":              "",
		"https://":                           "",
		"":                                   "",
		"https://user@git.example.com":       "",
		"https://git.example.com@evil":       "",
		"https://git.example.com:443@evil":   "",
		"https://git.example.com:x@evil":     "",
		"https://git.example.com\\@evil":     "",
		"https://git.example.com/\\@evil":    "",
		"https://git.example.com:8x":         "",
		"https://git.example.com:":           "",
		"https://git.example.com:0":          "",
		"https://git.example.com:65536":      "",
		"https://git.example.com:1:2":        "",
		"https://git.example.com.":           "",
		"https://git..example.com":           "",
		"https://.git.example.com":           "",
		"https://git.example.com%2f":         "",
		"https://git.example.com evil":       "",
		"https://git.example.com,evil":       "",
		"https://gıt.example.com":            "",
		"https://git。example.com":            "",
		"https://git.example.com/ü":          "",
		"https://[::1":                       "",
		"https://[git.example.com]":          "",
		"https://[192.0.2.1]":                "",
		"https://[fe80::1%25eth0]":           "",
		"https://[::1]evil":                  "",
		"https://git.example.com\r":          "",
		"https://git.example.com\nx":         "",
		"https://git.example.com\x00.evil":   "",
		"https://git.example.com/\thttps://": "",
		"https://git.example.com\xff":        "",
		" https://git.example.com":           "",
	} {
		if got, err := hostOf(url); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", url, got, err, want)
		}
	}
}

// Tools that give host[:port] and no URL: anything else is refused.
func TestHostAt(t *testing.T) {
	t.Parallel()
	for authority, want := range map[string]string{
		"git.example.com": "git.example.com", "git.example.com:8443": "git.example.com:8443", "[::1]:1": "[::1]:1",
		"git.example.com/x": "", "git.example.com?": "", "git.example.com#": "", "https://git.example.com": "", "::1": "", "": "",
		"127.1": "", "010.0.0.1": "", "0x7f000001": "", "300.1.1.1": "", "10.0.0.1": "10.0.0.1", "-a.example.com": "",
	} {
		if got, err := hostAt("https", authority); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", authority, got, err, want)
		}
	}
}

// A server may list its challenges in one line or in several. What is in quotes is no challenge.
func TestTakesBearer(t *testing.T) {
	t.Parallel()
	for challenge, want := range map[string]bool{
		"Bearer": true, "bearer realm=x": true, "": false, "Basic": false, "Negotiate, Bearer realm=\"x\"": true,
		"Basic realm=\"x\",Bearer": true, "Basic realm=\"a, Bearer b\"": false, "Basic realm=Bearer": false, "Bearers": false,
		"Digest bearer=\"x\"": false, "Digest x=\"y\", bearer=\"x\"": false,
	} {
		lists := map[string][]string{"capability": {"state", "authtype"}, "wwwauth": {"Basic realm=\"x\"", challenge}}
		if got := takesBearer(lists); got != want {
			t.Errorf("%q: %t", challenge, got)
		}
		delete(lists, "capability")
		if takesBearer(lists) {
			t.Errorf("%q: git can't send it", challenge)
		}
	}
}

func TestBazelRequest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"uri":"https://a"}`:                               "a",
		" { \"uri\" : \"https://a\" } \n":                   "a",
		`{"uri":"https:\/\/a?b\u003dc\u0026"}`:              "a",
		`{"uri":"https://a","other":{"uri":"b"}}`:           "a",
		`{"other":{"uri":"https://b"}}`:                     "",
		`{"uri":"https://a","uri":"https://b"}`:             "",
		`{"uri":"https://a","URI":"https://b"}`:             "",
		`{"uri":"https://a","ur\u0131":"x"}`:                "a", // a dotless i is another letter
		`{"Uri":"https://a"}`:                               "",
		`{"uri":"https://a"}{"uri":"https://b"}`:            "",
		`{"uri":"https://a"}]`:                              "",
		`{"uri":"https://a",}`:                              "",
		`{"uri":"https://a\u0022"}`:                         "",
		`{"uri":"https://a\u0131"}`:                         "",
		`{"uri":"https://a\ud800"}`:                         "",
		`{"uri":"https://a\u0000"}`:                         "",
		`{"uri":"https://a\n"}`:                             "",
		"{\"uri\":\"https://a/\xff\"}":                      "",
		"\ufeff" + `{"uri":"https://a"}`:                    "",
		`{"uri":["https://a"]}`:                             "",
		`{"uri":"https://a"`:                                "",
		`["uri","https://a"]`:                               "",
		`{"uri":null}`:                                      "",
		`{"uri":1}`:                                         "",
		`null`:                                              "",
		``:                                                  "",
		strings.Repeat(`{"uri":`, 9000):                     "",
		strings.Repeat(" ", 64<<10) + `{"uri":"https://a"}`: "",
	} {
		q, err := bazel([]string{"get"}, strings.NewReader(text), nil)
		if q.host != want || (err == nil) != (want != "") {
			t.Errorf("%.80q: %q, %v; want %q", text, q.host, err, want)
		}
	}
}

// The cluster is the one that kubectl will talk to, however its JSON is written. There is no token if it can't be read.
func TestClusterOf(t *testing.T) {
	t.Parallel()
	of := func(spec string) string {
		return `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":` + spec + `}`
	}
	for info, want := range map[string]string{
		"":                         protocol.UnnamedHost,
		of(`{"interactive":true}`): protocol.UnnamedHost,
		of(`{"cluster":{"server":"https://a:6443/x"}}`):                                     "a:6443",
		of("{ \"cluster\" : {\n\"server\" : \"https://a\"} }"):                              "a",
		of(`{"cluster":{"config":{"server":"https://b"},"server":"https://a"}}`):            "a",
		of(`{"cluster":{"server":"https://a","config":{"server":"https://b","server":1}}}`): "a",
		of(`{"cluster":{"s\u0065rver":"https://a"}}`):                                       "a",
		of(`{"server":"https://b","cluster":{"server":"https://a"}}`):                       "a",
		of(`{"cluster":{"config":{"server":"https://b"}}}`):                                 "",
		of(`{"cluster":{"server":"https://a","server":"https://b"}}`):                       "",
		of(`{"cluster":{"server":"https://a","\u0073erver":"https://b"}}`):                  "",
		of(`{"cluster":{"server":"https://a","Server":"https://b"}}`):                       "",
		of(`{"cluster":{"server":"https://a","\u017ferver":"https://b"}}`):                  "",
		of(`{"cluster":{"Server":"https://a"}}`):                                            "",
		of(`{"cluster":{"server":"https://a"},"Cluster":{"server":"https://b"}}`):           "",
		of(`{"Cluster":{"server":"https://a"}}`):                                            "",
		of(`{"cluster":{"server":"http://a"}}`):                                             "",
		of(`{"cluster":{"server":"a:6443"}}`):                                               "",
		of(`{"cluster":{"server":""}}`):                                                     "",
		of(`{"cluster":{"server":null}}`):                                                   "",
		of(`{"cluster":{"server":["https://a"]}}`):                                          "",
		of(`{"cluster":{}}`):          "",
		of(`{"cluster":null}`):        "",
		of(`{"cluster":"https://a"}`): "",
		of(`[]`):                      "",
		of(`null`):                    "",
		of(`{"cluster":{"server":"https://a"}}`) + "x":                                               "",
		of(`{"cluster":{"server":"https://a"},}`):                                                    "",
		of(`{"cluster":{"server":"https://a"}},"spec":{"cluster":{"server":"https://b"}}`):           "",
		of(`{"cluster":{"server":"https://a"}},"kind":"ExecCredential"`):                             "",
		of("{\"cluster\":{\"server\":\"https://a\"},\"x\":\"\xff\"}"):                                "",
		`{"kind":"ExecCredential","spec":{"cluster":{"server":"https://a"}}}`:                        "",
		`{"apiVersion":"client.authentication.k8s.io/v1","spec":{"cluster":{"server":"https://a"}}}`: "",
		`{"apiVersion":"client.authentication.k8s.io/v1","kind":"Pod"}`:                              "",
		`{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential"}`:              "",
		" ":                               "",
		"client.authentication.k8s.io/v1": "",
	} {
		if got, err := clusterOf(info); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", info, got, err, want)
		}
	}
}

// There is no token for a question that git, or a program between git and the helper, could read in another way.
func TestGitAttributes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"protocol=https\nhost=git.example.com\n":                                                 "git.example.com",
		"protocol=https\nhost=git.example.com":                                                   "git.example.com",
		"protocol=https\nhost=git.example.com\n\n\n":                                             "git.example.com",
		"capability[]=authtype\nprotocol=https\nhost=git.example.com:8443\npath=a=b\xff\n":       "git.example.com:8443",
		"wwwauth[]=Basic realm=\"\xfc\"\nwwwauth[]=Bearer\nprotocol=https\nhost=git.example.com": "git.example.com",
		"protocol=https\nhost=git.example.com\n\nhost=evil.example\n":                            "",
		"protocol=https\nhost=git.example.com\r\n":                                               "",
		"protocol=https\r\nhost=git.example.com\r\n":                                             "",
		"protocol=https\nhost=evil.example\rhost=git.example.com\n":                              "",
		"protocol=https\rhost=evil.example\nhost=git.example.com\n":                              "",
		"protocol=https\nhost=git.example.com\nusername=a\rhost=evil.example\n":                  "",
		"protocol=https\nhost=git.example.com\x00.evil.example\n":                                "",
		"protocol=https\nhost=evil.example\nhost=git.example.com\n":                              "",
		"protocol=https\nhost=git.example.com\nHost=evil.example\n":                              "",
		"protocol=https\nho\u017ft=git.example.com\n":                                            "",
		"protocol=https\nhost=git.example.com\nho\u017ft=evil.example\n":                         "",
		"protocol=https\nhost=git.example.com\nhost =evil.example\n":                             "",
		"protocol=https\nhost=git.example.com\n\thost=evil.example\n":                            "",
		"\ufeffhost=evil.example\nprotocol=https\nhost=git.example.com\n":                        "",
		"protocol=https\nhost=git.example.com\nh\u043est=evil.example\n":                         "",
		"protocol=https\nhost=git.example.com\nHost[]=evil.example\n":                            "",
		"protocol=https\nhost=git.example.com\n=evil.example\n":                                  "",
		"protocol=https\nhost=git.example.com\n[]=evil.example\n":                                "",
		"protocol=https\nhost=git.example.com\npassword_expiry_utc=1\nstate[]=a.b\nquit=0\n":     "git.example.com",
		"protocol=https\nprotocol=https\nhost=git.example.com\n":                                 "",
		"protocol=https\nhost=git.example.com\nurl=https://evil.example\n":                       "",
		"url=https://git.example.com\n":                                                          "",
		"protocol=https\nhost=git.example.com\nevil\n":                                           "",
		"protocol=https\nhost=git.example.com\nusername=\xff\n":                                  "",
		"protocol=https\nhost=git.example.com/.evil.example\n":                                   "",
		"protocol=https\nhost=git.example.com@evil.example\n":                                    "",
		"protocol=https\nhost=\n":                                                                "",
		"protocol=https\n":                                                                       "",
		"host=git.example.com\n":                                                                 "",
		"protocol=http\nhost=git.example.com\n":                                                  "",
		"":                                                                                       "",
	} {
		for _, act := range []string{"get", "erase"} {
			said := text
			if act == "erase" {
				said = "password=fake-forge-1\n" + text
			}
			q, err := git([]string{act}, strings.NewReader(said), nil)
			if q.host != want || (err == nil) != (want != "") || (q.answer != nil) != (want != "") {
				t.Errorf("%s %q: %q, %v; want %q", act, said, q.host, err, want)
			}
		}
	}
}

// docker writes only the registry. Characters that some programs take for blanks can't be in a host.
func TestDockerServer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"git.example.com":            "git.example.com",
		"git.example.com\r\n":        "git.example.com",
		"https://git.example.com/v1": "git.example.com",
		"git.example.com\u00a0":      "",
		"\u0085git.example.com":      "",
		"\ufeffgit.example.com":      "",
		" git.example.com":           "",
		"git.example.com\v":          "",
		"git.example.com\nevil":      "",
		"":                           "",
	} {
		q, err := docker([]string{"get"}, strings.NewReader(text), nil)
		if q.host != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, q.host, err, want)
		}
	}
}

// TestHostOfServer: a token in headers for an MCP server goes to the hosts of the profile alone, whoever wrote the settings.
func TestHostOfServer(t *testing.T) {
	fake := protocoltest.NewFake(
		protocoltest.Profile{Name: "docs", Token: "fake-docs-1", Kind: protocol.KindBearer,
			Hosts: []string{"mcp.example.com", "127.0.0.1"}},
		protocoltest.Profile{Name: "open", Token: "fake-open-1", Kind: protocol.KindBearer},
	)
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, fake))
	for url, want := range map[string]error{
		"": nil, "https://mcp.example.com/mcp": nil, "https://MCP.example.com:443/mcp": nil, "wss://mcp.example.com/mcp": nil,
		"http://127.0.0.1:3000/mcp": nil,
		"https://evil.example/mcp":  protocol.ErrDenied, "https://mcp.example.com:8443/mcp": protocol.ErrDenied,
		"wss://evil.example/mcp": protocol.ErrDenied, "https://mcp.example.com.evil.example/mcp": protocol.ErrDenied,
		"http://mcp.example.com/mcp": protocol.ErrConfig, "ws://mcp.example.com/mcp": protocol.ErrConfig,
		"https://mcp.example.com@evil.example/mcp": protocol.ErrConfig, "https://evil.example\\@mcp.example.com/": protocol.ErrConfig,
		"nonsense": protocol.ErrConfig,
	} {
		env := func(name string) string { return map[string]string{"CLAUDE_CODE_MCP_SERVER_URL": url}[name] }
		if text, _, err := answer([]string{"cchelper", "-p", "docs", "-f", "headers"}, env, nil); !errors.Is(err, want) ||
			(err == nil) != (text == "{\"Authorization\":\"Bearer fake-docs-1\"}\n") {
			t.Errorf("%q: %q, %v; want %v", url, text, err, want)
		}
		if _, _, err := answer([]string{"cchelper", "-p", "docs", "-f", "headers"}, env, nil); errors.Is(err, protocol.ErrConfig) &&
			(!strings.Contains(err.Error(), "MCP server's URL") || strings.Contains(protocol.HintOf(err), "kubectl")) {
			t.Errorf("%q: %v, %s", url, err, protocol.HintOf(err))
		}
		if text, _, err := answer([]string{"cchelper", "-p", "open", "-f", "headers"}, env, nil); err != nil || text == "" {
			t.Errorf("%q, a profile without hosts: %q, %v", url, text, err)
		}
	}
}

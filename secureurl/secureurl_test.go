package secureurl_test

import (
	"strings"
	"testing"

	"github.com/ccagent/ccagent/secureurl"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const https = "must begin with https://"
	for raw, wrong := range map[string]string{ // "": nothing
		"https://idp.example/token":          "",
		"HTTPS://idp.example:8443/token?x=y": "",
		"https://[2001:db8::1]/":             "",
		"http://localhost:1/token":           "",
		"http://LocalHost/":                  "",
		"http://127.0.0.1:1/":                "",
		"http://127.9.9.9/":                  "",
		"http://[::1]:1/":                    "",
		"http://[::ffff:127.0.0.1]/":         "",
		"":                                   "is not set",
		"https://idp.example/{tenant}/":      "a placeholder",
		"https://<tenant>.idp.example/":      "a placeholder",
		"idp.example/token":                  "is not a URL",
		"https:idp.example":                  "is not a URL",
		"https:///token":                     "is not a URL",
		"https://:443/":                      "is not a URL",
		"https://fake-password\x00@a/":       "is not a URL",
		"https://fake-user@idp.example/":     "a user name",
		"https://fake:password@idp.example/": "a user name",
		"https://idp.example/#fake":          "a fragment",
		"http://idp.example/":                https,
		"http://10.0.0.1/":                   https,
		"http://localhost.example/":          https,
		"http://127.0.0.1.example/":          https,
		"http://2130706433/":                 https, // 127.0.0.1 to some
		"http://127.1/":                      https, // to some, too
		"http://0x7f.0.0.1/":                 https,
		"http://0.0.0.0/":                    https,
		"http://localhost./":                 https,
		"http://localho\u017ft/":             https, // a long s, which equals an s only if case is ignored
		"http://[::ffff:10.0.0.1]/":          https,
		"http://idp.example/?key=fake":       https,
		"ftp://localhost/":                   https,
	} {
		u, err := secureurl.Parse(raw)
		switch {
		case wrong == "" && (err != nil || u == nil):
			t.Errorf("%q: %v", raw, err)
		case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "fake")):
			t.Errorf("%q: %v, want one that says %q", raw, err, wrong)
		}
	}
}

package config

import (
	"strings"
	"testing"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
)

func TestConnectionSettings(t *testing.T) {
	t.Parallel()
	const head = "[profiles.gate]\nprovider = \"oidc\"\nissuer = \"https://sso.example.com\"\nclient_id = \"x\"\n"
	env := environ.Vars(func(name string) string { return map[string]string{"HOME": "/home/x"}[name] })
	for _, test := range []struct{ name, text, want string }{
		{"whole", "ca_file = \"~/ca.pem\"\nclient_cert = \"/c.pem\"\nclient_key = \"/k.pem\"\nproxy = " +
			"\"http://proxy.example.com:3128\"\n", ""},
		{"socks", "proxy = \"socks5h://proxy.example.com:1080\"\n", ""},
		{"other socks", "proxy = \"socks4://proxy.example.com:1080\"\n", "proxy is not a URL"},
		{"relative", "ca_file = \"ca.pem\"\n", "config.toml:5: profiles.gate: ca_file is \"ca.pem\""},
		{"half a pair", "client_cert = \"/c.pem\"\n", "client_cert has no meaning without client_key"},
		{"other half", "client_key = \"/k.pem\"\n", "client_key has no meaning without client_cert"},
		{"no URL", "proxy = \"proxy.example.com:3128\"\n", "proxy is not a URL"},
		{"password", "proxy = \"http://me:fake-password-1@proxy.example.com\"\n", "secrets may not be in this file"},
	} {
		d, err := parseConfig("config.toml", []byte(head+test.text))
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.settings(env, "gate")
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.name == "socks":
			if s.Proxy != "socks5h://proxy.example.com:1080" {
				t.Errorf("%s: %+v", test.name, s.Settings)
			}
		case test.want == "":
			if s.CAFile != "/home/x/ca.pem" || s.ClientCert != "/c.pem" || s.ClientKey != "/k.pem" ||
				s.Proxy != "http://proxy.example.com:3128" {
				t.Errorf("%s: %+v", test.name, s.Settings)
			}
		case err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		case strings.Contains(err.Error(), "fake-password-1"):
			t.Errorf("%s: the password is shown", test.name)
		}
	}
}

//go:build unix

package protocol_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// stranger is an agent that was started in another environment.
type stranger struct {
	protocol.Agent
	with map[string]string
}

func (s stranger) Status(context.Context, protocol.StatusRequest) (protocol.Status, error) {
	var all []protocol.Variable
	for _, v := range protocol.Environment() {
		all = append(all, protocol.Variable{Name: v.Name, Value: s.with[v.Name]})
	}
	return protocol.Status{Agent: protocol.AgentStatus{Environment: all}}, nil
}

// An error names the variable that this environment has and the agent lacks, or has with another value, if that may be why.
func TestElsewhere(t *testing.T) {
	for _, v := range protocol.Environment() {
		t.Setenv(v.Name, "")
	}
	for _, v := range protocol.Authorities() {
		t.Setenv(v.Name, "")
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/fetch-token", nil, 0o700); err != nil {
		t.Fatal(err)
	}
	const off = "profile a: the command fetch-token is not there: the agent's PATH is /usr/bin"
	for name, test := range map[string]struct {
		here, there map[string]string
		sock        string
		err         *protocol.Error
		hint        string // in the hint; "": none is added
	}{
		"a proxy that the agent lacks": {
			here: map[string]string{"HTTPS_PROXY": "http://me:fake-password-1@proxy.example.com:3128"},
			err:  &protocol.Error{Code: protocol.CodeUnavailable, Message: "its name can't be resolved"},
			hint: "HTTPS_PROXY is set here, and the agent was started without it; end it with `ccagent stop`",
		},
		"another proxy": {
			here:  map[string]string{"https_proxy": "http://a.example.com"},
			there: map[string]string{"https_proxy": "http://b.example.com"},
			err:   &protocol.Error{Code: protocol.CodeUnavailable, Message: "can't be reached", Hint: "fake"},
			hint:  "fake\nhttps_proxy is set here, and the agent was started with another value of it",
		},
		"a proxy that is gone": {
			there: map[string]string{"HTTPS_PROXY": "http://b.example.com"},
			err:   &protocol.Error{Code: protocol.CodeUnavailable, Message: "the proxy can't be reached"},
			hint:  "the agent was started with HTTPS_PROXY, which is not set here",
		},
		"the same proxy with another password": {
			here:  map[string]string{"HTTPS_PROXY": "http://me:fake-password-1@proxy.example.com:3128/"},
			there: map[string]string{"HTTPS_PROXY": "http://proxy.example.com:3128/"},
			err:   &protocol.Error{Code: protocol.CodeUnavailable, Message: "fake"},
		},
		"the session bus": {
			here: map[string]string{"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus"},
			err:  &protocol.Error{Code: protocol.CodeStorage, Message: "the keyring can't be used"},
			hint: "DBUS_SESSION_BUS_ADDRESS is set here, and the agent was started without it",
		},
		"what has nothing to do with it": {
			here: map[string]string{"HTTPS_PROXY": "http://a.example.com"},
			err:  &protocol.Error{Code: protocol.CodeStorage, Message: "the keyring can't be used"},
		},
		"a command that is on the PATH here": {
			here: map[string]string{"PATH": "/nowhere:" + dir}, there: map[string]string{"PATH": "/usr/bin"},
			err:  &protocol.Error{Code: protocol.CodeConfig, Message: off, Hint: "install it"},
			hint: "on your PATH it is " + dir + "/fetch-token: name it so in config.toml",
		},
		"a command that is nowhere": {
			here: map[string]string{"PATH": "/nowhere"}, there: map[string]string{"PATH": "/usr/bin"},
			err: &protocol.Error{Code: protocol.CodeConfig, Message: off, Hint: "install it"},
		},
		"an authority that another program's variable names": {
			here: map[string]string{"NODE_EXTRA_CA_CERTS": dir + "/fetch-token", "CURL_CA_BUNDLE": dir + "/fetch-token"},
			err:  &protocol.Error{Code: protocol.CodeUnavailable, Message: "x509: " + protocol.Distrusted, Hint: "fake"},
			hint: "fake\nNODE_EXTRA_CA_CERTS is set here, and ccagent does not read it: write what it names into the profile's table in " +
				"config.toml: ca_file = \"" + dir + "/fetch-token\"",
		},
		"an authority that the agent has found": {
			here: map[string]string{"NODE_EXTRA_CA_CERTS": dir + "/fetch-token"},
			err:  &protocol.Error{Code: protocol.CodeUnavailable, Message: protocol.Distrusted, Hint: "write: ca_file = \"/fake\""},
		},
		"an authority in a file that is not there": {
			here: map[string]string{"NODE_EXTRA_CA_CERTS": dir + "/none"},
			err:  &protocol.Error{Code: protocol.CodeUnavailable, Message: protocol.Distrusted},
		},
		"the system's authorities": {
			here: map[string]string{"REQUESTS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt"},
			err:  &protocol.Error{Code: protocol.CodeUnavailable, Message: protocol.Distrusted},
		},
		"an authority, and another fault": {
			here: map[string]string{"NODE_EXTRA_CA_CERTS": dir + "/fetch-token"},
			err:  &protocol.Error{Code: protocol.CodeUnavailable, Message: "its name can't be resolved"},
		},
		"an authority, and an agent of another machine": {
			here: map[string]string{"NODE_EXTRA_CA_CERTS": dir + "/fetch-token"}, sock: "/far/agent.sock",
			err: &protocol.Error{Code: protocol.CodeUnavailable, Message: protocol.Distrusted},
		},
		"an agent of another machine": {
			here: map[string]string{"HTTPS_PROXY": "http://a.example.com"}, sock: "/far/agent.sock",
			err: &protocol.Error{Code: protocol.CodeUnavailable, Message: "fake"},
		},
		"an error that no variable makes": {
			here: map[string]string{"HTTPS_PROXY": "http://a.example.com"},
			err:  &protocol.Error{Code: protocol.CodeLoginRequired, Message: "fake"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CCAGENT_SOCK", test.sock)
			for name, value := range test.here {
				t.Setenv(name, value)
			}
			got := protocol.Elsewhere(t.Context(), stranger{with: test.there}, test.err)
			if got.Error() != test.err.Message || protocol.CodeOf(got) != test.err.Code {
				t.Errorf("another error: %v", got)
			}
			switch hint := protocol.HintOf(got); {
			case test.hint == "" && hint != test.err.Hint, !strings.Contains(hint, test.hint), strings.Contains(hint, "fake-password"):
				t.Errorf("hint %q, want %q", hint, test.hint)
			}
		})
	}
}

// An agent shows no password that is in an address.
func TestEnvironmentHasNoPassword(t *testing.T) {
	for value, want := range map[string]string{
		"http://me:fake-password-1@proxy.example.com:3128": "http://proxy.example.com:3128",
		"me:fake-password-1@proxy.example.com:3128":        "proxy.example.com:3128",
		"socks5://me:fake@pass/word-1@proxy.example.com/":  "socks5://proxy.example.com/",
		"me:fake/password-1@proxy.example.com":             "proxy.example.com",
		"localhost":                                        "localhost",
		"":                                                 "",
	} {
		t.Setenv("HTTPS_PROXY", value)
		if got := protocol.VariableOf("HTTPS_PROXY"); got.Value != want {
			t.Errorf("%q: %q", value, got.Value)
		}
	}
	t.Setenv("PATH", "/home/a@b/bin:/usr/bin")
	if got := protocol.VariableOf("PATH"); got.Value != "/home/a@b/bin:/usr/bin" {
		t.Errorf("PATH: %q", got.Value)
	}
}

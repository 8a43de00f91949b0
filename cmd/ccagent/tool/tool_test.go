package tool

import (
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
)

// TestWays: git and npm are told in the form that they document, behind what they have been told already.
func TestWays(t *testing.T) {
	t.Parallel()
	ready := session.Ready{Base: "http://127.0.0.1:81", Grants: []session.Grant{
		{Route: "github-git", StandIn: "ccag_fake", Tools: []route.Tool{route.Git}, For: "https://github.com"},
		{Route: "forge", StandIn: "ccag_other", Tools: []route.Tool{route.Git}, For: "https://git.example.com/scm"},
		{Route: "npm", StandIn: "ccag_third", Tools: []route.Tool{route.NPM}, For: "https://registry.npmjs.org"},
	}}
	got := Environment([]string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=a.b", "GIT_CONFIG_VALUE_0=c", "HOME=/h"}, ready)
	slices.Sort(got)
	want := `GIT_CONFIG_COUNT=5
GIT_CONFIG_KEY_0=a.b
GIT_CONFIG_KEY_1=url.http://127.0.0.1:81/github-git/.insteadOf
GIT_CONFIG_KEY_2=http.http://127.0.0.1:81/github-git/.extraHeader
GIT_CONFIG_KEY_3=url.http://127.0.0.1:81/forge/.insteadOf
GIT_CONFIG_KEY_4=http.http://127.0.0.1:81/forge/.extraHeader
GIT_CONFIG_VALUE_0=c
GIT_CONFIG_VALUE_1=https://github.com/
GIT_CONFIG_VALUE_2=Authorization: Basic eDpjY2FnX2Zha2U=
GIT_CONFIG_VALUE_3=https://git.example.com/scm/
GIT_CONFIG_VALUE_4=Authorization: Basic eDpjY2FnX290aGVy
HOME=/h
npm_config_//127.0.0.1:81/npm/:_authToken=ccag_third`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got:\n%s", text)
	}
	for _, one := range route.Tools {
		if tell[one] == nil {
			t.Errorf("nobody tells %s", one)
		}
	}
}

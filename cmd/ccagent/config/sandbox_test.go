package config

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestSandbox(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "[sandbox]\nnetwork=true", ":2: unknown key sandbox.network"},
		{"key of another case", "[sandbox]\nHome=[]", ":2: unknown key sandbox.Home"},
		{"no table", "sandbox = true", ":1: sandbox must be a table"},
		{"string for a list", "[sandbox]\nhome='~/.claude'", ":2: sandbox.home must be a list of strings"},
		{"strings for a list", "[sandbox]\nenv='A'", ":2: sandbox.env must be a list of strings"},
		{"the home itself", "[sandbox]\nhome=['~']", `:2: sandbox: home has "~": it must be`},
		{"above it", "[sandbox]\nenv=[]\nhome=['~/.claude','~/..']", `:3: sandbox: home has "~/..": it must be`},
		{"elsewhere", "[sandbox]\nhome=['/etc']", `:2: sandbox: home has "/etc": it must be`},
		{"relative", "[sandbox]\nhome=['.claude']", `:2: sandbox: home has ".claude": it must be`},
		{"variable", "[sandbox]\nenv=['A-B']", `:2: sandbox: env has "A-B", which is not the name`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, path := home(t, test.text)
			if _, _, err := Load(env); !errors.Is(err, protocol.ErrConfig) || !strings.HasPrefix(err.Error(), path+test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	env, _ := home(t, "[sandbox]\nhome=['~/.claude/','~/.gitconfig']\nenv=['MY_TOKEN']\n"+
		"[gateway.routes.llm]\nupstream='https://llm.example.com'\nclient_cert='/c.pem'\nclient_key='/k.pem'\n")
	g, err := LoadGateway(env)
	if err != nil {
		t.Fatal(err)
	}
	got, err := g.Sandbox(env)
	want := []string{filepath.Join(env("HOME"), ".claude"), filepath.Join(env("HOME"), ".gitconfig")}
	if err != nil || !slices.Equal(got.Home, want) || !slices.Equal(got.Env, []string{"MY_TOKEN"}) ||
		!slices.Equal(got.Hidden, []string{"/k.pem"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

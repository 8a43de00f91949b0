package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/protocol"
)

// TestPresets: presets.toml can be read, and each preset is a route as it is or with an upstream.
func TestPresets(t *testing.T) {
	t.Parallel()
	for _, name := range Presets() {
		text := "[gateway.routes." + name + "]\n"
		if presets()[name].Upstream == nil {
			text += "upstream = 'https://llm.example.com'\n"
		}
		doc, err := parseConfig("config.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		r, err := doc.route(agent.Config{}, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for kind, v := range r.Kinds {
			if kind != string(protocol.KindOAuth) && kind != string(protocol.KindAPIKey) && kind != string(protocol.KindBearer) {
				t.Errorf("%s: there are no tokens of kind %s", name, kind)
			}
			if p := presets()[name].Kinds[kind].Place; p != nil && (v.Place == nil || v.Place.String() != "header:X-Api-Key") {
				t.Errorf("%s: place %s is read as %v", name, *p, v.Place)
			}
		}
	}
}

func TestGatewayErrors(t *testing.T) {
	t.Parallel()
	const head = "[profiles.gw]\nprovider='static'\nhosts=['llm.example.com','*.cdn.example.com']\n[gateway.routes.llm]\n"
	const sound = head + "upstream='https://llm.example.com'\n"
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "[gateway]\nlisten='x'", ":2: unknown key gateway.listen"},
		{"unknown key of a route", sound + "tunnel=[]", ":6: unknown key gateway.routes.llm.tunnel"},
		{"key of another case", sound + "Place='bearer'", ":6: unknown key gateway.routes.llm.Place"},
		{"table of another case", "[gateway.Routes.llm]", ":1: unknown key gateway.Routes"},
		{"no table", "gateway = 3", ":1: gateway must be a table"},
		{"routes is no table", "[gateway]\nroutes = 3", ":2: gateway.routes must be a table"},
		{"route is no table", "[gateway.routes]\nllm = 3", ":2: gateway.routes.llm must be a table"},
		{"number for a string", head + "upstream=3", ":5: gateway.routes.llm.upstream must be a string"},
		{"string for a list", sound + "allow='GET /'", ":6: gateway.routes.llm.allow must be a list of strings"},
		{"number for a variable", sound + "[gateway.routes.llm.env]\nA=1", ":7: gateway.routes.llm.env.A must be a string"},
		{"number for a variable, inline", sound + "env={A=1}", ":6: gateway.routes.llm.env must be a table of strings"},
		{"string for variables", sound + "env='A'", ":6: gateway.routes.llm.env must be a table of strings"},
		{"strings for statuses", sound + "renew_on=['401']", ":6: gateway.routes.llm.renew_on must be a list of numbers"},
		{"name", "[gateway.routes.LLM]\nupstream='https://llm.example.com'", ":1: gateway.routes.LLM: the name of a route"},
		{"no upstream", head, ":4: gateway.routes.llm: upstream is missing"},
		{"a preset without upstream", "[gateway.routes.openai-compatible]\n",
			":1: gateway.routes.openai-compatible: upstream is missing"},
		{"plain http", head + "upstream='http://llm.example.com'",
			`:5: gateway.routes.llm: upstream "http://llm.example.com" must begin with https`},
		{"query", head + "upstream='https://llm.example.com?a'", ":5: gateway.routes.llm: upstream must not hold a query"},
		{"dot segment", head + "upstream='https://llm.example.com/../'",
			":5: gateway.routes.llm: upstream can't be used: the path has a dot"},
		{"host with a user", sound + "hosts=['fake:secret@a.example']",
			":6: gateway.routes.llm: hosts: \"…@a.example\" matches no host"},
		{"host", sound + "hosts=['*']", ":6: gateway.routes.llm: hosts: \"*\" matches no host"},
		{"place", sound + "place='cookie'", `:6: gateway.routes.llm: place is "cookie", which is none of bearer`},
		{"allow", sound + "allow=['POST /', '/v1']", `:6: gateway.routes.llm: allow: "/v1" is not of the form`},
		{"deny", sound + "deny=['get /']", `:6: gateway.routes.llm: deny: "get /" must begin with a method`},
		{"variable", sound + "env={'A-B'='url'}", `:6: gateway.routes.llm: env: "A-B" is not the name`},
		{"value of a variable", sound + "env={A='secret'}", `:6: gateway.routes.llm: env: A is "secret"`},
		{"errors", sound + "errors='html'", `:6: gateway.routes.llm: errors is "html": it must be one of anthropic, `},
		{"foreign", sound + "foreign='drop'", `:6: gateway.routes.llm: foreign is "drop"`},
		{"tool", sound + "tools=['svn']", `:6: gateway.routes.llm: tools: "svn" is not one of git, npm`},
		{"status", sound + "renew_on=[401,500]", ":6: gateway.routes.llm: renew_on: 500 is not"},
		{"private", sound + "private='yes'", ":6: gateway.routes.llm.private must be true or false"},
		{"ca_file", sound + "ca_file='ca.pem'", `:6: gateway.routes.llm: ca_file is "ca.pem": it must be an absolute path`},
		{"ca_file of another program", sound + "ca_file='~/.codex/auth.json'", ":6: gateway.routes.llm: ca_file: "},
		{"certificate without a key", sound + "client_cert='/c.pem'", ":6: gateway.routes.llm: client_cert has no meaning without"},
		{"key without a certificate", sound + "client_key='/k.pem'", ":6: gateway.routes.llm: client_key has no meaning without"},
		{"proxy", sound + "proxy='proxy.example.com'", ":6: gateway.routes.llm: proxy is not a URL"},
		{"proxy with a password", sound + "proxy='http://u:fake@proxy.example.com'", ":6: gateway.routes.llm: proxy contains a user"},
		{"limit", sound + "limit='600'", `:6: gateway.routes.llm: limit is "600", which is not of the form "600/m"`},
		{"no status", sound + "renew_on=[]", ":6: gateway.routes.llm: renew_on is empty"},
		{"profile", sound + "profile='nosuch'", `:6: gateway.routes.llm: profile is "nosuch", and there is no such`},
		{"upstream outside the profile's hosts", head + "profile='gw'\nupstream='https://other.example.com'",
			":6: route llm goes to other.example.com, which is not among the hosts of profile gw"},
		{"port outside the profile's hosts", head + "profile='gw'\nupstream='https://llm.example.com:8443'",
			":6: route llm goes to llm.example.com:8443, which"},
		{"host outside the profile's hosts", sound + "profile='gw'\nhosts=['a.cdn.example.com', 'cdn.example.com']",
			":7: route llm goes to cdn.example.com, which"},
		{"wider than the profile's hosts", sound + "profile='gw'\nhosts=['*.llm.example.com']",
			":7: route llm goes to *.llm.example.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, path := home(t, test.text)
			_, _, err := Load(env)
			if !errors.Is(err, protocol.ErrConfig) || !strings.HasPrefix(err.Error(), path+test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if _, gatewayErr := LoadGateway(env); gatewayErr == nil || gatewayErr.Error() != err.Error() {
				t.Errorf("for the gateway: %v", gatewayErr)
			}
		})
	}
}

func TestGatewaySession(t *testing.T) {
	t.Parallel()
	const profiles = "[profiles.gw]\nprovider='static'\nhosts=['llm.example.com']\n[profiles.gh]\nprovider='static'\n"
	const llm = "[gateway.routes.llm]\nupstream='https://llm.example.com/v1/'\nenv={LLM_URL='url',LLM_KEY='token'}\n"
	for _, test := range []struct {
		name, text, profile string
		chosen              bool
		names               []string
		want                string // the routes, or how the error begins
	}{
		{"the preset of the provider", "", "claude", false, nil, "anthropic(claude https://api.anthropic.com Bearer)"},
		{"the same by name", "", "claude", false, []string{"anthropic"}, "anthropic(claude https://api.anthropic.com Bearer)"},
		{"no route at all", profiles, "gw", false, nil, "no route leads anywhere with profile gw"},
		{"a table", profiles + llm, "gw", false, nil, "llm(gw https://llm.example.com/v1 Bearer)"},
		{"named twice", profiles + llm, "gw", false, []string{"llm", "llm"}, "llm(gw https://llm.example.com/v1 Bearer)"},
		{"the session's profile lists other hosts", profiles + "[gateway.routes.llm]\nupstream='https://other.example.com'", "gw",
			false, nil,
			"/config.toml:7: route llm goes to other.example.com"},
		{"two without a profile", profiles + llm, "claude", false, nil, "routes llm and anthropic name no profile"},
		{"one with a profile", profiles + llm + "profile='GW'", "claude", false, nil,
			"llm(gw https://llm.example.com/v1 Bearer) anthropic(claude https://api.anthropic.com Bearer)"},
		{"one of two", profiles + llm, "claude", false, []string{"anthropic"}, "anthropic(claude https://api.anthropic.com Bearer)"},
		{"no such route", profiles, "claude", false, []string{"nosuch"}, `there is no route "nosuch"`},
		{"a preset of another service", profiles, "claude", false, []string{"github"},
			"route github names no profile, and that of this session"},
		{"chosen for it", profiles, "gh", true, []string{"github"}, "github(gh https://api.github.com Bearer uploads.github.com)"},
		{"a preset without upstream", profiles, "gh", true, []string{"openai-compatible"},
			"/config.toml: gateway.routes.openai-compatible: upstream is missing"},
		{"a table over a preset", profiles +
			"[gateway.routes.github]\nupstream='https://github.example.com/api/v3'\nplace='header:x'\n",
			"gh", false, []string{"github"}, "github(gh https://github.example.com/api/v3 header:X)"},
		{"hosts of a preset that are not the profile's", "[profiles.gh]\nprovider='static'\nhosts=['api.github.com']\n", "gh", true,
			[]string{"github"}, "github(gh https://api.github.com Bearer)"},
		{"one variable of two routes", profiles +
			"[gateway.routes.a]\nupstream='https://llm.example.com'\nprofile='gw'\nenv={A='url'}\n" +
			"[gateway.routes.b]\nupstream='https://llm.example.com'\nprofile='gw'\nenv={A='url'}\n", "gw", false, nil,
			"routes a and b both set A"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, path := home(t, test.text)
			g, err := LoadGateway(env)
			if err != nil {
				t.Fatal(err)
			}
			profile, err := Named(g.Config, test.profile)
			if err != nil {
				t.Fatal(err)
			}
			table, err := g.Session(profile, test.chosen, test.names)
			if err != nil {
				if got := strings.ReplaceAll(err.Error(), path, "/config.toml"); !errors.Is(err, protocol.ErrConfig) ||
					!strings.HasPrefix(got, test.want) {
					t.Errorf("got %s, want %s", got, test.want)
				}
				return
			}
			var got []string
			for _, r := range table {
				at := strings.Replace(r.Place.String(), "bearer", "Bearer", 1)
				got = append(got, strings.TrimRight(fmt.Sprintf("%s(%s %s %s %s", r.Name, r.Profile, r.Upstream, at,
					strings.Join(r.Hosts, " ")),
					" ")+")")
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %s, want %s", strings.Join(got, " "), test.want)
			}
		})
	}
}

// TestRouteKeys: what a route says of the way to its service.
func TestRouteKeys(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	table := "[profiles.gw]\nprovider='static'\n[gateway.routes.llm]\nprofile='gw'\nupstream='https://llm.example.com'\n" +
		"private=true\nproxy='socks5h://proxy.example.com:1080'\nlimit='600/m'\nca_file='"
	session := func(path string) (route.Table, error) {
		env, _ := home(t, table+path+"'\n")
		g, err := LoadGateway(env)
		if err != nil {
			t.Fatal(err)
		}
		profile, err := Named(g.Config, "gw")
		if err != nil {
			t.Fatal(err)
		}
		return g.Session(profile, false, nil)
	}
	routes, err := session(ca)
	if err != nil {
		t.Fatal(err)
	}
	if r := routes[0]; !r.Private || r.Proxy.String() != "socks5h://proxy.example.com:1080" || r.Limit.String() != "600/m" {
		t.Errorf("%+v", r)
	}
	if _, err := server.Certificate().Verify(x509.VerifyOptions{Roots: routes[0].TLS.RootCAs, DNSName: "example.com"}); err != nil {
		t.Error(err)
	}
	if _, err := session(ca + ".not"); !errors.Is(err, protocol.ErrConfig) ||
		!strings.HasPrefix(err.Error(), "ca_file can't be used") {
		t.Errorf("a file that is missing: %v", err)
	}
}

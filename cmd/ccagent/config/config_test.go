package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// home makes a home with that config.toml ("" for none), and its environment.
func home(t *testing.T, cfg string) (environ.Vars, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config", "ccagent", "config.toml")
	if cfg != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(cfg), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return environment(map[string]string{"HOME": dir, "XDG_CONFIG_HOME": filepath.Join(dir, "config")}), path
}

func environment(variables map[string]string) environ.Vars {
	return func(name string) string { return variables[name] }
}

func settingsOf(t *testing.T, p agent.Profile) worker.Settings {
	t.Helper()
	var s worker.Settings
	if err := json.Unmarshal(p.Settings, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadConfigDefaults(t *testing.T) {
	t.Parallel()
	env := environment(
		map[string]string{"HOME": "/home/fake", "XDG_DATA_HOME": "/data", "XDG_STATE_HOME": "/state", "XDG_CONFIG_HOME": "/nowhere"},
	)
	cfg, path, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	if path != "/nowhere/ccagent/config.toml" || cfg.Default != "claude" || len(cfg.Profiles) != 1 {
		t.Fatalf("got %s, %+v", path, cfg)
	}
	p, s := cfg.Profiles[0], settingsOf(t, cfg.Profiles[0])
	if p.Name != "claude" || p.Provider != "claude" || p.Store != "auto" || p.ConfigDir != "" {
		t.Errorf("profile %+v", p)
	}
	if s.ConfigDir != "/home/fake/.claude" || s.DataDir != "/data/ccagent" || s.StateDir != "/state/ccagent" {
		t.Errorf("folders %+v", s)
	}
	if s.TokenURL != "https://platform.claude.com/v1/oauth/token" || s.ClientID == "" || s.Timeout != 30*time.Second ||
		s.Headers["anthropic-beta"] != "oauth-2025-04-20" || !strings.HasPrefix(s.UserAgent, "ccagent/") {
		t.Errorf("dialect %+v", s)
	}
	if cfg.Home != (protocol.Home{Home: "/home/fake", XDGConfigHome: "/nowhere"}) {
		t.Errorf("home %+v", cfg.Home)
	}
}

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	env, _ := home(t, `
default_profile = "WORK"
[profiles.Work]
provider = "claude"
config_dir = "~/work"
token_url = "http://127.0.0.1:9/token"
headers = { x-one = "1" }
hosts = ["API.example.com", "2001:DB8:0::1"]
username = "alice"
[profiles.vault]
provider = "command"
command = ["vault", "print", "token"]
ttl = "30m"
timeout = "5s"
[profiles.script]
provider = "command"
command = ["~/bin/login", "~/as-it-is"]
[profiles.gw]
provider = "static"
`)
	cfg, _, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	settings := map[string]worker.Settings{}
	for _, p := range cfg.Profiles {
		names = append(names, p.Name)
		settings[p.Name] = settingsOf(t, p)
	}
	if got := strings.Join(names, " "); got != "Work claude gw script vault" || cfg.Default != "Work" {
		t.Errorf("profiles %s, default %s", got, cfg.Default)
	}
	dir := filepath.Join(env("HOME"), "work")
	if w := settings["Work"]; w.ConfigDir != dir || cfg.Profiles[0].ConfigDir != dir ||
		w.TokenURL != "http://127.0.0.1:9/token" ||
		fmt.Sprint(w.Headers) != "map[x-one:1]" ||
		cfg.Profiles[0].Username != "alice" ||
		fmt.Sprint(cfg.Profiles[0].Hosts) != "[api.example.com 2001:db8::1]" {
		t.Errorf("Work %+v", w)
	}
	if v := settings["vault"]; len(v.Command) != 3 || v.TTL != 30*time.Minute || v.Timeout != 5*time.Second || v.Store != "auto" {
		t.Errorf("vault %+v", v)
	}
	if c := settings["script"].Command; len(c) != 2 || c[0] != filepath.Join(env("HOME"), "bin/login") || c[1] != "~/as-it-is" {
		t.Errorf("script %q", c)
	}
	if g := settings["gw"]; g.TokenURL != "" || g.ConfigDir != "" || g.Timeout != 0 {
		t.Errorf("gw %+v", g)
	}
}

// A profile of another name that means the default directory stands for the built-in one.
func TestBuiltInProfileGivesWay(t *testing.T) {
	t.Parallel()
	env, _ := home(t, "[profiles.mine]\nprovider = \"claude\"\n")
	cfg, _, err := Load(env)
	if err != nil || len(cfg.Profiles) != 1 || cfg.Default != "mine" {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	const oidc = "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\n"
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "a = 1", ":1: unknown key a"},
		{"unknown key of a profile", "[profiles.x]\nprovider = 'static'\nfoo.bar = 1", ":3: unknown key profiles.x.foo.bar"},
		{"key of another case", "[profiles.x]\nProvider = 'static'", ":2: unknown key profiles.x.Provider"},
		{"key of another case, inline", "profiles = {x = {Provider = 'static'}}", ":1: unknown key profiles.x.Provider"},
		{"syntax", "[profiles.x]\nprovider", ":2: expected '=' after key"},
		{"not UTF-8", "a = \"\xff\"", ":1: invalid UTF-8"},
		{"twice", "[profiles.x]\nprovider='a'\nprovider='b'", ":3: key provider is already defined"},
		{"table twice", "[profiles.x]\n[profiles.x]", ":2: table x already exists"},
		{"number for a string", "[profiles.x]\nprovider=3", ":2: profiles.x.provider must be a string"},
		{"number for a duration", "[profiles.x]\nprovider='command'\nttl=30", `:3: profiles.x.ttl must be a duration in quotes`},
		{"string for a list", "[profiles.x]\nprovider='command'\ncommand='vault'", ":3: profiles.x.command must be a list of strings"},
		{"numbers in a list", "[profiles.x]\nhosts=[1]", ":2: profiles.x.hosts must be a list"},
		{"number for a header", "[profiles.x.headers]\na=1", ":2: profiles.x.headers.a must be a string"},
		{"profiles is no table", "profiles = 3", ":1: profiles must be a table"},
		{"profile is no table", "[profiles]\nx = 3", ":2: profiles.x must be a table"},
		{"array of tables", "[[profiles]]", ":1: profiles must be a table"},
		{"no provider", "[profiles.x]", ":1: profiles.x: provider is missing"},
		{"client secret", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nclient_secret='fake'",
			":5: profiles.x: client_secret is a secret"},
		{"oidc without issuer", "[profiles.x]\nprovider='oidc'\nclient_id='c'", ":1: profiles.x: issuer is missing"},
		{"oauth2 without endpoint", "[profiles.x]\nprovider='oauth2'\nclient_id='c'", ":1: profiles.x: token_url is missing"},
		{"http issuer", "[profiles.x]\nprovider='oidc'\nissuer='http://a.example'\nclient_id='c'",
			`:3: profiles.x: issuer "http://a.example" must begin with https://`},
		{"unknown grant", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\ngrant='password'",
			`:5: profiles.x: grant is "password"`},
		{"port out of range", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nredirect_port=70000",
			":5: profiles.x: redirect_port is 70000"},
		{"port that is no number", "[profiles.x]\nprovider='oidc'\nredirect_port='x'", ":3: profiles.x.redirect_port must be a number"},
		{"redirect elsewhere", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nredirect_host='0.0.0.0'",
			`:5: profiles.x: redirect_host is "0.0.0.0"`},
		{"secret parameter", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nparams={client_secret='fake'}",
			":5: profiles.x: params: client_secret is a secret"},
		{"parameter of our own", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nparams={state='1'}",
			":5: profiles.x: params: state is set by ccagent itself"},
		{"scope in all of a sign-in", oidc + "params={scope='a'}",
			":5: profiles.x: params: scope is set by ccagent itself, from scopes"},
		{"audience in all of a sign-in", oidc + "params={audience='a'}",
			":5: profiles.x: params: audience is set by ccagent itself, from the key audience"},
		{"scope of the browser", oidc + "authorize_params={scope='a'}",
			":5: profiles.x: authorize_params: scope is set by ccagent itself, from scopes"},
		{"secret at a renewal", oidc + "refresh_params={Client_Secret='fake'}",
			":5: profiles.x: refresh_params: Client_Secret is a secret"},
		{"refresh token of one's own", oidc + "refresh_params={refresh_token='fake'}",
			":5: profiles.x: refresh_params: refresh_token is a secret"},
		{"another grant at the token endpoint", oidc + "token_params={grant_type='a'}",
			":5: profiles.x: token_params: grant_type is set by ccagent itself"},
		{"number for a parameter", "[profiles.x.refresh_params]\na=1", ":2: profiles.x.refresh_params.a must be a string"},
		{"text for a switch", oidc + "token_exchange='yes'", ":5: profiles.x.token_exchange must be true or false"},
		{"string for parameters", "[profiles.x]\ntoken_params='a'", ":2: profiles.x.token_params must be a table of strings"},
		{"a machine that renews", oidc + "grant='client_credentials'\n" +
			"refresh_params={scope='a'}", ":6: profiles.x: refresh_params has no meaning for grant client_credentials"},
		{"path without its slash", oidc + "redirect_path='cb'",
			`:5: profiles.x: redirect_path is "cb": it must begin with /`},
		{"path with a query", oidc + "redirect_path='/cb?a'",
			`:5: profiles.x: redirect_path is "/cb?a"`},
		{"path that leads up", oidc + "redirect_path='/a/../b'",
			`:5: profiles.x: redirect_path is "/a/../b"`},
		{"two scopes in one", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nscopes=['a b']",
			`:5: profiles.x: scopes: "a b" is not a single scope`},
		{"relative resource", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nresource=['a']",
			`:5: profiles.x: resource: "a"`},
		{"machine without proof", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\n" +
			"client_auth='none'\ngrant='client_credentials'", `:5: profiles.x: client_auth is "none"`},
		{"key file without its use", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nclient_key_file='/k'",
			":5: profiles.x: client_key_file has no meaning"},
		{"signing without a key", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\n" +
			"client_auth='private_key_jwt'", "profiles.x: client_key_file is missing"},
		{"assertion of another grant", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\nclient_id='c'\nassertion_file='/a'",
			":5: profiles.x: assertion_file has no meaning"},
		{"assertion of others", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\ngrant='jwt-bearer'\nclient_id='c'\n" +
			"assertion_file='~/.codex/auth.json'", "/.codex/auth.json is Codex's sign-in"},
		{"identity of others", "[profiles.x]\nprovider='static'\nstore='encrypted'\nidentity='/mnt/.pi/agent/auth.json'",
			":4: profiles.x: identity: /mnt/.pi/agent/auth.json is pi's sign-in"},
		{"two assertions", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\ngrant='jwt-bearer'\nassertion_file='/a'\n" +
			"assertion_command=['a']", ":6: profiles.x: assertion_file and assertion_command"},
		{"login timeout", "[profiles.claude]\nlogin_timeout='soon'", ":2: profiles.claude: login_timeout"},
		{"issuer of claude", "[profiles.claude]\nissuer='https://a.example'",
			":2: profiles.claude: issuer has no meaning for provider claude"},
		{"unknown provider", "[profiles.x]\nprovider='nope'", `:2: profiles.x: unknown provider "nope"`},
		{"unknown store", "[profiles.x]\nprovider='static'\nstore='wallet'",
			`:3: profiles.x: store is "wallet": with provider static it must be one of auto, file, keyring, encrypted, memory`},
		{"identity of another store", "[profiles.x]\nprovider='static'\nstore='file'\nidentity='/key'",
			":4: profiles.x: identity has no meaning for store file"},
		{"identity that is no path", "[profiles.x]\nprovider='static'\nstore='encrypted'\nidentity='key'",
			`:4: profiles.x: identity is "key"`},
		{"unknown view", "[profiles.claude]\nviews=['a']", `:2: profiles.claude: views: there is no kind "a": it is one of`},
		{"view of its own record", "[profiles.claude]\nstore='claude-code'\nviews=['claude-code']",
			":3: profiles.claude: views: claude-code can't be combined with store claude-code"},
		{"view of another provider's", "[profiles.x]\nprovider='oidc'\nissuer='https://x'\nclient_id='y'\nviews=['claude-code']",
			":5: profiles.x: views: claude-code has no meaning for provider oidc"},
		{"views that are no list", "[profiles.claude]\nviews={ kind = 'token' }", ":2: profiles.claude: views: must be a list like"},
		{"view that is a number", "[profiles.claude]\nviews=['anthropic-sdk',\n 7]", ":3: profiles.claude: views: must be a list like"},
		{"view without a kind", "[profiles.claude]\nviews=[{ path = '/run/a' }]", ":2: profiles.claude: views: kind is missing"},
		{"view of an unknown kind", "[profiles.claude]\nviews=[\n 'anthropic-sdk',\n { kind = 'file', path = '/run/a' }]",
			`:4: profiles.claude: views: there is no kind "file"`},
		{"unknown key of a view", "[profiles.claude]\nviews=[{ kind = 'token', path = '/run/a', mode = '0644' }]",
			":2: profiles.claude: views: unknown key mode"},
		{"key of another case", "[profiles.claude]\nviews=[{ kind = 'token', Path = '/run/a' }]",
			":2: profiles.claude: views: unknown key Path"},
		{"path that is no string", "[profiles.claude]\nviews=[{ kind = 'token', path = 7 }]",
			":2: profiles.claude: views: path must be a string"},
		{"path that is empty", "[[profiles.claude.views]]\nkind = 'token'\npath = ''", ":3: profiles.claude: views: path is empty"},
		{"token without a path", "[profiles.claude]\nviews=['token']", ":2: profiles.claude: views: path is missing"},
		{"variable without a name", "[profiles.claude]\nviews=[{ kind = 'env', path = '/run/a' }]",
			":2: profiles.claude: views: name is missing"},
		{"name that is none", "[[profiles.claude.views]]\nkind = 'env'\npath = '/run/a'\nname = 'a b'",
			`:4: profiles.claude: views: name is "a b"`},
		{"name of another kind", "[profiles.claude]\nviews=[{ kind = 'token', path = '/run/a', name = 'A' }]",
			":2: profiles.claude: views: name has no meaning for kind token"},
		{"path of another kind", "[profiles.claude]\nviews=[{ kind = 'claude-code', path = '/run/a' }]",
			":2: profiles.claude: views: path has no meaning for kind claude-code"},
		{"view of others", "[profiles.claude]\nviews=[{ kind = 'token', path = '/mnt/.codex/auth.json' }]",
			":2: profiles.claude: views: path: /mnt/.codex/auth.json is Codex's sign-in"},
		{"view in gh's place", "[profiles.claude]\nviews=[{ kind = 'env', path = '~/.config/gh/hosts.yml', name = 'A' }]",
			"/.config/gh/hosts.yml is GitHub's sign-in"},
		{"relative view", "[profiles.claude]\nviews=[{ kind = 'token', path = 'a' }]", `:2: profiles.claude: views: path is "a"`},
		{"relative directory", "[profiles.claude]\nviews=[{ kind = 'claude-code', dir = 'a' }]",
			`:2: profiles.claude: views: dir is "a"`},
		{"file listed twice", "[profiles.claude]\nviews=[{ kind = 'token', path = '/run/a' },\n" +
			"{ kind = 'env', path = '/run/./a', name = 'A' }]", ":3: profiles.claude: views: /run/a is listed twice"},
		{"view of two profiles", "[profiles.a]\nprovider='static'\nviews=[{ kind = 'token', path = '/run/a' }]\n" +
			"[profiles.b]\nprovider='static'\nviews=[\n{ kind = 'token', path = '/run/a' }]",
			":7: profiles.b: views: /run/a is a view of profile a"},
		{"directory of two profiles", "[profiles.a]\nprovider='claude'\nconfig_dir='/run/1'\n" +
			"views=[{ kind = 'claude-code', dir = '/run/w' }]\n" +
			"[profiles.b]\nprovider='claude'\nviews=[{ kind = 'claude-code', dir = '/run/w/' }]",
			":7: profiles.b: views: /run/w/.credentials.json is a view of profile a"},
		{"directory of a record", "[profiles.a]\nprovider='claude'\nviews=[{ kind = 'claude-code', dir = '/run/w' }]\n" +
			"[profiles.b]\nprovider='claude'\nconfig_dir='/run/w'",
			":3: profiles.a: views: /run/w/.credentials.json is Claude Code's own file of profile b"},
		{"own directory", "[profiles.claude]\nconfig_dir='/run/w'\nviews=[{ kind = 'claude-code', dir = '/run/w' }]",
			":3: profiles.claude: views: /run/w/.credentials.json is Claude Code's own file of profile claude"},
		{"Claude Code's file", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '~/.claude/.credentials.json' }]",
			":3: profiles.x: views: "},
		{"in place, but how", "[profiles.claude]\nviews=[{ kind = 'token', path = '/run/a', in_place = 'yes' }]",
			":2: profiles.claude: views: in_place must be true or false"},
		{"in place without a path", "[[profiles.claude.views]]\nkind = 'anthropic-sdk'\nin_place = true",
			":3: profiles.claude: views: in_place has no meaning for kind anthropic-sdk"},
		{"file of others", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '~/.codex/auth.json' }]",
			"/.codex/auth.json is Codex's sign-in"},
		{"our own folder", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '~/.local/share/ccagent/x.json' }]",
			"x.json is in a folder of ccagent's own"},
		{"config.toml", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '~/config/ccagent/config.toml' }]",
			"config.toml is in a folder of ccagent's own"},
		{"folder", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '/usr' }]",
			":3: profiles.x: views: /usr is a folder"},
		{"device", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '/dev/null' }]",
			":3: profiles.x: views: /dev/null is not a regular file"},
		{"folder of everybody", "[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '/tmp/token' }]",
			":3: profiles.x: views: /tmp is a folder that everybody may write in"},
		{"below a view",
			"[profiles.x]\nprovider='static'\nviews=[{ kind = 'token', path = '~/x' }, { kind = 'token', path = '~/x/y' }]",
			"/x, which is a view and so no folder"},
		{"file of a view of the SDKs",
			"[profiles.x]\nprovider='static'\nviews=['anthropic-sdk',\n" +
				"{ kind = 'token', path = '~/.config/anthropic/credentials/x.json' }]",
			"/credentials/x.json is listed twice"},
		{"view of the SDKs in our own folder",
			"[profiles.x]\nprovider='static'\nviews=[{ kind = 'anthropic-sdk', dir = '~/.local/state/ccagent' }]",
			"x.json is in a folder of ccagent's own"},
		{"view named twice", "[profiles.claude]\nviews=['anthropic-sdk', 'anthropic-sdk']",
			":2: profiles.claude: views: anthropic-sdk is listed twice"},
		{"store of another provider", "[profiles.x]\nprovider='static'\nstore='claude-code'", `:3: profiles.x: store is "claude-code"`},
		{"key of another provider", "[profiles.x]\nprovider='static'\nttl='3m'",
			":3: profiles.x: ttl has no meaning for provider static"},
		{"command missing", "[profiles.x]\nprovider='command'", "profiles.x: command is missing"},
		{"empty command", "[profiles.x]\nprovider='command'\ncommand=['']", ":3: profiles.x: command is missing"},
		{"negative duration", "[profiles.x]\nprovider='command'\ncommand=['a']\nttl='-3m'", ":4: profiles.x: ttl"},
		{"clear-text endpoint", "[profiles.claude]\ntoken_url='http://example.com/t'", ":2: profiles.claude: token_url"},
		{"loopback look-alike", "[profiles.claude]\ntoken_url='http://127.0.0.1.example.com/t'", "token_url"},
		{"user in the endpoint", "[profiles.claude]\ntoken_url='https://a@example.com/t'", "neither a user name"},
		{"file endpoint", "[profiles.claude]\ntoken_url='file:///etc'", "token_url"},
		{"relative directory", "[profiles.claude]\nconfig_dir='work'", `:2: profiles.claude: config_dir is "work"`},
		{"user name with a colon", "[profiles.claude]\nusername='a:b'", ":2: profiles.claude: username"},
		{"empty user name", "[profiles.claude]\nusername=''", ":2: profiles.claude: username"},
		{"host with a scheme", "[profiles.claude]\nhosts=['https://a']", ":2: profiles.claude: hosts"},
		{"host with no port after the colon", "[profiles.claude]\nhosts=['a:']", ":2: profiles.claude: hosts: \"a:\" matches no host"},
		{"host with a dot before", "[profiles.claude]\nhosts=['.a.example']",
			":2: profiles.claude: hosts: \".a.example\" matches no host"},
		{"use of nothing", "[[use]]", ":1: [[use]]: dir and profile are missing"},
		{"host with a user", "[profiles.claude]\nhosts=['fake:secret@a.example']",
			":2: profiles.claude: hosts: \"…@a.example\" matches"},
		{"every host", "[profiles.claude]\nhosts=['*']", ":2: profiles.claude: hosts: \"*\" matches no host"},
		{"a whole top-level domain", "[profiles.claude]\nhosts=['*.com']", ":2: profiles.claude: hosts: \"*.com\" matches no host"},
		{"host in letters of its own", "[profiles.claude]\nhosts=['bücher.example']", "xn--"},
		{"host that ends in a dot", "[profiles.claude]\nhosts=['git.example.com.']", ":2: profiles.claude: hosts"},
		{"host with a zone", "[profiles.claude]\nhosts=['fe80::1%eth0']", ":2: profiles.claude: hosts"},
		{"header with a newline", "[profiles.claude.headers]\na=\"b\\nc\"", `headers: "a" is not a valid header`},
		{"relative program", "[profiles.x]\nprovider='command'\ncommand=['./login.sh']",
			`:3: profiles.x: command: "./login.sh" is neither`},
		{"relative assertion program", "[profiles.x]\nprovider='oidc'\nissuer='https://a.example'\ngrant='jwt-bearer'\n" +
			"assertion_command=['bin/a']", `:5: profiles.x: assertion_command: "bin/a" is neither`},
		{"bad name", "[profiles.'a/b']\nprovider='static'", ":1: not a profile's name"},
		{"dots", "[profiles.'a..b']\nprovider='static'", ":1: "},
		{"same but for case", "[profiles.a]\nprovider='static'\n[profiles.A]\nprovider='static'",
			":1: the names of profiles A and a differ only in case"},
		{"one directory twice, as a view",
			"[profiles.a]\nprovider='claude'\nstore='file'\nviews=['claude-code']\n[profiles.b]\nprovider='claude'",
			":5: profiles a and b both use the Claude Code directory"},
		{"one directory twice", "[profiles.a]\nprovider='claude'\n[profiles.b]\nprovider='claude'",
			":3: profiles a and b both use the Claude Code directory"},
		{"default without a profile", "\ndefault_profile='x'", `:2: default_profile is "x"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			env, path := home(t, test.text)
			_, _, err := Load(env)
			if !errors.Is(err, protocol.ErrConfig) {
				t.Fatalf("got %v, want ErrConfig", err)
			}
			if !strings.HasPrefix(err.Error(), path) || !strings.Contains(err.Error(), test.want) || !terminal.Printable(err.Error()) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
}

func TestConfigLimits(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range agent.MaxProfiles + 1 {
		fmt.Fprintf(&many, "[profiles.p%d]\nprovider = 'static'\n", i)
	}
	for name, text := range map[string]string{"1025 profiles": many.String(), "larger than 1 MiB": "#" +
		strings.Repeat("x", maxConfig)} {
		env, _ := home(t, text)
		if _, _, err := Load(env); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestConfigOthersMayWrite(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what string
		mode os.FileMode
		ok   bool
	}{
		{"ccagent/config.toml", 0o600, true},
		{"ccagent/config.toml", 0o644, true},
		{"ccagent/config.toml", 0o620, false},
		{"ccagent/config.toml", 0o602, false},
		{"ccagent", 0o755, true},
		{"ccagent", 0o775, false},
		{"ccagent", 0o707, false},
		{".", 0o775, true}, // the user's own group, as with umask 002
		{".", 0o777, false},
		{".", 0o777 | os.ModeSticky, true},
	} {
		env, path := home(t, "[profiles.x]\nprovider = 'static'\n")
		if err := os.Chmod(filepath.Join(filepath.Dir(path), "..", test.what), test.mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := Load(env)
		if (err == nil) != test.ok {
			t.Errorf("%s with mode %v: got %v", test.what, test.mode, err)
		}
	}
}

func TestConfigBelongsToSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	t.Parallel()
	for _, what := range []string{"config.toml", "."} {
		env, path := home(t, "[profiles.x]\nprovider = 'static'\n")
		if err := os.Chown(filepath.Join(filepath.Dir(path), what), 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(env); err == nil || !strings.Contains(err.Error(), "belongs to user id 12345") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// A link's target, and the folder that is in, are looked at as well.
func TestConfigLink(t *testing.T) {
	t.Parallel()
	env, path := home(t, "[profiles.x]\nprovider = 'static'\n")
	elsewhere := t.TempDir()
	target := filepath.Join(elsewhere, "dotfile")
	if err := errors.Join(os.Rename(path, target), os.Symlink(target, path)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(env); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(elsewhere, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(env); err == nil {
		t.Error("a link into a folder that everybody may write was taken")
	}
}

func TestHomeUnset(t *testing.T) {
	t.Parallel()
	if _, _, err := Load(environment(nil)); !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("got %v", err)
	}
	env := environment(map[string]string{"XDG_CONFIG_HOME": "/nowhere", "XDG_DATA_HOME": "/data", "XDG_STATE_HOME": "/state"})
	if cfg, _, err := Load(env); err != nil || settingsOf(t, cfg.Profiles[0]).ConfigDir != "" {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

// The folder of Claude Code's credentials need not be the one of its settings, which tell who is signed in.
func TestClaudeFolders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		secure, config, configDir string
		want, account             string
	}{
		{"", "", "", "/home/fake/.claude", ""},
		{"", "/c/", "", "/c/", ""},
		{"/s", "", "", "/s", "/home/fake/.claude.json"},
		{"/s/", "/c", "", "/s/", "/c/.claude.json"},
		{"/s/", "/c", "/s", "/s", "/c/.claude.json"}, // as guard has written it down
		{"/s", "/s/", "", "/s", ""},
		{"/s", "/c", "~/.claude-work", "/home/fake/.claude-work", ""},
		{"", "", "~/.claude-work/", "/home/fake/.claude-work/", ""}, // the spelling counts on macOS
	} {
		dir := t.TempDir()
		table := "[profiles.claude]\nprovider = \"claude\"\n"
		if tt.configDir != "" {
			table += "config_dir = \"" + tt.configDir + "\"\n"
		}
		if err := os.MkdirAll(dir+"/ccagent", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/ccagent/config.toml", []byte(table), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, _, err := Load(environment(map[string]string{"HOME": "/home/fake", "XDG_CONFIG_HOME": dir,
			"CLAUDE_SECURESTORAGE_CONFIG_DIR": tt.secure, "CLAUDE_CONFIG_DIR": tt.config}))
		if err != nil {
			t.Fatal(err)
		}
		if s := settingsOf(t, cfg.Profiles[0]); s.ConfigDir != tt.want || s.AccountFile != tt.account {
			t.Errorf("%+v: %s, account in %s", tt, s.ConfigDir, s.AccountFile)
		}
	}
}

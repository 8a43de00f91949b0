package setup

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// This file is about coding assistants that speak to many vendors: each has a setting for the API key of a provider, and none
// has a format of its own for a program that prints one. docs/tools.md says what each does with the token, and when.

// key returns what the profile's token is for a tool that sends it as an API key. It refuses a token that nobody would accept as
// one.
func (w wish) key(tool string) (protocol.Kind, error) {
	traits := config.Provider(w.profile)
	kind := traits.Token
	if !traits.SignsIn { // a key that was stored, or what a program prints, may be of any kind
		kind = cmp.Or(w.kind(), kind)
	}
	what := ""
	switch kind {
	case protocol.KindOAuth:
		what = "an OAuth token of Claude, which only Claude Code and the vendor's SDKs can use"
	case protocol.KindAWS:
		what = "keys of AWS, which sign requests and are not sent"
	default:
		return kind, nil
	}
	return "", &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("profile %s has %s; %s would send it as an API key, and be refused", w.profile.Name, what, tool),
		Hint:    "name a profile with an API key or the token of a gateway: -p NAME\nto add a key: ccagent add NAME --provider static",
	}
}

// crushPlan has crush run cchelper, which it does for each prompt: see docs/facts.md.
func crushPlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "provider of crush")
	}
	kind, err := w.key("crush")
	if err != nil {
		return plan{}, err
	}
	dir, err := w.named("CRUSH_GLOBAL_CONFIG", cmp.Or(w.env("CRUSH_GLOBAL_CONFIG"), filepath.Join(w.xdgConfig(), "crush")), "")
	if err != nil {
		return plan{}, err
	}
	path := filepath.Join(dir, "crush.json")
	src, err := readSettings(path)
	if err != nil {
		return plan{}, err
	}
	value := "$(" + w.ask("") + ")"
	if kind == protocol.KindBearer && (w.name == "anthropic" || valueIs(src, "anthropic", "providers", w.name, "type")) {
		value = "Bearer " + value // without the word, crush sends it in the header x-api-key to a provider of that type
	}
	p := plan{edits: []edit{{path: path, mode: 0o600, puts: []put{jsonValue(value, "providers", w.name, "api_key")}}}}
	if !holds(splice.JSON, src, "providers", w.name, "base_url") {
		p.says = append(p.says, fmt.Sprintf("note: %s has no base_url for %s, so crush sends the token to the address that it knows "+
			"for it; if it knows none, add base_url and models there", path, w.name))
	}
	return p, nil
}

// opencodePlan has opencode read the token from a file, which it does when it starts: it has no setting for a command.
func opencodePlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "provider of opencode")
	}
	if err := w.byOnly("opencode"); err != nil {
		return plan{}, err
	}
	if _, err := w.key("opencode"); err != nil {
		return plan{}, err
	}
	// Opencode merges all of its files, and the later of these goes before the earlier.
	dir := filepath.Join(w.xdgConfig(), "opencode")
	path := filepath.Join(dir, "opencode.json")
	mentioned, based := false, false
	for _, name := range []string{"opencode.json", "opencode.jsonc"} {
		at := filepath.Join(dir, name)
		src, err := readSettings(at)
		if err != nil {
			return plan{}, err
		}
		mentions := holds(splice.JSONC, src, "provider", w.name)
		if mentions || src != nil && !mentioned {
			path = at
		}
		mentioned = mentioned || mentions
		based = based || holds(splice.JSONC, src, "provider", w.name, "options", "baseURL")
	}
	token := filepath.Join(w.xdg("XDG_STATE_HOME", ".local/state"), "opencode", "ccagent-"+w.profile.Name+".token")
	if strings.Contains(token, "}") {
		return plan{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "opencode can't read a file whose path contains a closing brace: " + token,
			Hint:    "set XDG_STATE_HOME to a folder whose path has none",
		}
	}
	value := jsonValue("{file:"+w.short(token)+"}", "provider", w.name, "options", "apiKey")
	value.How = jsoncPut
	p := plan{
		edits: []edit{{path: path, mode: 0o600, puts: []put{value}}},
		views: []config.View{{Kind: config.ViewToken, Path: w.short(token)}},
	}
	if !based {
		p.says = append(p.says, fmt.Sprintf("note: %s has no options.baseURL for %s, so opencode sends the token to the address "+
			"that it knows for it; if it knows none, add npm, options.baseURL and models there", path, w.name))
	}
	p.says = append(p.says, w.shown("opencode")...)
	return p, nil
}

// geminiPlan has Gemini CLI take an API key, and shows the token in the file from which it sets its environment when it starts.
func geminiPlan(w wish) (plan, error) {
	if err := w.byOnly("gemini", "exec"); err != nil {
		return plan{}, err
	}
	kind, err := w.key("gemini")
	if err != nil {
		return plan{}, err
	}
	home, err := w.from("GEMINI_CLI_HOME", "")
	if err != nil {
		return plan{}, err
	}
	value := jsonValue("gemini-api-key", "security", "auth", "selectedType")
	value.How = notedPut
	p := plan{edits: []edit{{path: filepath.Join(home, ".gemini/settings.json"), mode: 0o600, puts: []put{value}}}}
	const variable = "GEMINI_API_KEY"
	if w.by == "exec" {
		p.says = w.byExec("gemini", variable)
	} else {
		env := filepath.Join(home, ".gemini/.env")
		view := config.View{Kind: config.ViewEnv, Path: w.short(env), Name: variable}
		src, err := readSettings(env)
		if err != nil {
			return plan{}, err
		}
		if len(src) > 0 && !HasView(w.env, w.profile, view) {
			return plan{}, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: env + " has something in it already, and ccagent would keep nothing but the token there",
				Hint: "move what is in it to your shell's profile, or start gemini with the token in its environment: " +
					protocol.ShellLine("ccagent", "setup", "gemini", "-p", w.profile.Name, "--by", "exec"),
			}
		}
		p.views = []config.View{view}
		p.says = append(w.shown("gemini"), "note: gemini reads that file only in a folder that it trusts, and if no .env of a project "+
			"comes before it; where that is not so: "+
			protocol.ShellLine("ccagent", "exec", "-p", w.profile.Name, "--env", variable, "--", "gemini"))
	}
	if w.env("GOOGLE_GEMINI_BASE_URL") == "" {
		says := "note: GOOGLE_GEMINI_BASE_URL is not set in this environment, so gemini sends the token to Google; " +
			"for a gateway, set it"
		if kind == protocol.KindBearer {
			says += ", and GEMINI_API_KEY_AUTH_MECHANISM=bearer"
		}
		p.says = append(p.says, says)
	}
	return p, nil
}

// aiderPlan has aider read a file from which it sets its environment when it starts.
func aiderPlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "provider of aider")
	}
	if err := w.byOnly("aider", "exec"); err != nil {
		return plan{}, err
	}
	if _, err := w.key("aider"); err != nil {
		return plan{}, err
	}
	variable := strings.ToUpper(w.name) + "_API_KEY" // as aider makes it of --api-key NAME=KEY
	if !environ.VariableName(variable) {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("aider has no provider %q: it would read the key of one from the variable NAME_API_KEY", w.name),
			Hint:    "name one of aider's providers, such as openai, anthropic or gemini"}
	}
	if w.by == "exec" {
		return plan{says: append(w.byExec("aider", variable), aiderBase)}, nil
	}
	env := w.home(".aider", "ccagent-"+w.profile.Name+"-"+strings.ToLower(w.name)+".env")
	e := lines(w.home(".aider.conf.yml"), "env-file: "+string(splice.Encode(env))+"\n")
	e.mode = 0o600
	e.check = func(before, after []byte) error {
		var was, is map[string]any
		if err := yaml.Unmarshal(before, &was); err != nil {
			return errors.New("is not valid YAML")
		}
		if _, ok := was["env-file"]; ok && !bytes.Equal(before, after) {
			return &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: e.path + " already has an env-file, and aider reads only one",
				Hint: "start aider with the token in its environment: " +
					protocol.ShellLine("ccagent", "setup", "aider", "-p", w.profile.Name, "--name", w.name, "--by", "exec"),
			}
		}
		if was == nil {
			was = map[string]any{}
		}
		was["env-file"] = env
		if err := yaml.Unmarshal(after, &is); err != nil || !reflect.DeepEqual(was, is) {
			return errUnsafeYAML
		}
		return nil
	}
	return plan{
		edits: []edit{e},
		views: []config.View{{Kind: config.ViewEnv, Path: w.short(env), Name: variable}},
		says:  append(w.shown("aider"), aiderBase),
	}, nil
}

const aiderBase = "note: aider sends the token to the provider's own address, unless another is set, as with openai-api-base " +
	"in ~/.aider.conf.yml"

// byOnly refuses a --by that is none of the ways.
func (w wish) byOnly(tool string, ways ...string) error {
	if w.by == "" || slices.Contains(ways, w.by) {
		return nil
	}
	e := &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("--by is %q: %s has no such way", w.by, tool),
		Hint:    "leave out --by",
	}
	if len(ways) > 0 {
		e.Hint += ", or say --by " + strings.Join(ways, " or ")
	}
	return e
}

// byExec tells how to start a tool with the token in a variable.
func (w wish) byExec(tool, variable string) []string {
	return append([]string{
		"start it with its token in the environment, for example with this line in the profile of your shell:",
		fmt.Sprintf("alias %s='ccagent exec -p %s --env %s -- %[1]s'", tool, w.profile.Name, variable),
	}, w.stale(tool)...)
}

// stale says what happens in a tool that reads the token only when it starts.
func (w wish) stale(tool string) []string {
	if !config.Provider(w.profile).Renewable { // a key, which does not expire
		return nil
	}
	const says = "note: %s reads the token when it starts, and not again; once it has expired, start %[1]s anew"
	return []string{fmt.Sprintf(says, tool)}
}

// shown is stale for a tool that reads the token from a view: unlike cchelper, that starts no agent.
func (w wish) shown(tool string) []string {
	says := w.stale(tool)
	if says != nil {
		says = append(says, "note: the file is kept fresh while an agent runs; to have one start with your session: ccagent install")
	}
	return says
}

// short writes a path below the home directory with ~/.
func (w wish) short(path string) string {
	if rest, ok := strings.CutPrefix(path, w.home()+"/"); ok {
		return "~/" + rest
	}
	return path
}

// holds reports whether a document in a dialect of JSON has a value at the path of keys.
func holds(d splice.Dialect, src []byte, keys ...string) bool {
	_, ok, err := d.Get(unmarked(src), keys...)
	return err == nil && ok
}

// valueIs reports whether a JSON document has this string at the path of keys.
func valueIs(src []byte, want string, keys ...string) bool { return jsonValue(want, keys...).is(src) }

package setup

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
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
	if !has(src, "providers", w.name, "base_url") {
		p.says = append(p.says, fmt.Sprintf("note: %s has no base_url for %s, so crush sends the token to the address that it knows "+
			"for it; if it knows none, add base_url and models there", path, w.name))
	}
	if rc := filepath.Join(dir, "crushrc"); isFile(rc) {
		p.says = append(p.says, "note: crush prefers what "+rc+" says about a provider")
	}
	// What crush itself writes, for example a key that was typed in it.
	data := cmp.Or(w.env("CRUSH_GLOBAL_DATA"), filepath.Join(w.xdg("XDG_DATA_HOME", ".local/share"), "crush"))
	data = filepath.Join(data, "crush.json")
	if src, err := readSettings(data); err == nil && has(src, "providers", w.name, "api_key") {
		p.says = append(p.says, fmt.Sprintf("note: crush prefers the key in %s: remove providers.%s.api_key there", data, w.name))
	}
	return p, nil
}

// has reports whether a JSON document has a value at the path of keys.
func has(src []byte, keys ...string) bool {
	_, ok, err := splice.Get(src, keys...)
	return err == nil && ok
}

// valueIs reports whether a JSON document has this string at the path of keys.
func valueIs(src []byte, want string, keys ...string) bool { return jsonValue(want, keys...).is(src) }

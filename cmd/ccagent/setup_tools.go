package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// tools are those that setup knows, in the order of its help. What each wants from a credential command is in docs/tools.md.
var tools = []tool{
	{"claude-code", claudeCodePlan},
	{"codex", codexPlan},
	{"git", gitPlan},
	{"docker", dockerPlan},
	{"kubectl", kubectlPlan},
	{"go", goPlan},
	{"bazel", bazelPlan},
	{"terraform", terraformPlan},
	{"anthropic-sdk", sdkPlan},
	{"shell", shellPlan},
	{"curl", curlPlan},
}

func toolNames() []string {
	names := make([]string, len(tools))
	for i, t := range tools {
		names[i] = t.name
	}
	return names
}

// cannot says that a file is left alone, and what to do instead.
func cannot(path, why, byHand string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: path + " " + why + ", and is left alone", Hint: "add by hand: " + byHand}
}

func wants(flag, what string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "which " + what + "?", Hint: "say it with " + flag}
}

func (w wish) home(path ...string) string {
	return filepath.Join(append([]string{w.env("HOME")}, path...)...)
}

// from is the path that a variable names, else the one below the home.
func (w wish) from(variable string, below ...string) string {
	if path := w.env(variable); filepath.IsAbs(path) {
		return path
	}
	return w.home(below...)
}

// jsonEdit sets one value in a file of JSON.
func jsonEdit(path string, value any, keys ...string) edit {
	text := splice.Encode(value)
	byHand := strings.Join(keys, ".") + " = " + string(text)
	return edit{
		path: path, mode: 0o600,
		add: func(src []byte) ([]byte, error) {
			if len(bytes.TrimSpace(src)) == 0 {
				// The first lines of a file that people edit are for people.
				v := any(json.RawMessage(text))
				for _, key := range slices.Backward(keys) {
					v = map[string]any{key: v}
				}
				out, err := json.MarshalIndent(v, "", "  ")
				return append(out, '\n'), err
			}
			out, err := splice.Set(src, text, keys...)
			if err != nil {
				return nil, cannot(path, "is not valid JSON", byHand)
			}
			return out, nil
		},
		cut: func(src []byte) ([]byte, error) {
			there, ok, err := splice.Get(src, keys...)
			if err != nil {
				return nil, cannot(path, "is not valid JSON", "nothing; take out "+byHand)
			}
			if !ok || !bytes.Equal(there, text) {
				return src, nil // somebody else's by now
			}
			return splice.Drop(src, keys...)
		},
	}
}

// blockEdit appends lines to a file. check, if not nil, judges the whole as the tool will read it.
func blockEdit(path, block string, check func(src []byte) error) edit {
	return edit{
		path: path, mode: 0o644,
		add: func(src []byte) ([]byte, error) {
			if check != nil {
				if err := check(src); err != nil {
					return nil, cannot(path, err.Error(), strings.TrimSpace(strings.ReplaceAll(block, "\n", " ")))
				}
			}
			if bytes.Contains(src, []byte(block)) {
				return src, nil
			}
			out := slices.Clone(src)
			if len(out) > 0 && out[len(out)-1] != '\n' {
				out = append(out, '\n')
			}
			return append(out, block...), nil
		},
		cut: func(src []byte) ([]byte, error) {
			out := bytes.Replace(src, []byte(block), nil, 1)
			if len(out) == 0 {
				out = []byte{}
			}
			return out, nil
		},
	}
}

// linkEdit has path lead to cchelper: some tools know a helper by the name of its file alone.
func linkEdit(w wish, path string) edit { return edit{path: path, link: w.helper} }

// binDir is where links go that a tool looks for on PATH.
func (w wish) binDir() string {
	dir := filepath.Dir(w.helper)
	if f, err := os.CreateTemp(dir, ".ccagent-*"); err == nil {
		f.Close()
		os.Remove(f.Name())
		return dir
	}
	return w.home(".local/bin")
}

func (w wish) onPath(dir string) []string {
	if slices.Contains(filepath.SplitList(w.env("PATH")), dir) {
		return nil
	}
	return []string{"put " + dir + " on your PATH, where the tool looks for its helper"}
}

func claudeCodePlan(w wish) (plan, error) {
	dir := w.env.claudeDir()
	if dir == "" {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: "HOME is not set, so Claude Code's settings are not known"}
	}
	settings := filepath.Join(dir, "settings.json")
	if w.name != "" {
		path := w.home(".claude.json")
		if custom := w.env("CLAUDE_CONFIG_DIR"); filepath.IsAbs(custom) {
			path = filepath.Join(custom, ".claude.json")
		}
		src, err := readSettings(path)
		if err != nil {
			return plan{}, err
		}
		if _, ok, err := splice.Get(src, "mcpServers", w.name, "url"); src == nil || err != nil || !ok {
			return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("%s has no MCP server %q with a url", path, w.name),
				Hint: "add it first: claude mcp add --transport http " + w.name + " https://..."}
		}
		return plan{edits: []edit{jsonEdit(path, w.ask("headers"), "mcpServers", w.name, "headersHelper")}}, nil
	}
	if w.profile.Provider != "claude" {
		if w.by != "" {
			return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: "--by is for an OAuth sign-in; profile " + w.profile.Name + " goes by apiKeyHelper"}
		}
		command := w.ask("")
		if w.profile.Provider != "static" { // a key that was refused can't be renewed
			command += " --on-reask=renew"
		}
		return plan{edits: []edit{jsonEdit(settings, command, "apiKeyHelper")}, says: outranked(w, command)}, nil
	}
	switch w.by {
	case "", "guard":
		return plan{guard: true, says: []string{"an OAuth sign-in does not work by apiKeyHelper, so Claude Code goes on reading its own file, which the agent keeps fresh (other ways: --by sdk, --by exec)"}}, nil
	case "sdk":
		return plan{views: true, edits: []edit{jsonEdit(settings, w.profile.Name, "env", "ANTHROPIC_PROFILE")}, says: outranked(w, "")}, nil
	case "exec":
		return plan{says: []string{"start it with its token in the environment, as by this line in the shell's profile:", "alias claude='ccagent exec -p " + w.profile.Name + " -- claude'"}}, nil
	}
	return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("--by %q: there are guard, sdk and exec", w.by)}
}

// outranked names what Claude Code takes before what it is told here, which is the helper, or a sign-in if that is empty.
func outranked(w wish, helper string) []string {
	settings, _ := readClaudeSettings(w.env)
	settings.Helper = helper
	var says []string
	for _, f := range checkEnvironment(w.env, settings) {
		if f.State == "warn" {
			says = append(says, "note: "+f.What)
		}
	}
	return says
}

func codexPlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "model provider of codex")
	}
	path := filepath.Join(w.from("CODEX_HOME", ".codex"), "config.toml")
	key := w.name
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(key) {
		key = tomlString(key)
	}
	block := fmt.Sprintf("\n[model_providers.%s.auth]\ncommand = %s\nargs = [\"-p\", %s]\n", key, tomlString(w.helper), tomlString(w.profile.Name))
	e := blockEdit(path, block, nil)
	e.mode = 0o600
	parse := func(src []byte) (map[string]any, error) {
		var doc map[string]any
		return doc, toml.Unmarshal(src, &doc)
	}
	add := e.add
	e.add = func(src []byte) ([]byte, error) {
		doc, err := parse(src)
		if err != nil {
			return nil, cannot(path, "is not valid TOML", block)
		}
		servers, _ := doc["model_providers"].(map[string]any)
		server, _ := servers[w.name].(map[string]any)
		if server == nil {
			return nil, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("%s has no model provider %q", path, w.name), Hint: "give it one first, with its base_url"}
		}
		out, err := add(src)
		if err != nil {
			return nil, err
		}
		if _, err := parse(out); err != nil {
			return nil, cannot(path, "says already how "+w.name+" gets its token", block)
		}
		return out, nil
	}
	return plan{edits: []edit{e}}, nil
}

func gitPlan(w wish) (plan, error) {
	if len(w.hosts) == 0 {
		return plan{}, wants("--host", "host gets the token")
	}
	path := w.home(".gitconfig")
	if xdg := filepath.Join(w.from("XDG_CONFIG_HOME", ".config"), "git/config"); !isFile(path) && isFile(xdg) { // git-config(1): where git would write
		path = xdg
	}
	var block strings.Builder
	for _, host := range w.hosts {
		// The empty one ends the list of those that would be asked, and told to store the token, as well.
		fmt.Fprintf(&block, "[credential \"https://%s\"]\n\thelper =\n\thelper = %s\n", host, gitQuote("!"+w.ask("git")))
	}
	return plan{edits: []edit{blockEdit(path, block.String(), nil)}}, nil
}

// gitQuote is a value as git-config(1) has it.
func gitQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func dockerPlan(w wish) (plan, error) {
	if len(w.hosts) == 0 {
		return plan{}, wants("--host", "registry gets the token")
	}
	path := filepath.Join(w.from("DOCKER_CONFIG", ".docker"), "config.json")
	dir := w.binDir()
	p := plan{edits: []edit{linkEdit(w, filepath.Join(dir, "docker-credential-ccagent-"+w.profile.Name))}, says: w.onPath(dir)}
	// One edit for all: a file is changed once.
	e := jsonEdit(path, "ccagent-"+w.profile.Name, "credHelpers", w.hosts[0])
	for _, host := range w.hosts[1:] {
		next := jsonEdit(path, "ccagent-"+w.profile.Name, "credHelpers", host)
		e.add, e.cut = then(e.add, next.add), then(e.cut, next.cut)
	}
	p.edits = append(p.edits, e)
	return p, nil
}

func then(first, second func([]byte) ([]byte, error)) func([]byte) ([]byte, error) {
	return func(src []byte) ([]byte, error) {
		out, err := first(src)
		if err != nil {
			return nil, err
		}
		return second(out)
	}
}

// kubectlPlan adds a user to the kubeconfig. YAML is read to be sure of what is there, and never written: the lines are put where
// the list of users begins, and what comes of it must be what was there and the user.
func kubectlPlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "user of the kubeconfig")
	}
	path := w.home(".kube/config")
	if first, _, _ := strings.Cut(w.env("KUBECONFIG"), ":"); filepath.IsAbs(first) {
		path = first
	}
	user := map[string]any{"name": w.name, "user": map[string]any{"exec": map[string]any{
		"apiVersion": "client.authentication.k8s.io/v1", "command": w.helper, "args": []any{"-p", w.profile.Name, "-f", "exec-credential"},
		"interactiveMode": "Never", "provideClusterInfo": len(w.profile.Hosts) > 0,
	}}}
	q := func(s string) string { return string(splice.Encode(s)) } // a string of JSON is one of YAML
	lines := fmt.Sprintf("- name: %s\n  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, args: [-p, %s, -f, exec-credential], interactiveMode: Never, provideClusterInfo: %t}}\n",
		q(w.name), q(w.helper), q(w.profile.Name), len(w.profile.Hosts) > 0)
	says := []string{"use it in a context: kubectl config set-context --current --user=" + shellQuote(w.name)}
	if len(w.profile.Hosts) > 0 {
		says = append(says, "the profile lists hosts: the cluster's must be one of them")
	}
	read := func(src []byte) (map[string]any, []any, error) {
		var doc map[string]any
		if err := yaml.Unmarshal(src, &doc); err != nil {
			return nil, nil, err
		}
		users, _ := doc["users"].([]any)
		return doc, users, nil
	}
	usersLine := regexp.MustCompile(`(?m)^users:[ \t]*(?:\[\]|null|~)?[ \t]*(?:#.*)?\n`)
	return plan{says: says, edits: []edit{{
		path: path, mode: 0o600,
		add: func(src []byte) ([]byte, error) {
			doc, users, err := read(src)
			if err != nil {
				return nil, cannot(path, "is not valid YAML", lines)
			}
			for _, u := range users {
				if m, _ := u.(map[string]any); m != nil && m["name"] == w.name {
					if reflect.DeepEqual(m, user) {
						return src, nil
					}
					return nil, cannot(path, "has another user "+w.name+" already", "a user of another --name")
				}
			}
			var out []byte
			if at := usersLine.FindIndex(src); at != nil {
				indent := regexp.MustCompile(`^[ \t]*`).FindString(string(src[at[1]:]))
				if len(users) == 0 {
					indent = ""
				}
				block := indent + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n"+indent) + "\n"
				out = slices.Concat(src[:at[0]], []byte("users:\n"), []byte(block), src[at[1]:])
				if len(users) > 0 { // its own line keeps its remark
					out = slices.Concat(src[:at[1]], []byte(block), src[at[1]:])
				}
			} else {
				if len(src) == 0 {
					src = []byte("apiVersion: v1\nkind: Config\n")
				}
				out = slices.Concat(src, []byte(map[bool]string{true: "", false: "\n"}[bytes.HasSuffix(src, []byte("\n"))]+"users:\n"+lines))
			}
			after, now, err := read(out)
			if err != nil || len(now) != len(users)+1 || !reflect.DeepEqual(now[0], any(user)) || !reflect.DeepEqual(append([]any{}, now[1:]...), append([]any{}, users...)) {
				return nil, cannot(path, "is written in a way that can't be edited safely", lines)
			}
			for key, value := range doc {
				if key != "users" && !reflect.DeepEqual(after[key], value) {
					return nil, cannot(path, "is written in a way that can't be edited safely", lines)
				}
			}
			return out, nil
		},
		cut: func(src []byte) ([]byte, error) {
			text := regexp.QuoteMeta(strings.TrimSuffix(lines, "\n"))
			block := regexp.MustCompile(`(?m)^[ \t]*` + strings.ReplaceAll(text, "\n", `\n[ \t]*`) + `\n`)
			out := block.ReplaceAll(src, nil)
			_, before, err := read(src)
			_, after, afterErr := read(out)
			if err != nil || afterErr != nil || len(after) < len(before)-1 {
				return nil, cannot(path, "is written in a way that can't be edited safely", "nothing; take the user "+w.name+" out")
			}
			return out, nil
		},
	}}}, nil
}

// goPlan edits what `go env -w` edits. The helper comes first, and then whatever there was, or go's default.
func goPlan(w wish) (plan, error) {
	if len(w.profile.Hosts) == 0 {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + w.profile.Name + " lists no hosts, and would give go nothing",
			Hint: "list the module proxy's host in config.toml: hosts = [\"proxy.example.com\"]"}
	}
	path := w.env("GOENV")
	if !filepath.IsAbs(path) {
		dir, err := os.UserConfigDir()
		if err != nil {
			return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: err.Error()}
		}
		path = filepath.Join(dir, "go/env")
	}
	command := w.helper + " -p " + w.profile.Name + " -f goauth"
	if strings.ContainsAny(w.helper, " ;\"'") {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: "go takes no helper whose path holds a blank: " + w.helper}
	}
	line := regexp.MustCompile(`(?m)^GOAUTH=(.*)\n?`)
	e := edit{
		path: path, mode: 0o644,
		add: func(src []byte) ([]byte, error) {
			m := line.FindSubmatchIndex(src)
			if m == nil {
				out := slices.Clone(src)
				if len(out) > 0 && out[len(out)-1] != '\n' {
					out = append(out, '\n')
				}
				return append(out, "GOAUTH="+command+"; netrc\n"...), nil
			}
			was := string(src[m[2]:m[3]])
			if strings.Contains(was, command) {
				return src, nil
			}
			return slices.Concat(src[:m[2]], []byte(command+"; "+was), src[m[3]:]), nil
		},
		cut: func(src []byte) ([]byte, error) {
			out := bytes.Replace(src, []byte("GOAUTH="+command+"; netrc\n"), nil, 1)
			return append([]byte{}, bytes.Replace(out, []byte(command+"; "), nil, 1)...), nil
		},
	}
	p := plan{edits: []edit{e}}
	if w.env("GOAUTH") != "" {
		p.says = append(p.says, "note: GOAUTH is set in this environment, and go takes that first")
	}
	return p, nil
}

func bazelPlan(w wish) (plan, error) {
	if len(w.hosts) == 0 {
		return plan{}, wants("--host", "host gets the token")
	}
	link := filepath.Join(w.binDir(), "bazel-credential-ccagent-"+w.profile.Name)
	if strings.ContainsAny(link, " \t'\"\\") {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: "bazel takes no helper whose path holds a blank or a quote: " + link}
	}
	var block strings.Builder
	for _, host := range w.hosts {
		fmt.Fprintf(&block, "common --credential_helper=%s=%s\n", host, link)
	}
	return plan{edits: []edit{linkEdit(w, link), blockEdit(w.home(".bazelrc"), block.String(), nil)}}, nil
}

func terraformPlan(w wish) (plan, error) {
	path := w.from("TF_CLI_CONFIG_FILE", ".terraformrc")
	block := fmt.Sprintf("credentials_helper \"ccagent\" {\n  args = [\"-p\", %q]\n}\n", w.profile.Name)
	other := regexp.MustCompile(`(?m)^\s*credentials_helper\s+"`)
	e := blockEdit(path, block, func(src []byte) error {
		if other.Match(bytes.Replace(src, []byte(block), nil, 1)) {
			return fmt.Errorf("names a credentials helper already, and Terraform takes one alone")
		}
		return nil
	})
	p := plan{edits: []edit{linkEdit(w, w.home(".terraform.d/plugins/terraform-credentials-ccagent")), e}}
	if len(w.profile.Hosts) == 0 {
		p.says = []string{"the profile lists no hosts yet, and gives Terraform nothing until it does: hosts = [\"app.terraform.io\"] in config.toml"}
	}
	return p, nil
}

func sdkPlan(w wish) (plan, error) {
	if w.profile.Provider == "static" || w.profile.Provider == "command" {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: "a view is for a sign-in, and profile " + w.profile.Name + " is of provider " + w.profile.Provider,
			Hint: "give the program its key in the environment: ccagent exec -p " + w.profile.Name + " -- PROGRAM"}
	}
	return plan{views: true, says: []string{"have the program use it: export ANTHROPIC_PROFILE=" + w.profile.Name}}, nil
}

func shellPlan(w wish) (plan, error) {
	const sh = "# ccagent: where its agent is, and one that runs.\neval \"$(ccagent env)\"\n"
	switch shell := filepath.Base(w.env("SHELL")); shell {
	case "bash":
		return plan{edits: []edit{blockEdit(w.home(".bashrc"), sh, nil)}}, nil
	case "zsh":
		return plan{edits: []edit{blockEdit(filepath.Join(w.from("ZDOTDIR"), ".zshrc"), sh, nil)}}, nil
	case "fish":
		return plan{edits: []edit{blockEdit(filepath.Join(w.from("XDG_CONFIG_HOME", ".config"), "fish/conf.d/ccagent.fish"), "ccagent env --shell fish | source\n", nil)}}, nil
	case "csh", "tcsh":
		return plan{edits: []edit{blockEdit(w.home("."+shell+"rc"), "# ccagent: where its agent is, and one that runs.\neval \"`ccagent env --shell "+shell+"`\"\n", nil)}}, nil
	default:
		return plan{edits: []edit{blockEdit(w.home(".profile"), sh, nil)}}, nil
	}
}

func curlPlan(w wish) (plan, error) {
	return plan{says: []string{"curl has no setting for it; hand the header over on its standard input:", w.ask("header") + " | curl -H @- https://..."}}, nil
}

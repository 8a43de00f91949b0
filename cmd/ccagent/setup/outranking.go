package setup

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// Outranked returns what the tool prefers to what the journal has told it, in this environment and this folder. The result has
// names and no values: what is preferred may be a token. What Claude Code prefers is in environ.ClaudeCode. docs/facts.md says
// how each order was found out.
func (j Journal) Outranked(ctx context.Context, env environ.Vars) []environ.Outranking {
	found := j.unread(env)
	switch j.Tool {
	case "codex":
		return append(found, j.besideCodex()...)
	case "crush":
		return append(found, j.beforeCrush(env)...)
	case "gemini":
		if j.Views != nil { // else it gets the token in this variable
			return append(found, j.isSet(env, "GEMINI_API_KEY")...)
		}
	case "git":
		return append(found, j.beforeGit(ctx, env)...)
	case "docker":
		return append(found, j.beforeDocker(env)...)
	case "kubectl":
		return append(found, j.beforeKubectl(env)...)
	case "go":
		return append(found, j.isSet(env, "GOAUTH")...)
	case "terraform":
		return append(found, j.beforeTerraform(env)...)
	}
	return found
}

// paths are the files that setup has changed.
func (j Journal) paths() []string { return slices.Sorted(maps.Keys(j.Files)) }

// isSet says that the tool prefers a variable, if that is set.
func (j Journal) isSet(env environ.Vars, name string) []environ.Outranking {
	if env(name) == "" {
		return nil
	}
	return []environ.Outranking{{What: name + " is set here, and " + j.Tool + " prefers it to ccagent", Mend: "unset " + name}}
}

// unread says that a variable leads the tool to other settings than those that were changed.
func (j Journal) unread(env environ.Vars) []environ.Outranking {
	name := ""
	switch j.Tool {
	case "codex":
		name = "CODEX_HOME"
	case "crush":
		name = "CRUSH_GLOBAL_CONFIG"
	case "git":
		name = "GIT_CONFIG_GLOBAL"
	case "docker":
		name = "DOCKER_CONFIG"
	case "kubectl":
		name = "KUBECONFIG"
	case "go":
		name = "GOENV"
	case "terraform":
		name = "TF_CLI_CONFIG_FILE"
	}
	value := env(name)
	if name == "" || value == "" || len(j.Files) == 0 {
		return nil
	}
	for _, path := range j.paths() {
		for _, read := range filepath.SplitList(value) {
			if read, err := filepath.Abs(read); err == nil &&
				(read == path || filepath.Join(read, filepath.Base(path)) == path) {
				return nil
			}
		}
	}
	return []environ.Outranking{{
		What: name + " leads " + j.Tool + " to other settings than those that ask ccagent",
		Mend: "unset " + name + ", or set them up too: " + j.Command(),
	}}
}

// besideCodex returns what codex refuses beside a command for the token.
func (j Journal) besideCodex() (found []environ.Outranking) {
	for _, path := range j.paths() {
		src, err := readSettings(path)
		if err != nil {
			continue
		}
		for _, key := range codexConflicts(src, j.Name) {
			found = append(found, environ.Outranking{
				What: "model provider " + j.Name + " in " + path + " has " + key +
					", and codex does not start with that beside a command",
				Mend: "remove " + key + " there",
			})
		}
	}
	return found
}

// codexConflicts returns the keys of a model provider that codex refuses beside a command for the token.
func codexConflicts(src []byte, provider string) (keys []string) {
	var doc struct {
		Providers map[string]map[string]any `toml:"model_providers"`
	}
	if toml.Unmarshal(unmarked(src), &doc) != nil {
		return nil
	}
	for _, key := range []string{"env_key", "experimental_bearer_token", "requires_openai_auth", "aws"} {
		if value := doc.Providers[provider][key]; value != nil && value != false {
			keys = append(keys, key)
		}
	}
	return keys
}

// beforeCrush returns the other places where crush has a key for the provider.
func (j Journal) beforeCrush(env environ.Vars) (found []environ.Outranking) {
	for _, path := range j.paths() {
		if rc := filepath.Join(filepath.Dir(path), "crushrc"); isFile(rc) {
			found = append(found, environ.Outranking{
				What: "crush prefers what " + rc + " says about a provider", Mend: "say nothing about " + j.Name + " there",
			})
		}
	}
	// What crush itself writes, for example a key that was typed in it.
	data := filepath.Join(
		cmp.Or(env("CRUSH_GLOBAL_DATA"), filepath.Join(wish{env: env}.xdg("XDG_DATA_HOME", ".local/share"), "crush")),
		"crush.json",
	)
	if src, err := readSettings(data); err == nil && holds(splice.JSON, src, "providers", j.Name, "api_key") {
		found = append(found, environ.Outranking{
			What: "crush prefers the key in " + data, Mend: "remove providers." + j.Name + ".api_key there",
		})
	}
	return found
}

// auths are the parts of docker's settings, and of podman's, that say how to sign in to a registry.
type auths struct {
	Auths   map[string]any    `json:"auths"`
	Helpers map[string]string `json:"credHelpers"`
}

// has reports whether there is something for the registry. An entry may be a URL.
func (a auths) has(host string) bool {
	if _, ok := a.Helpers[host]; ok {
		return true
	}
	for entry := range a.Auths {
		_, name, ok := strings.Cut(entry, "://")
		if !ok {
			name = entry
		}
		if name, _, _ = strings.Cut(name, "/"); strings.EqualFold(name, host) {
			return true
		}
	}
	return false
}

// beforeDocker returns where docker and its like look for a sign-in before they ask the helper.
func (j Journal) beforeDocker(env environ.Vars) (found []environ.Outranking) {
	const variable = "DOCKER_AUTH_CONFIG"
	var set auths
	_ = json.Unmarshal([]byte(env(variable)), &set) // docker ignores what it can't read
	for _, host := range j.Hosts {
		if (auths{Auths: set.Auths}).has(host) {
			found = append(found, environ.Outranking{
				What: variable + " is set here, and docker prefers what it says about " + host + " to ccagent",
				Mend: "unset " + variable,
			})
		}
	}
	for _, path := range []string{
		env("REGISTRY_AUTH_FILE"), filepath.Join(env("XDG_RUNTIME_DIR"), "containers/auth.json"),
		filepath.Join(wish{env: env}.xdgConfig(), "containers/auth.json"),
	} {
		if _, ours := j.Files[path]; ours || !filepath.IsAbs(path) {
			continue
		}
		src, err := readSettings(path)
		var there auths
		if err != nil || json.Unmarshal(src, &there) != nil {
			continue
		}
		for _, host := range j.Hosts {
			if there.has(host) {
				found = append(found, environ.Outranking{
					What: "podman, skopeo and buildah prefer what " + path + " says about " + host + " to ccagent",
					Mend: protocol.ShellLine("podman", "logout", "--authfile", path, host),
				})
			}
		}
	}
	return found
}

// beforeKubectl returns what kubectl prefers to the command of the user.
func (j Journal) beforeKubectl(env environ.Vars) (found []environ.Outranking) {
	for _, path := range filepath.SplitList(env("KUBECONFIG")) {
		if _, ours := j.Files[path]; ours {
			break
		}
		if src, err := readSettings(path); err == nil && kubeUser(src, j.Name) != nil {
			found = append(found, environ.Outranking{
				What: path + ", which KUBECONFIG names first, has a user " + j.Name + " too, and kubectl uses that one",
				Mend: protocol.ShellLine("kubectl", "config", "--kubeconfig", path, "delete-user", j.Name),
			})
		}
	}
	for _, path := range j.paths() {
		src, err := readSettings(path)
		if err != nil {
			continue
		}
		said := credential(kubeUser(src, j.Name))
		for _, key := range []string{"token", "tokenFile", "username", "auth-provider"} {
			if _, ok := said[key]; ok && said["exec"] != nil {
				found = append(found, environ.Outranking{
					What: "user " + j.Name + " in " + path + " has " + key + " too, and kubectl does not ask ccagent beside that",
					Mend: "remove " + key + " from that user in " + path,
				})
			}
		}
	}
	return found
}

// kubeUser returns the user of that name in a kubeconfig, nil if there is none.
func kubeUser(src []byte, name string) any {
	_, users, err := readUsers(unmarked(src))
	if at := slices.IndexFunc(users, func(u any) bool { return named(u, name) }); err == nil && at >= 0 {
		return users[at]
	}
	return nil
}

// beforeTerraform returns what terraform prefers to its credentials helper.
func (j Journal) beforeTerraform(env environ.Vars) (found []environ.Outranking) {
	login := filepath.Join(env("HOME"), ".terraform.d/credentials.tfrc.json") // what `terraform login` writes
	src, _ := readSettings(login)
	var kept struct {
		Credentials map[string]any `json:"credentials"`
	}
	_ = json.Unmarshal(src, &kept)
	for _, host := range j.Hosts {
		found = append(found, j.isSet(env, "TF_TOKEN_"+strings.NewReplacer(".", "_", "-", "__").Replace(host))...)
		if kept.Credentials[host] != nil {
			found = append(found, environ.Outranking{
				What: login + " has a token for " + host + ", and terraform prefers it to ccagent",
				Mend: protocol.ShellLine("terraform", "logout", host),
			})
		}
		for _, path := range j.paths() {
			block := regexp.MustCompile(`(?m)^\s*credentials\s+"` + regexp.QuoteMeta(host) + `"`)
			if src, err := readSettings(path); err == nil && block.Match(src) {
				found = append(found, environ.Outranking{
					What: path + " has credentials for " + host + ", and terraform prefers them to ccagent",
					Mend: `remove credentials "` + host + `" there`,
				})
			}
		}
	}
	return found
}

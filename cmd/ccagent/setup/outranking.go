package setup

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/hosts"
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

// gitSetting is one line of git's settings. file is "" if a variable of the environment has it.
type gitSetting struct{ file, key, value string }

// mend says how to remove the setting: with that value, a regular expression, if it is not "".
func (s gitSetting) mend(value string) string {
	if s.file == "" {
		return "it is set by GIT_CONFIG_COUNT or GIT_CONFIG_PARAMETERS: unset that"
	}
	if s.name() != s.key {
		return "remove " + s.name() + " from " + s.file
	}
	words := []string{"git", "config", "--file", s.file, "--unset-all", s.key}
	if value != "" {
		words = append(words, value)
	}
	return protocol.ShellLine(words...)
}

// name is the key as it may be shown: without a user and a password, because either may be a token.
func (s gitSetting) name() string {
	if u, err := url.Parse(gitURL(s.key)); err == nil && u.User != nil && strings.HasPrefix(u.Scheme, "http") {
		whole := u.String()
		u.User = url.User("...")
		return strings.Replace(s.key, whole, u.String(), 1)
	}
	return s.key
}

// place names the setting without its value.
func (s gitSetting) place() string { return s.name() + " in " + cmp.Or(s.file, "the environment") }

// gitSettings returns the settings of git that decide whether it asks a helper, in the order in which git reads them, as they are
// in this folder.
func gitSettings(ctx context.Context, env environ.Vars) (all []gitSetting) {
	git := env.LookPath("git")
	if git == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, git, "config", "--includes", "--show-origin", "--null", "--get-regexp",
		`^(credential\.(.*\.)?helper|http\.(.*\.)?extraheader|url\..*\.(push)?insteadof)$`).Output()
	if err != nil { // there is none, or git can't read its own settings, and says so whenever it is run
		return nil
	}
	fields := strings.Split(string(out), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		key, value, _ := strings.Cut(fields[i+1], "\n")
		file, isFile := strings.CutPrefix(fields[i], "file:")
		if !isFile {
			file = ""
		} else if abs, err := filepath.Abs(file); err == nil {
			file = abs
		}
		all = append(all, gitSetting{file, key, value})
	}
	return all
}

// beforeGit returns what has git ask others besides ccagent, or nobody.
func (j Journal) beforeGit(ctx context.Context, env environ.Vars) (found []environ.Outranking) {
	all := gitSettings(ctx, env)
	for _, host := range j.Hosts {
		found = slices.Concat(found, j.otherHelpers(all, host), otherHeaders(all, host), otherAddresses(all, host))
		netrc := filepath.Join(env("HOME"), ".netrc")
		machine := regexp.MustCompile(`(?i)\bmachine\s+` + regexp.QuoteMeta(withoutPort(host)) + `(\s|$)`)
		if src, err := readSettings(netrc); err == nil && machine.Match(src) {
			found = append(found, environ.Outranking{
				What: netrc + " has a machine " + withoutPort(host) + ", and git uses what is there before it asks anybody",
				Mend: "remove that machine from " + netrc,
			})
		}
	}
	return found
}

// gitURL is the middle of a key of git's settings, as in http.<url>.extraHeader: "" if it holds everywhere.
func gitURL(key string) string {
	_, rest, _ := strings.Cut(key, ".")
	return rest[:max(strings.LastIndexByte(rest, '.'), 0)]
}

// holdsFor reports whether settings for a URL, in which git allows *, are for a host or for a part of what is there.
func holdsFor(pattern, host string) bool {
	if pattern == "" {
		return true
	}
	u, err := url.Parse(pattern)
	return err == nil && u.Scheme == "https" && hosts.Match(hosts.At("https", u.Host), hosts.At("https", host))
}

// otherHelpers returns the helpers that git asks for the host besides ours. The helper that setup adds is the first of the list,
// because an empty one is before it, which clears what was there.
func (j Journal) otherHelpers(all []gitSetting, host string) (found []environ.Outranking) {
	ours := func(s gitSetting) bool {
		for _, e := range j.Files {
			for _, p := range e.Puts {
				if strings.Contains(p.Text, "helper = "+gitQuote(s.value)+"\n") {
					return true
				}
			}
		}
		return false
	}
	var asked []gitSetting
	var cleared gitSetting
	for _, s := range all {
		switch {
		case !strings.HasPrefix(s.key, "credential.") || !holdsFor(gitURL(s.key), host):
		case s.value != "":
			asked = append(asked, s)
		default:
			if slices.ContainsFunc(asked, ours) {
				cleared = s
			}
			asked = nil
		}
	}
	again := func(s gitSetting) string { // our lines come last in a file of their own
		if _, same := j.Files[s.file]; same {
			return j.Command() + " --undo && " + j.Command()
		}
		return s.mend("")
	}
	at := slices.IndexFunc(asked, ours)
	if at < 0 {
		if cleared.key != "" {
			found = append(found, environ.Outranking{
				What: "git does not ask ccagent for " + host + ": an empty " + cleared.place() + " clears the list of helpers",
				Mend: again(cleared),
			})
		}
		return found
	}
	for i, s := range asked {
		switch {
		case i < at:
			found = append(found, environ.Outranking{
				What: "git asks " + s.place() + " for " + host + " before it asks ccagent", Mend: again(s),
			})
		case i > at && !ours(s):
			found = append(found, environ.Outranking{
				What: "git gives the token for " + host + " to " + s.place() + " too, which may keep it", Mend: again(s),
			})
		}
	}
	return found
}

// otherHeaders returns the settings with which git signs in to the host without asking anybody.
func otherHeaders(all []gitSetting, host string) (found []environ.Outranking) {
	const name = "authorization:"
	for _, s := range all {
		switch {
		case !strings.HasPrefix(s.key, "http.") || !holdsFor(gitURL(s.key), host):
		case s.value == "":
			found = nil
		case len(s.value) > len(name) && strings.EqualFold(s.value[:len(name)], name):
			found = append(found, environ.Outranking{
				What: s.place() + " sends a header Authorization to " + host + ", so git asks nobody",
				Mend: s.mend("^" + s.value[:len(name)]),
			})
		}
	}
	return found
}

// otherAddresses returns the settings by which git goes elsewhere than to the host, or takes a password with it.
func otherAddresses(all []gitSetting, host string) (found []environ.Outranking) {
	address := "https://" + host + "/"
	for _, s := range all {
		if !strings.HasPrefix(s.key, "url.") || s.value == "" ||
			!strings.HasPrefix(address, s.value) && !strings.HasPrefix(s.value, address) {
			continue
		}
		u, err := url.Parse(gitURL(s.key))
		there := err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, host)
		password := false
		if err == nil && u.User != nil {
			_, password = u.User.Password()
		}
		switch {
		case there && password:
			found = append(found, environ.Outranking{
				What: s.place() + " puts a password into addresses of " + host + ", so git asks nobody", Mend: s.mend(""),
			})
		case !there:
			found = append(found, environ.Outranking{
				What: s.place() + " has git go elsewhere than to " + s.value, Mend: s.mend(""),
			})
		}
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

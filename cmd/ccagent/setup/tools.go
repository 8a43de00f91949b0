package setup

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// tools are the tools that setup knows, in the order of its help. docs/tools.md says what each expects of a credential command.
var tools = []tool{
	{"claude-code", []string{"claude"}, claudeCodePlan},
	{"codex", []string{"codex"}, codexPlan},
	{"crush", []string{"crush"}, crushPlan},
	{"opencode", []string{"opencode"}, opencodePlan},
	{"gemini", []string{"gemini"}, geminiPlan},
	{"aider", []string{"aider"}, aiderPlan},
	{"git", []string{"git"}, gitPlan},
	{"docker", []string{"docker", "podman", "skopeo", "buildah", "crane", "oras"}, dockerPlan},
	{"kubectl", []string{"kubectl", "oc", "helm", "k9s"}, kubectlPlan},
	{"go", []string{"go"}, goPlan},
	{"bazel", []string{"bazel", "bazelisk"}, bazelPlan},
	{"terraform", []string{"terraform", "tofu"}, terraformPlan},
	{"anthropic-sdk", nil, sdkPlan},
	{"shell", nil, shellPlan},
	{"curl", []string{"curl"}, curlPlan},
}

func toolOf(name string) tool {
	return tools[slices.IndexFunc(tools, func(t tool) bool { return t.name == name })]
}

// Names returns the names of the tools that can be set up, in the order of the help.
func Names() []string {
	names := make([]string, len(tools))
	for i, t := range tools {
		names[i] = t.name
	}
	return names
}

// elsewhere is what to do if a tool can't be told the path of the helper.
const elsewhere = "install both programs in a folder whose path has none: make install PREFIX=DIR"

// wants is the error for a flag that the tool needs.
func wants(flag, what string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "which " + what + "?", Hint: "name it with " + flag}
}

// home returns a path below the home directory.
func (w wish) home(path ...string) string {
	return filepath.Join(append([]string{w.env("HOME")}, path...)...)
}

// from returns the path that a variable of the environment names, or if that is not set, the path below the home directory. A
// path that is not absolute is an error: it would mean another file in each folder in which the tool is started.
func (w wish) from(variable, below string) (string, error) {
	return w.named(variable, w.env(variable), below)
}

// named is from for a path that is only a part of the variable's value.
func (w wish) named(variable, path, below string) (string, error) {
	switch {
	case path == "":
		return w.home(below), nil
	case filepath.IsAbs(path):
		return path, nil
	}
	return "", &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("%s is not an absolute path: %q", variable, terminal.Sanitize(path)),
		Hint:    "set it to an absolute path, or unset it",
	}
}

// xdgConfig returns the folder of settings.
func (w wish) xdgConfig() string { return w.xdg("XDG_CONFIG_HOME", ".config") }

// xdg returns the folder that a variable of the XDG specification names, or if it names none, the one below the home directory.
// That specification says that a path that is not absolute is ignored.
func (w wish) xdg(variable, below string) string {
	if path := w.env(variable); filepath.IsAbs(path) {
		return path
	}
	return w.home(below)
}

// lines is the edit that appends whole lines to a file that others may read.
func lines(path, text string) edit {
	return edit{path: path, mode: 0o644, puts: []put{{How: linesPut, Text: text}}}
}

// binDir returns the folder for links that a tool looks for on PATH: the folder of cchelper if it is writable.
func (w wish) binDir() string {
	dir := filepath.Dir(w.helper)
	if f, err := os.CreateTemp(dir, ".ccagent-*"); err == nil {
		f.Close()
		os.Remove(f.Name())
		return dir
	}
	return w.home(".local/bin")
}

// findable tells the person to put dir on PATH, unless it is there.
func (w wish) findable(dir string) []string {
	if slices.Contains(filepath.SplitList(w.env("PATH")), dir) {
		return nil
	}
	return []string{"put " + dir + " on your PATH: the tool looks for its helper there"}
}

func claudeCodePlan(w wish) (plan, error) {
	dir, err := w.env.ClaudeSettingsDir()
	if err != nil {
		return plan{}, err
	}
	settings := filepath.Join(dir, "settings.json")
	if w.mcp {
		return mcpPlan(w)
	}
	if w.name != "" {
		path := w.env.ClaudeAccounts()
		src, err := readSettings(path)
		if err != nil {
			return plan{}, err
		}
		if _, ok, err := splice.JSON.Get(unmarked(src), "mcpServers", w.name, "url"); src == nil || err != nil || !ok {
			return plan{}, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: fmt.Sprintf("%s has no MCP server %q with a URL", path, w.name),
				Hint: "add it first: " + protocol.ShellLine("claude", "mcp", "add", "--transport", "http", w.name, "https://...") +
					"\nor have ccagent add the server that a profile is for: ccagent setup claude-code --mcp PROFILE",
			}
		}
		return plan{
			edits: []edit{{path: path, mode: 0o600, puts: []put{jsonValue(w.ask("headers"), "mcpServers", w.name, "headersHelper")}}},
		}, nil
	}
	byExec := plan{
		says: []string{
			"start it with its token in the environment, for example with this line in the profile of your shell:",
			"alias claude='ccagent exec -p " + w.profile.Name + " -- claude'",
		},
	}
	traits := config.Provider(w.profile)
	if !traits.ClaudeCode {
		if !traits.SignsIn && w.kind() == protocol.KindOAuth {
			if w.by == "exec" {
				return byExec, nil
			}
			return plan{}, &protocol.Error{Code: protocol.CodeConfig,
				Message: "profile " + w.profile.Name + " holds an OAuth token of Claude (a setup token), which does not work with " +
					"apiKeyHelper",
				Hint: "start Claude Code with the token instead: ccagent setup claude-code -p " + w.profile.Name + " --by exec"}
		}
		if w.by != "" {
			return plan{}, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "--by is for an OAuth sign-in only; profile " + w.profile.Name + " is connected with apiKeyHelper",
				Hint:    "leave out --by",
			}
		}
		command := w.ask("")
		if traits.Renewable { // a key can't be renewed when it was refused
			command += reask(w, settings)
		}
		return plan{
			edits: []edit{{path: settings, mode: 0o600, puts: []put{jsonValue(command, "apiKeyHelper")}}},
			warns: outranked(w, command),
		}, nil
	}
	switch w.by {
	case "", "guard":
		return plan{
			guard: true,
			warns: outranked(w, ""),
			says: []string{
				"an OAuth sign-in does not work with apiKeyHelper, so Claude Code still reads its own file, in which the agent keeps the " +
					"token current (other ways: --by sdk, --by exec)",
			},
		}, nil
	case "sdk":
		return plan{
			views: []config.View{{Kind: config.ViewSDK}},
			edits: []edit{{path: settings, mode: 0o600, puts: []put{jsonValue(w.profile.Name, "env", "ANTHROPIC_PROFILE")}}},
			warns: outranked(w, ""),
		}, nil
	case "exec":
		return byExec, nil
	}
	return plan{}, &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("--by is %q: it must be guard, sdk or exec", w.by),
	}
}

// reask returns options of cchelper for Claude Code. If Claude Code asks again before the time is over for which it keeps a
// token, the token was refused, and cchelper is to have it renewed. That time is a setting of Claude Code.
func reask(w wish, settings string) string {
	const variable = "CLAUDE_CODE_API_KEY_HELPER_TTL_MS"
	kept := w.env(variable)
	if src, err := readSettings(settings); err == nil {
		if text, ok, err := splice.JSON.Get(unmarked(src), "env", variable); err == nil && ok {
			kept = strings.Trim(string(text), `"`)
		}
	}
	ms, err := strconv.ParseUint(kept, 10, 31)
	switch {
	case err != nil || ms >= 300_000: // the default is 5 min, for which cchelper's own default is right
		return " --on-reask=renew"
	case ms < 1000: // it asks for each request, so asking again means nothing
		return ""
	}
	return fmt.Sprintf(" --on-reask=renew --reask-window=%dms", ms*4/5)
}

// outranked returns what Claude Code prefers to what setup tells it, if it is started in the folder of this command, and whether
// it would send the token elsewhere. What setup tells it is the helper, or the sign-in if helper is "".
func outranked(w wish, helper string) []environ.Outranking {
	user, _ := w.env.ClaudeSettings()
	var found []environ.Outranking
	switch {
	case helper != "":
		user.Helper = helper
	case user.Helper != "":
		found = append(found, environ.Outranking{
			What: "there is an apiKeyHelper in " + user.Path + ", and Claude Code prefers it to its own sign-in",
			Mend: "remove apiKeyHelper from " + user.Path,
		})
	}
	dir, _ := os.Getwd()
	c := w.env.ClaudeCode(environ.ManagedClaude(), dir, user)
	found = append(found, c.Outranking()...)
	if helper != "" {
		if o := Misdirected(c, w.profile, w.kind()); o != nil {
			found = append(found, *o)
		}
	}
	return found
}

// Misdirected says that Claude Code would send a token, which its helper gets of the profile, to another host than the token is
// for; nil if it would not, or if nobody can tell. kind is that of the token, "" if the profile has none.
func Misdirected(c environ.ClaudeCode, profile agent.Profile, kind protocol.Kind) *environ.Outranking {
	const vendor = "api.anthropic.com"
	const variable = "ANTHROPIC_BASE_URL"
	base, in := c.Variable(variable)
	host := vendor
	if u, err := url.Parse(base); base != "" && err == nil {
		host = hosts.At(u.Scheme, u.Host)
	}
	user := c.Layers[len(c.Layers)-1].Path
	traits := config.Provider(profile)
	listed := hosts.Listed(profile.Hosts, host)
	// A command may print a key of the vendor's, and a key may be one. A sign-in elsewhere never brings one.
	gateways := traits.SignsIn && !traits.ClaudeCode || !traits.Stored && kind == protocol.KindBearer
	switch {
	case listed, len(profile.Hosts) == 0 && (host != vendor || !gateways):
		return nil
	case host == vendor && base == "":
		return &environ.Outranking{
			What: "no " + variable + " is set, so Claude Code would send the token of profile " + profile.Name + " to " + vendor +
				", which it is not for",
			Mend: `add the gateway's address to ` + user + `: "env": {"` + variable + `": "https://..."}`,
		}
	case len(profile.Hosts) == 0:
		return &environ.Outranking{
			What: variable + " leads to " + vendor + ", which the token of profile " + profile.Name + " is not for",
			Mend: "set " + variable + " to the gateway's address" + placeOf(in),
		}
	}
	return &environ.Outranking{
		What: "Claude Code would send the token of profile " + profile.Name + " to " + terminal.Sanitize(host) + ", by " + variable +
			placeOf(in) + ", and hosts of the profile does not list that",
		Mend: "list it in config.toml, or set " + variable + " to the gateway's address",
	}
}

// placeOf says in which file a variable is set, if it is in one.
func placeOf(in environ.ClaudeSettings) string {
	if in.Path == "" {
		return ""
	}
	return " in " + in.Path
}

func codexPlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "model provider of codex")
	}
	dir, err := w.from("CODEX_HOME", ".codex")
	if err != nil {
		return plan{}, err
	}
	path := filepath.Join(dir, "config.toml")
	key := w.name
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(key) {
		key = config.Quote(key)
	}
	e := lines(
		path,
		fmt.Sprintf("\n[model_providers.%s.auth]\ncommand = %s\nargs = [\"-p\", %s]\n", key, config.Quote(w.helper),
			config.Quote(w.profile.Name)),
	)
	e.mode = 0o600
	e.check = func(before, after []byte) error {
		var doc struct {
			Providers map[string]any `toml:"model_providers"`
		}
		if err := toml.Unmarshal(before, &doc); err != nil {
			return errors.New("is not valid TOML")
		}
		if _, ok := doc.Providers[w.name].(map[string]any); !ok {
			return &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: fmt.Sprintf("%s has no model provider %q", path, w.name),
				Hint:    "add it first, with its base_url",
			}
		}
		if keys := codexConflicts(before, w.name); len(keys) > 0 {
			return &protocol.Error{
				Code: protocol.CodeConfig,
				Message: fmt.Sprintf("model provider %q in %s has %s, and codex does not start with that beside a command", w.name, path,
					strings.Join(keys, " and ")),
				Hint: "remove " + strings.Join(keys, " and ") + " there first",
			}
		}
		if err := toml.Unmarshal(after, new(map[string]any)); err != nil {
			return errors.New("already says how " + w.name + " gets its token")
		}
		return nil
	}
	return plan{edits: []edit{e}}, nil
}

func gitPlan(w wish) (plan, error) {
	if len(w.hosts) == 0 {
		return plan{}, wants("--host", "host gets the token")
	}
	path, err := w.from("GIT_CONFIG_GLOBAL", ".gitconfig")
	if err != nil {
		return plan{}, err
	}
	if xdg := filepath.Join(w.xdgConfig(), "git/config"); !isFile(path) && isFile(xdg) { // git-config(1): where git would write
		path = xdg
	}
	e := edit{path: path, mode: 0o644}
	for _, host := range w.hosts {
		// The empty helper clears the list. Otherwise git would ask the other helpers too, and have them store the token.
		e.puts = append(
			e.puts,
			put{
				How:  linesPut,
				Text: fmt.Sprintf("[credential \"https://%s\"]\n\thelper =\n\thelper = %s\n", host, gitQuote("!"+w.ask("git"))),
			},
		)
	}
	e.check = func(before, _ []byte) error {
		if git := w.env.LookPath("git"); git != "" {
			cmd := exec.Command(git, "config", "--file", "-", "--list")
			cmd.Stdin = bytes.NewReader(before)
			if exit := (*exec.ExitError)(nil); errors.As(cmd.Run(), &exit) {
				return errors.New("can't be read by git")
			}
		}
		return nil
	}
	return plan{edits: []edit{e}}, nil
}

// gitQuote quotes a value as git-config(1) says.
func gitQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func dockerPlan(w wish) (plan, error) {
	if len(w.hosts) == 0 {
		return plan{}, wants("--host", "registry gets the token")
	}
	settings, err := w.from("DOCKER_CONFIG", ".docker")
	if err != nil {
		return plan{}, err
	}
	path := filepath.Join(settings, "config.json")
	dir := w.binDir()
	e := edit{path: path, mode: 0o600}
	for _, host := range w.hosts {
		e.puts = append(e.puts, jsonValue("ccagent-"+w.profile.Name, "credHelpers", host))
	}
	return plan{
		edits: []edit{e},
		links: []string{filepath.Join(dir, "docker-credential-ccagent-"+w.profile.Name)},
		says:  w.findable(dir),
	}, nil
}

func kubectlPlan(w wish) (plan, error) {
	if w.name == "" {
		return plan{}, wants("--name", "user of the kubeconfig")
	}
	first, _, _ := strings.Cut(w.env("KUBECONFIG"), ":")
	path, err := w.named("KUBECONFIG", first, ".kube/config")
	if err != nil {
		return plan{}, err
	}
	q := func(s string) string { return string(splice.Encode(s)) } // a string in JSON is one in YAML too
	idToken := ""
	if w.idToken {
		idToken = ", --id-token"
	}
	user := put{
		kubePut,
		[]string{w.name},
		fmt.Sprintf(
			"- name: %s\n  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: %s, "+
				"args: [-p, %s, -f, exec-credential%s], interactiveMode: Never, provideClusterInfo: %t}}\n",
			q(w.name),
			q(w.helper),
			q(w.profile.Name),
			idToken,
			len(w.profile.Hosts) > 0,
		),
	}
	says := []string{"to use it in a context: kubectl config set-context --current --user=" + protocol.ShellLine(w.name)}
	if len(w.profile.Hosts) > 0 {
		says = append(says, "the profile lists hosts, and the cluster's host must be one of them")
	}
	return plan{says: says, edits: []edit{{path: path, mode: 0o600, puts: []put{user}}}}, nil
}

// goPlan edits the file that `go env -w` edits. The helper comes first in GOAUTH. What was there follows, or else go's default.
func goPlan(w wish) (plan, error) {
	if len(w.profile.Hosts) == 0 {
		return plan{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "profile " + w.profile.Name + " lists no hosts, so go would get no token",
			Hint:    "list the module proxy's host in config.toml: hosts = [\"proxy.example.com\"]",
		}
	}
	path := w.env("GOENV")
	switch {
	case path == "off":
		return plan{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "GOENV is off, so go reads no file of settings",
			Hint: "unset it, or set GOAUTH in the environment: export GOAUTH=" + protocol.ShellLine(
				w.helper+" -p "+w.profile.Name+" -f goauth",
			),
		}
	case path == "":
		dir, err := os.UserConfigDir()
		if err != nil {
			return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: err.Error()}
		}
		path = filepath.Join(dir, "go/env")
	}
	if _, err := w.from("GOENV", ""); err != nil {
		return plan{}, err
	}
	if strings.ContainsAny(w.helper, " ;\"'") {
		return plan{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "go can't run a helper whose path contains a blank, a quote or a semicolon: " + w.helper,
			Hint:    elsewhere,
		}
	}
	return plan{
		edits: []edit{
			{path: path, mode: 0o644, puts: []put{{How: goauthPut, Text: w.helper + " -p " + w.profile.Name + " -f goauth"}}},
		},
	}, nil
}

func bazelPlan(w wish) (plan, error) {
	if len(w.hosts) == 0 {
		return plan{}, wants("--host", "host gets the token")
	}
	link := filepath.Join(w.binDir(), "bazel-credential-ccagent-"+w.profile.Name)
	if strings.ContainsAny(link, " \t'\"\\") {
		return plan{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "bazel can't run a helper whose path contains a blank, a quote or a backslash: " + link,
			Hint:    elsewhere,
		}
	}
	e := edit{path: w.home(".bazelrc"), mode: 0o644}
	for _, host := range w.hosts {
		e.puts = append(e.puts, put{How: linesPut, Text: "common --credential_helper=" + withoutPort(host) + "=" + link + "\n"})
	}
	return plan{edits: []edit{e}, links: []string{link}}, nil
}

func terraformPlan(w wish) (plan, error) {
	path, err := w.from("TF_CLI_CONFIG_FILE", ".terraformrc")
	if err != nil {
		return plan{}, err
	}
	e := lines(path, fmt.Sprintf("credentials_helper \"ccagent\" {\n  args = [\"-p\", %q]\n}\n", w.profile.Name))
	e.check = func(before, _ []byte) error {
		if !wholeHCL(before) {
			return errors.New("can't be read by Terraform")
		}
		if regexp.MustCompile(`(?m)^\s*credentials_helper\s+"`).Match(bytes.Replace(before, []byte(e.puts[0].Text), nil, 1)) {
			return errors.New("already has a credentials helper, and Terraform allows only one")
		}
		return nil
	}
	p := plan{edits: []edit{e}, links: []string{w.home(".terraform.d/plugins/terraform-credentials-ccagent")}}
	if len(w.profile.Hosts) == 0 {
		p.says = []string{
			"the profile lists no hosts yet, and Terraform gets no token until it does: hosts = [\"app.terraform.io\"] in config.toml",
		}
	}
	return p, nil
}

// wholeHCL reports whether a block can be appended to a file in Terraform's language: it leaves no string, comment or bracket
// open, and it is not written in JSON.
func wholeHCL(src []byte) bool {
	var open []byte
	for i := 0; i < len(src); i++ {
		rest := src[i:]
		switch c := src[i]; {
		case c == '#', bytes.HasPrefix(rest, []byte("//")):
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case bytes.HasPrefix(rest, []byte("/*")):
			end := bytes.Index(rest[2:], []byte("*/"))
			if end < 0 {
				return false
			}
			i += end + 3
		case c == '"':
			for i++; i < len(src) && src[i] != '"'; i++ {
				if src[i] == '\n' {
					return false
				}
				if src[i] == '\\' {
					i++
				}
			}
			if i >= len(src) {
				return false
			}
		case c == '{', c == '[':
			if len(bytes.TrimSpace(src[:i])) == 0 {
				return false
			}
			open = append(open, c+2) // the bracket that closes it
		case c == '}', c == ']':
			if len(open) == 0 || open[len(open)-1] != c {
				return false
			}
			open = open[:len(open)-1]
		}
	}
	return len(open) == 0
}

func sdkPlan(w wish) (plan, error) {
	if !config.Provider(w.profile).SignsIn {
		return plan{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "a view needs a sign-in, and profile " + w.profile.Name + " has provider " + w.profile.Provider,
			Hint:    "start the program with its key in the environment: ccagent exec -p " + w.profile.Name + " -- PROGRAM",
		}
	}
	return plan{
		views: []config.View{{Kind: config.ViewSDK}},
		says:  []string{"tell the program to use it: export ANTHROPIC_PROFILE=" + w.profile.Name},
	}, nil
}

func shellPlan(w wish) (plan, error) {
	const sh = "# ccagent: start its agent if none runs, and tell programs where it is.\neval \"$(ccagent env)\"\n"
	switch shell := filepath.Base(w.env("SHELL")); shell {
	case "bash":
		return plan{edits: []edit{lines(w.home(".bashrc"), sh)}}, nil
	case "zsh":
		dir, err := w.from("ZDOTDIR", "")
		return plan{edits: []edit{lines(filepath.Join(dir, ".zshrc"), sh)}}, err
	case "fish":
		return plan{
			edits: []edit{lines(filepath.Join(w.xdgConfig(), "fish/conf.d/ccagent.fish"), "ccagent env --shell fish | source\n")},
		}, nil
	case "csh", "tcsh":
		return plan{
			edits: []edit{
				lines(w.home("."+shell+"rc"),
					"# ccagent: start its agent if none runs, and tell programs where it is.\neval \"`ccagent env --shell "+shell+"`\"\n"),
			},
		}, nil
	default:
		return plan{edits: []edit{lines(w.home(".profile"), sh)}}, nil
	}
}

func curlPlan(w wish) (plan, error) {
	return plan{
		says: []string{
			"curl has no setting for this; pass the header to it on standard input:",
			w.ask("header") + " | curl -H @- https://...",
		},
	}, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

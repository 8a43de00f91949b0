package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
)

// A place is the path of a file or a folder with credentials, or with sockets at which somebody gives them. It is absolute, and
// its parts may hold the patterns of [filepath.Match].
type place string

// inHome are the places below the home directory. Those below .config, .local/share, .local/state and .cache are also looked for
// below the folders that the XDG variables name.
var inHome = []string{
	// keys and passwords
	".ssh", ".gnupg", ".pki", ".password-store", ".netrc", "_netrc", ".authinfo*", ".git-credentials",
	".config/git/credentials", ".config/sops", ".config/age", ".age", ".config/keybase", ".local/share/keybase",
	".config/oidc-agent", ".oidc-agent", ".pgpass", ".my.cnf", ".mylogin.cnf", ".config/pass*", ".config/Bitwarden*",
	".config/1Password", ".config/op", ".op", ".config/keepassxc", ".cache/keepassxc", ".step", ".vault-token",
	".config/rclone", ".smbcredentials", ".krb5", ".config/msmtp", ".msmtprc", ".mbsyncrc", ".fetchmailrc", ".config/aerc",
	// keyrings
	".local/share/keyrings", ".local/share/kwalletd", ".kde/share/apps/kwallet", ".gnome2/keyrings",
	// clouds and clusters
	".aws", ".azure", ".config/gcloud", ".boto", ".oci", ".aliyun", ".bluemix", ".config/doctl", ".config/hcloud",
	".config/scw", ".config/linode-cli", ".fly/config.yml", ".config/heroku", ".local/share/heroku", ".config/netlify",
	".netlify", ".config/.wrangler", ".wrangler", ".local/share/com.vercel.cli", ".config/railway", ".railway",
	".supabase/access-token", ".kube", ".minikube", ".docker", ".config/containers", ".config/helm", ".config/argocd",
	".terraform.d", ".terraformrc", ".config/pulumi", ".pulumi/credentials.json", ".databrickscfg", ".snowflake",
	".config/snowflake", ".s3cfg", ".config/s3cmd",
	// forges and registries
	".config/gh", ".config/glab-cli", ".config/hub", ".config/tea", ".npmrc", ".yarnrc", ".yarnrc.yml", ".config/pnpm",
	".bunfig.toml", ".pypirc", ".config/pip", ".pip", ".config/pypoetry", ".config/uv", ".local/share/uv/credentials",
	".cargo/credentials*", ".gem/credentials", ".bundle/config", ".m2/settings*.xml", ".gradle/gradle.properties",
	".nuget/NuGet", ".config/NuGet", ".composer/auth.json", ".config/composer/auth.json", ".hex/hex.config", ".huggingface",
	".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".kaggle", ".config/kaggle", ".config/wandb",
	// browsers and mail
	".mozilla", ".thunderbird", ".librewolf", ".waterfox", ".config/google-chrome*", ".config/chromium*",
	".config/BraveSoftware", ".config/microsoft-edge*", ".config/vivaldi*", ".config/opera*", ".var/app", "snap",
	".config/Slack", ".config/discord", ".config/Signal",
	// tools that sign in to a model
	".claude/.credentials.json", ".config/anthropic", ".ccproxy", ".config/ccproxy", ".codex/auth.json",
	".codex/.credentials.json", ".gemini/oauth_creds.json", ".gemini/gemini-credentials.json", ".gemini/*-oauth-tokens.json",
	".gemini/.env", ".qwen/oauth_creds.json", ".pi/agent/auth.json", ".local/share/opencode/auth.json",
	".local/share/opencode/mcp-auth.json", ".local/share/crush/crush.json", ".config/cursor/auth.json", ".cursor/auth.json",
	".config/github-copilot", ".copilot", ".config/goose/secrets.yaml", ".aider.conf.yml", ".env",
	".config/io.datasette.llm/keys.json", ".continue", ".codeium", ".local/share/amp/secrets.json", ".config/Code",
	".config/Code - Insiders", ".config/VSCodium", ".config/Cursor", ".config/Windsurf", ".config/zed", ".config/JetBrains",
	".vscode-server/data", ".cursor-server/data",
	// ours
	".config/ccagent", ".local/share/ccagent", ".local/state/ccagent",
}

// named are the variables that name such a place, each with what is below the folder that it names; "" is all of it.
var named = []struct{ variable, below string }{
	{"XDG_RUNTIME_DIR", ""}, {"GNUPGHOME", ""}, {"PASSWORD_STORE_DIR", ""}, {"NETRC", ""}, {"PGPASSFILE", ""},
	{"AWS_SHARED_CREDENTIALS_FILE", ""}, {"AWS_CONFIG_FILE", ""}, {"AWS_WEB_IDENTITY_TOKEN_FILE", ""}, {"AZURE_CONFIG_DIR", ""},
	{"CLOUDSDK_CONFIG", ""}, {"GOOGLE_APPLICATION_CREDENTIALS", ""}, {"BOTO_CONFIG", ""}, {"DOCKER_CONFIG", ""},
	{"REGISTRY_AUTH_FILE", ""}, {"HELM_REGISTRY_CONFIG", ""}, {"TF_CLI_CONFIG_FILE", ""}, {"GH_CONFIG_DIR", ""},
	{"GLAB_CONFIG_DIR", ""}, {"NPM_CONFIG_USERCONFIG", ""}, {"npm_config_userconfig", ""}, {"PIP_CONFIG_FILE", ""},
	{"CARGO_HOME", "credentials*"}, {"GEM_HOME", "credentials"}, {"VAULT_TOKEN_PATH", ""}, {"SOPS_AGE_KEY_FILE", ""},
	{"CODEX_HOME", "auth.json"}, {"HF_TOKEN_PATH", ""}, {"HF_HOME", "token"}, {"KRB5_KTNAME", ""}, {"ANTHROPIC_CONFIG_DIR", ""},
	{"CLAUDE_CONFIG_DIR", ".credentials.json"}, {"CLAUDE_SECURESTORAGE_CONFIG_DIR", ".credentials.json"}, {"SSH_AUTH_SOCK", ""},
	{"GNOME_KEYRING_CONTROL", ""}, {"XAUTHORITY", ""},
}

// elsewhere are places outside the home directory, which the sandbox has no part of. Only the checks inside look at them.
var elsewhere = []place{
	"/run/docker.sock", "/run/podman", "/run/dbus", "/run/secrets", "/run/user/*/*", "/var/run", "/tmp/ssh-*", "/tmp/.X11-unix",
	"/sys", "/home/*/.ssh", "/root/.ssh",
}

// places returns where credentials are: as the tables have it, as the environment says as config.toml does, and at more paths.
// A place that is a link, or lies behind one, is there as well with all links resolved.
func places(env environ.Vars, cfg agent.Config, more ...string) ([]place, error) {
	home := filepath.Clean(env("HOME"))
	var all []place
	add := func(path, below string) {
		// Nothing there, as /dev/null says, and a folder of everybody's, are no places.
		if path = filepath.Clean(path); filepath.IsAbs(path) && !strings.HasPrefix(path, "/dev/") && !everybodys(path, home) {
			all = append(all, place(filepath.Join(literal(path), below)))
		}
	}
	for _, name := range inHome {
		all = append(all, place(literal(home)+"/"+name))
		for _, xdg := range []struct{ variable, usual string }{
			{"XDG_CONFIG_HOME", ".config/"}, {"XDG_DATA_HOME", ".local/share/"}, {"XDG_STATE_HOME", ".local/state/"},
			{"XDG_CACHE_HOME", ".cache/"},
		} {
			if below, ok := strings.CutPrefix(name, xdg.usual); ok && filepath.IsAbs(env(xdg.variable)) {
				all = append(all, place(literal(filepath.Clean(env(xdg.variable)))+"/"+below))
			}
		}
	}
	for _, n := range named {
		add(env(n.variable), n.below)
	}
	for path := range strings.SplitSeq(env("KUBECONFIG"), ":") {
		add(path, "")
	}
	for address := range strings.FieldsFuncSeq(env("DBUS_SESSION_BUS_ADDRESS"), func(r rune) bool { return r == ';' || r == ',' }) {
		if path, ok := strings.CutPrefix(address, "unix:path="); ok {
			add(path, "")
		}
	}
	ours, err := configured(env, cfg)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Concat(ours, more) {
		add(path, "")
	}
	return resolved(all), nil
}

// configured returns the files and folders of ccagent's own, and those that config.toml names.
func configured(env environ.Vars, cfg agent.Config) ([]string, error) {
	socket, _, err := protocol.SocketPath()
	if err != nil {
		return nil, err
	}
	file, err := env.ConfigFile()
	if err != nil {
		return nil, err
	}
	data, err := env.DataDir()
	if err != nil {
		return nil, err
	}
	state, err := env.StateDir()
	if err != nil {
		return nil, err
	}
	paths := []string{socket, filepath.Dir(file), data, state}
	for _, profile := range cfg.Profiles {
		s, err := config.Settings(profile)
		if err != nil {
			return nil, err
		}
		paths = append(paths, profile.Identity, s.Identity, s.ClientKeyFile, s.ClientKey, s.AssertionFile)
		if s.ConfigDir != "" {
			paths = append(paths, environ.ClaudeFile(s.ConfigDir))
		}
		for _, view := range config.ViewFiles(profile) {
			paths = append(paths, view.Path)
		}
	}
	return paths, nil
}

// resolved adds the places to which links lead, and takes out what is there twice.
func resolved(all []place) []place {
	for _, p := range slices.Clone(all) {
		matches, _ := filepath.Glob(string(p)) // the patterns are sound: a test reads them
		if len(matches) == 0 {                 // it may come into being, behind a link to its folder
			if dir, err := filepath.EvalSymlinks(plain(filepath.Dir(string(p)))); err == nil {
				all = append(all, place(literal(dir)+"/"+filepath.Base(string(p))))
			}
		}
		for _, path := range matches {
			if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
				all = append(all, place(literal(real)))
			}
			if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
				all = append(all, place(literal(dir)+"/"+filepath.Base(string(p))))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// literal is the pattern that matches a path and nothing else.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// plain reverses literal.
func plain(pattern string) string {
	return strings.NewReplacer(`\\`, `\`, `\*`, `*`, `\?`, `?`, `\[`, `[`).Replace(pattern)
}

// covers reports whether a path is the place or lies in it.
func (p place) covers(path string) bool {
	pattern, parts := strings.Split(string(p), "/"), strings.Split(path, "/")
	return len(parts) >= len(pattern) && match(pattern, parts)
}

// within reports whether the place would lie in a folder, and is not that folder itself.
func (p place) within(dir string) bool {
	if dir == "/" {
		return true
	}
	pattern, parts := strings.Split(string(p), "/"), strings.Split(dir, "/")
	return len(parts) < len(pattern) && match(pattern, parts)
}

// match reports whether parts of a path match those of a pattern, as far as both go.
func match(pattern, parts []string) bool {
	for i := range min(len(pattern), len(parts)) {
		if ok, _ := filepath.Match(pattern[i], parts[i]); !ok {
			return false
		}
	}
	return true
}

// covering returns the place in which a path lies.
func covering(places []place, path string) (place, bool) {
	i := slices.IndexFunc(places, func(p place) bool { return p.covers(path) })
	if i < 0 {
		return "", false
	}
	return places[i], true
}

// below reports whether a path is a folder or lies in it.
func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// visible returns what is there at a place, "" for nothing. An empty folder, which is a mere mount point, is nothing.
func (p place) visible() string {
	matches, _ := filepath.Glob(string(p))
	for _, path := range matches {
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if !info.IsDir() {
			return path
		}
		if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
			return path
		}
	}
	return ""
}

package sandbox

import (
	"net/url"
	"slices"
	"strings"
)

// telling are parts of the names of variables that hold secrets. An underscore matches the end of a name too.
var telling = []string{
	"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "_KEY", "APIKEY", "CREDENTIAL", "COOKIE", "_PASS", "_PAT_", "_AUTH_",
	"AUTHKEY", "AUTHORIZATION", "BEARER", "_JWT", "_PWD",
}

// tokens are how tokens begin whose kind is known.
var tokens = []string{
	"sk-", "ghp_", "gho_", "ghu_", "ghs_", "github_pat_", "glpat-", "npm_", "pypi-", "xox", "AKIA", "ASIA", "ya29.", "AIza", "eyJ",
	"hf_", "-----BEGIN ",
}

// leading are variables that lead to sockets and services outside the sandbox, by the beginnings of their names.
var leading = []string{
	"CCAGENT_", "DBUS_", "SSH_A", "GPG_AGENT_INFO", "GNOME_KEYRING_", "XDG_RUNTIME_DIR", "KRB5", "XAUTHORITY", "WAYLAND_", "DISPLAY",
	"TMUX", "NOTIFY_SOCKET", "LISTEN_", "DOCKER_HOST", "CONTAINER_HOST", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
}

// gitSettings begin the names of variables with settings of git. A setting may be a header with a token, and git does not start
// if one of the variables is missing: so all of them go.
var gitSettings = []string{"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"}

// cleaned returns an environment without what holds a secret or leads out of the sandbox. kept are variables that stay all the
// same.
func cleaned(environment, kept []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(pair string) bool {
		name, value, _ := strings.Cut(pair, "=")
		upper := strings.ToUpper(name)
		contains := func(part string) bool { return strings.Contains(upper+"_", part) }
		begins := func(part string) bool { return strings.HasPrefix(upper, part) }
		if strings.HasSuffix(upper, "_TOKENS") && strings.Trim(value, "0123456789") == "" {
			return false // how many tokens of text a model may take
		}
		return !slices.Contains(kept, name) &&
			(slices.ContainsFunc(telling, contains) || slices.ContainsFunc(leading, begins) ||
				slices.ContainsFunc(gitSettings, begins) || holdsSecret(value))
	})
}

// isToken reports whether a text is a token of a known kind.
func isToken(text string) bool {
	return slices.ContainsFunc(tokens, func(begin string) bool { return strings.HasPrefix(text, begin) })
}

// holdsSecret reports whether a value is a token of a known kind, a header with one, or a URL with a password or such a token.
func holdsSecret(value string) bool {
	if isToken(value) || strings.Contains(strings.ToLower(value), "authorization:") {
		return true
	}
	u, err := url.Parse(value)
	if err != nil || u.User == nil {
		return err != nil && strings.Contains(value, "://") && strings.Contains(value, "@")
	}
	_, ok := u.User.Password()
	return ok || isToken(u.User.Username())
}

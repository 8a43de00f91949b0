package config

import (
	"cmp"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/secureurl"
)

// faulty makes an error of config.toml at a key of the profile.
type faulty func(key, format string, args ...any) error

// These are the values that a key with a fixed choice may have.
var (
	Grants      = []string{"authorization_code", "device_code", "client_credentials", "jwt-bearer"}
	ClientAuths = []string{"none", "client_secret_basic", "client_secret_post", "private_key_jwt"}
	loopbacks   = []string{"127.0.0.1", "localhost"}
)

// signIn reads the settings of a provider with a sign-in, on top of the defaults of its kind.
func (s *profileSettings) signIn(env environ.Vars, t Table, fault faulty) error {
	known := s.Provider.Traits().Defaults
	s.AuthorizeURL, s.TokenURL, s.ProfileURL, s.PasteURL = known.AuthorizeURL, known.TokenURL, known.ProfileURL, known.PasteURL
	s.ClientID, s.RedirectHost = known.ClientID, known.RedirectHost
	s.Scopes, s.Headers = slices.Clone(known.Scopes), maps.Clone(known.Headers)
	for _, set := range []func(Table, faulty) error{s.endpoints, s.words, s.client} {
		if err := set(t, fault); err != nil {
			return err
		}
	}
	if err := s.files(env, t, fault); err != nil {
		return err
	}
	return s.complete(fault)
}

// endpoints reads the URLs. Secrets are sent to all of them, so each must be https or on this machine.
func (s *profileSettings) endpoints(t Table, fault faulty) error {
	for _, e := range []struct {
		key   string
		value *string
		to    *string
	}{
		{"issuer", t.Issuer, &s.Issuer},
		{"mcp_url", t.MCPURL, &s.MCPURL},
		{"authorize_url", t.AuthorizeURL, &s.AuthorizeURL},
		{"token_url", t.TokenURL, &s.TokenURL},
		{"device_url", t.DeviceURL, &s.DeviceURL},
		{"revoke_url", t.RevokeURL, &s.RevokeURL},
		{"introspect_url", t.IntrospectURL, &s.IntrospectURL},
		{"profile_url", t.ProfileURL, &s.ProfileURL},
		{"paste_url", t.PasteURL, &s.PasteURL},
	} {
		if e.value == nil {
			continue
		}
		if _, err := secureurl.Parse(*e.value); err != nil {
			return fault(e.key, "%s %v", e.key, err)
		}
		*e.to = *e.value
	}
	return nil
}

// redirectPath is a path that stands for itself, however a browser or a provider writes it.
const redirectPath = `^/([A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?)?$`

// words reads the values with a fixed choice, and numbers.
func (s *profileSettings) words(t Table, fault faulty) error {
	for _, w := range []struct {
		key    string
		value  *string
		to     *string
		choice []string
	}{
		{"grant", t.Grant, &s.Grant, Grants},
		{"client_auth", t.ClientAuth, &s.ClientAuth, ClientAuths},
		{"redirect_host", t.RedirectHost, &s.RedirectHost, loopbacks},
	} {
		if w.value == nil {
			continue
		}
		if !slices.Contains(w.choice, *w.value) {
			return fault(w.key, "%s is %q: it must be one of %s", w.key, *w.value, strings.Join(w.choice, ", "))
		}
		*w.to = *w.value
	}
	if t.RedirectPort != nil {
		if *t.RedirectPort < 0 || *t.RedirectPort > 65535 {
			return fault("redirect_port", "redirect_port is %d: it must be a port, or 0 for any free one", *t.RedirectPort)
		}
		s.RedirectPort = *t.RedirectPort
	}
	if t.RedirectPath != nil {
		if !regexp.MustCompile(redirectPath).MatchString(*t.RedirectPath) {
			return fault("redirect_path", "redirect_path is %q: it must begin with / and consist of letters, digits and . _ ~ - /",
				*t.RedirectPath)
		}
		s.RedirectPath = *t.RedirectPath
	}
	var err error
	if s.LoginTimeout, err = duration(t.LoginTimeout, defaultLoginTimeout); err != nil {
		return fault("login_timeout", "login_timeout: %s", err)
	}
	return nil
}

// client reads how ccagent identifies itself to the provider, and what it asks for.
func (s *profileSettings) client(t Table, fault faulty) error {
	s.ClientID = text(t.ClientID, s.ClientID)
	if s.ClientID == "" && s.Grant != "jwt-bearer" {
		return fault("client_id", "client_id is missing: the provider issues it when you register a client there")
	}
	s.UserAgent = text(t.UserAgent, "ccagent/"+build.Version())
	s.Audience = text(t.Audience, "")
	s.Registered = t.Registered != nil && *t.Registered
	for key, value := range map[string]string{"client_id": s.ClientID, "user_agent": s.UserAgent, "audience": s.Audience} {
		if !terminal.Printable(value) {
			return fault(key, "%s contains control characters", key)
		}
	}
	if t.Scopes != nil {
		s.Scopes = t.Scopes
	} else if s.Scopes == nil && s.Provider == provider.OIDC && !s.machine() {
		s.Scopes = []string{"openid", "offline_access"}
	}
	for _, scope := range s.Scopes {
		if !ScopeToken(scope) {
			return fault("scopes", "scopes: %q is not a single scope", scope)
		}
	}
	s.Resource, s.TokenExchange = t.Resource, t.TokenExchange
	for _, resource := range s.Resource {
		if !strings.Contains(resource, ":") || strings.Contains(resource, "#") || !terminal.Printable(resource) { // RFC 8707 section 2
			return fault("resource", "resource: %q is not an absolute URI without a fragment", resource)
		}
	}
	if err := s.params(t, fault); err != nil {
		return err
	}
	if t.Headers != nil {
		s.Headers = t.Headers
	}
	for key, value := range s.Headers {
		if key == "" || strings.ContainsAny(key, " :\t\"(),/;<=>?@[\\]{}") || !terminal.Printable(key) || !terminal.Printable(value) {
			return fault("headers", "headers: %q is not a valid header", key)
		}
	}
	return nil
}

// params reads further parameters of requests. Those of one kind of request may replace what other keys have for all of them.
func (s *profileSettings) params(t Table, fault faulty) error {
	for _, p := range []struct {
		key    string
		values map[string]string
		to     *map[string]string
		may    []string // parameters with a key of their own that may be here nevertheless
	}{
		{"params", t.Params, &s.Params, nil},
		{"authorize_params", t.AuthorizeParams, &s.AuthorizeParams, []string{"audience", "resource"}},
		{"token_params", t.TokenParams, &s.TokenParams, targetParams},
		{"refresh_params", t.RefreshParams, &s.RefreshParams, targetParams},
	} {
		if p.key != "params" && p.key != "token_params" && p.values != nil && s.machine() {
			return fault(p.key, "%s has no meaning for grant %s, which asks for each token anew: use token_params", p.key, s.Grant)
		}
		for _, name := range slices.Sorted(maps.Keys(p.values)) {
			switch {
			case name == "" || !terminal.Printable(name) || !terminal.Printable(p.values[name]):
				return fault(p.key, "%s: %q is empty or not printable, or its value is not printable", p.key, name)
			case secretParam(name):
				return fault(p.key, "%s: %s is a secret, and secrets may not be in this file", p.key, name)
			case slices.Contains(ownParams, name):
				return fault(p.key, "%s: %s is set by ccagent itself", p.key, name)
			case name == "scope" && !slices.Contains(p.may, name):
				return fault(p.key, "%s: %s is set by ccagent itself, from scopes", p.key, name)
			case slices.Contains(targetParams, name) && !slices.Contains(p.may, name):
				return fault(p.key, "%s: %s is set by ccagent itself, from the key %s", p.key, name, name)
			}
		}
		*p.to = p.values
	}
	return nil
}

// targetParams say what a token is for. The keys scopes, audience and resource set them.
var targetParams = []string{"scope", "audience", "resource"}

// ownParams are the parameters that ccagent sets. If config.toml could change them, the sign-in would not be the one that its
// other settings describe.
var ownParams = []string{
	"client_id", "response_type", "response_mode", "redirect_uri", "state", "nonce", "code_challenge", "code_challenge_method",
	"code", "device_code", "code_verifier", "grant_type", "client_assertion_type",
}

// secretParam reports whether a parameter is a secret.
func secretParam(name string) bool {
	return slices.Contains(
		[]string{"client_secret", "password", "assertion", "client_assertion", "refresh_token", "access_token", "id_token",
			"subject_token", "actor_token"},
		strings.ToLower(name),
	)
}

// ScopeToken reports whether s is one scope (RFC 6749 section 3.3).
func ScopeToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// files reads the paths, the proxy and the assertion's command.
func (s *profileSettings) files(env environ.Vars, t Table, fault faulty) error {
	for _, f := range []struct {
		key   string
		value *string
		to    *string
	}{
		{"client_key_file", t.ClientKeyFile, &s.ClientKeyFile},
		{"assertion_file", t.AssertionFile, &s.AssertionFile},
		{"ca_file", t.CAFile, &s.CAFile},
		{"client_cert", t.ClientCert, &s.ClientCert},
		{"client_key", t.ClientKey, &s.ClientKey},
	} {
		var err error
		if *f.to, err = fileOf(env, f.key, f.value, fault); err != nil {
			return err
		}
	}
	if t.Proxy != nil {
		if _, err := proxyOf(*t.Proxy, fault); err != nil {
			return err
		}
		s.Proxy = *t.Proxy
	}
	if t.AssertionCommand != nil {
		if len(t.AssertionCommand) == 0 || t.AssertionCommand[0] == "" ||
			slices.ContainsFunc(t.AssertionCommand, func(arg string) bool {
				return strings.ContainsFunc(arg, func(r rune) bool { return r == 0 || r == unicode.ReplacementChar })
			}) {
			return fault("assertion_command", `assertion_command is not a list like ["vault", "print", "token"]`)
		}
		s.AssertionCommand = slices.Clone(t.AssertionCommand)
		if s.AssertionCommand[0] = env.Program(t.AssertionCommand[0]); s.AssertionCommand[0] == "" {
			return fault("assertion_command", environ.NotProgram, "assertion_command", t.AssertionCommand[0])
		}
	}
	return nil
}

// fileOf returns the path that a key names, "" if there is no such key.
func fileOf(env environ.Vars, key string, value *string, fault faulty) (string, error) {
	if value == nil {
		return "", nil
	}
	path := env.Expand(*value)
	if path == "" || !terminal.Printable(path) {
		return "", fault(key, "%s is %q: it must be an absolute path, or one below ~/ where HOME is set", key, *value)
	}
	return path, ofOthers(key, path, fault)
}

// proxyOf reads the URL of a proxy.
func proxyOf(written string, fault faulty) (*url.URL, error) {
	u, err := url.Parse(written)
	switch {
	case err != nil || u.Hostname() == "" || !secureurl.KnownProxy(u):
		// The value is not shown, because there may be a password in it.
		return nil, fault("proxy", "proxy is not a URL like http://proxy.example.com:3128 or socks5h://proxy.example.com:1080")
	case u.User != nil:
		return nil, fault("proxy",
			"proxy contains a user name or password, and secrets may not be in this file: set HTTPS_PROXY to it")
	}
	return u, nil
}

// pair returns an error if a certificate has no key, or a key no certificate.
func pair(cert, key string, fault faulty) error {
	if (cert == "") == (key == "") {
		return nil
	}
	has, misses := "client_cert", "client_key"
	if key != "" {
		has, misses = misses, has
	}
	return fault(has, "%s has no meaning without %s", has, misses)
}

// complete returns an error if a setting is missing, or if two settings contradict each other.
func (s *profileSettings) complete(fault faulty) error {
	grant := cmp.Or(s.Grant, "authorization_code")
	switch {
	case s.Provider.Traits().NeedsIssuer && s.Issuer == "":
		return fault("issuer", "issuer is missing: provider %s learns everything else from it", s.Provider)
	case s.Issuer == "" && s.TokenURL == "":
		return fault("token_url", "token_url is missing (or an issuer that publishes its endpoints)")
	case s.Issuer == "" && grant == "authorization_code" && s.AuthorizeURL == "" && s.DeviceURL == "":
		return fault("authorize_url", "authorize_url is missing (or an issuer that publishes its endpoints)")
	case s.Issuer == "" && grant == "device_code" && s.DeviceURL == "":
		return fault("device_url", "device_url is missing (or an issuer that publishes its endpoints)")
	case s.Registered && (s.Issuer == "" || s.MCPURL == ""):
		return fault("client_registered", "client_registered has no meaning without issuer and mcp_url")
	case s.MCPURL != "" && s.machine():
		return fault("mcp_url", "mcp_url has no meaning for grant %s", s.Grant)
	case s.ClientAuth == "private_key_jwt" && s.ClientKeyFile == "":
		return fault("client_key_file", "client_key_file is missing: client_auth = \"private_key_jwt\" signs with it")
	case s.ClientAuth != "private_key_jwt" && s.ClientKeyFile != "":
		return fault("client_key_file", "client_key_file has no meaning without client_auth = \"private_key_jwt\"")
	case (s.ClientCert == "") != (s.ClientKey == ""):
		return pair(s.ClientCert, s.ClientKey, fault)
	case grant == "client_credentials" && s.ClientAuth == "none":
		return fault("client_auth", "client_auth is \"none\": grant client_credentials needs a client that authenticates")
	case grant != "jwt-bearer" && (s.AssertionFile != "" || s.AssertionCommand != nil):
		key := "assertion_file"
		if s.AssertionFile == "" {
			key = "assertion_command"
		}
		return fault(key, "%s has no meaning without grant = \"jwt-bearer\"", key)
	case s.AssertionFile != "" && s.AssertionCommand != nil:
		return fault("assertion_command", "assertion_file and assertion_command are both set: remove one of them")
	}
	return nil
}

// machine reports whether the profile's grant works without a person.
func (s *profileSettings) machine() bool { return MachineGrant(s.Grant) }

// MachineGrant reports whether a grant works without a person.
func MachineGrant(grant string) bool { return grant == "client_credentials" || grant == "jwt-bearer" }

// WantsSecret reports whether a client with this grant and this client_auth authenticates with a client secret. With grant
// client_credentials it does so by default.
func WantsSecret(grant, auth string) bool {
	return auth == "client_secret_basic" || auth == "client_secret_post" || grant == "client_credentials" && auth == ""
}

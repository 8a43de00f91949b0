package store

import (
	"bytes"
	"cmp"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
)

// A refresh token that is sent to another provider than its own is given away. So a file counts as what its form says, and as
// nothing else. The files that people try by mistake are recognised by what only they contain, so that the error can say what
// they are.

// refusedObject is a kind of JSON file that holds credentials, or seems to, and that we don't use.
type refusedObject struct {
	what    string // the end of a sentence that begins with the name of the file
	instead string // what to do instead
	is      func(o *object) bool
}

const (
	isCodex    = "is Codex's sign-in (auth.json)"
	leaveCodex = "leave it to codex, which can ask ccagent for the token of a gateway: ccagent setup codex --name PROVIDER" +
		keyInstead
	askCommand  = "; pi runs a program for the token of a gateway: \"apiKey\": \"!cchelper -p NAME\" in its models.json"
	askFile     = "; opencode reads the token of a gateway from a file: ccagent setup opencode --name PROVIDER"
	keyInstead  = "; an API key of its own goes by: ccagent add NAME --provider static"
	isEither    = "is the sign-in of opencode or pi (auth.json)"
	isQwen      = "is Qwen Code's sign-in (oauth_creds.json)"
	leaveQwen   = "leave it to qwen" + keyInstead
	isGeminiToo = "is Google's sign-in, as Gemini CLI keeps it encrypted or for its MCP servers"
	isGemini    = "is Google's sign-in, as Gemini CLI keeps it (oauth_creds.json)"
	leaveGoogle = "leave it to the program that signed in; Google's tokens come from: " +
		"ccagent add NAME --provider command -- gcloud auth print-access-token"
	isAWS       = "is a credential of AWS"
	leaveAWS    = "leave it to the aws program; a profile of provider command can run one that prints a token"
	isCopilot   = "is GitHub's sign-in, as Copilot keeps it (hosts.json or apps.json)"
	isGitHub    = "is GitHub's sign-in, as gh keeps it (hosts.yml)"
	leaveGitHub = "leave it to gh: ccagent add NAME --provider command -- gh auth token"
	isCursor    = "is Cursor's sign-in (auth.json)"
	leaveCursor = "leave it to cursor-agent" + keyInstead
	isGcloud    = "is where gcloud keeps its sign-ins"
	isMicrosoft = "is a cache of Microsoft's sign-ins (MSAL)"

	leaveMicrosoft = "leave it to the az program: " +
		"ccagent add NAME --provider command -- az account get-access-token --query accessToken -o tsv"
)

// refusedObjects are tried in this order.
var refusedObjects = []refusedObject{
	{isCodex, leaveCodex, func(o *object) bool {
		_, names := o.values["OPENAI_API_KEY"] // null, for whoever is signed in or out
		return names || o.any("auth_mode", "agent_identity") || o.inner("tokens").any("id_token", "account_id", "refresh_token")
	}},
	{"is a credential of Google Cloud (application_default_credentials.json, or a service account's key)",
		leaveGoogle, func(o *object) bool {
			return o.is("type", "authorized_user", "service_account", "external_account", "external_account_authorized_user",
				"impersonated_service_account", "gdch_service_account") || o.any("quota_project_id", "universe_domain")
		}},
	{"is a client of Google's (client_secret.json), and holds no sign-in",
		"sign in with it: ccagent login NAME --provider oidc", func(o *object) bool {
			return o.inner("installed").any("client_id") || o.inner("web").any("client_id")
		}},
	{isQwen, leaveQwen, func(o *object) bool {
		return o.any("resource_url") && o.any("access_token", "refresh_token")
	}},
	{isGemini, leaveGoogle, func(o *object) bool {
		scope, access, refresh := o.string("scope"), o.string("access_token"), o.string("refresh_token")
		return o.any("expiry_date", "token_uri", "_class", "_module") || strings.Contains(scope, "googleapis.com") ||
			strings.HasPrefix(access, "ya29.") || strings.HasPrefix(refresh, "1//")
	}},
	{isGeminiToo, leaveGoogle, func(o *object) bool {
		return o.any("mcpServerUrl", "serverName") && o.any("token")
	}},
	{"is the sign-in of AWS's IAM Identity Center (its SSO cache)", leaveAWS, func(o *object) bool {
		return o.any("startUrl", "start_url", "registrationExpiresAt", "clientIdHash", "ssoRegion") ||
			o.any("accessToken") && o.any("region", "profileArn") || o.any("clientSecret") && o.any("expiresAt")
	}},
	{isAWS, leaveAWS, func(o *object) bool {
		return o.any("AccessKeyId", "SecretAccessKey", "aws_access_key_id") || o.inner("Credentials").any("AccessKeyId")
	}},
	{"is a configuration of docker (config.json)",
		"let docker ask ccagent: ccagent setup docker --host HOST", func(o *object) bool {
			return o.any("auths", "credsStore", "credHelpers")
		}},
	{"is a configuration of kubectl (kubeconfig)",
		"let kubectl ask ccagent: ccagent setup kubectl --name USER", func(o *object) bool {
			return o.any("current-context", "clusters") || o.is("kind", "Config", "ExecCredential")
		}},
	{isMicrosoft, leaveMicrosoft, func(o *object) bool {
		return o.any("AccessToken", "RefreshToken", "IdToken", "AppMetadata")
	}},
	{"is terraform's file of tokens (credentials.tfrc.json)",
		"give the token to: ccagent add NAME --provider static --host HOST", func(o *object) bool {
			return o.eachInner("credentials", "token")
		}},
	{isCopilot, leaveGitHub, func(o *object) bool {
		return o.any("copilotTokens", "copilot_tokens") ||
			slices.ContainsFunc(o.inners(), func(i *object) bool { return i.any("oauth_token") })
	}},
	{isEither, "leave it to that program" + askFile + askCommand + keyInstead, func(o *object) bool {
		return slices.ContainsFunc(o.inners(), func(i *object) bool {
			return i.is("type", "oauth", "api", "api_key", "wellknown") && i.any("access", "refresh", "key", "token")
		})
	}},
	{"is Claude Code's file of settings, and holds no sign-in",
		"the sign-in is in .credentials.json, on macOS in the Keychain", func(o *object) bool {
			return o.any("oauthAccount", "apiKeyHelper", "permissions", "hasCompletedOnboarding", "mcpServers", "numStartups")
		}},
	{"says who is signed in, and holds no sign-in", "the sign-in is in credentials.json beside it", func(o *object) bool {
		return !holdsTokens(o) && (o.inner("account").any("uuid", "email") || o.inner("organization").any("uuid", "name"))
	}},
	{"configures a profile of the vendor's SDKs, and holds no sign-in",
		"the sign-in is in the file of that name in the folder credentials", func(o *object) bool {
			return o.any("authentication")
		}},
	{"is the sign-in of an OpenID provider, which Claude's is not", "to sign in anew: ccagent help login", func(o *object) bool {
		return o.any("id_token", "idToken")
	}},
}

// anonymous is a file that holds tokens and does not say whose they are.
var anonymous = refusedObject{
	"holds tokens, and nothing that says whose they are",
	`Claude Code's sign-in has a "claudeAiOauth", and that of the vendor's SDKs the "type" "oauth_token"; ` +
		`to sign in anew: ccagent help login`,
	holdsTokens,
}

func holdsTokens(o *object) bool {
	return o.any("access_token", "refresh_token", "accessToken", "refreshToken", "token", "access", "refresh",
		"api_key", "apiKey", "key")
}

// refusedTexts are the kinds of files that are not JSON. Their patterns are compiled where they are needed, because the agent is
// the same program and never needs one.
var refusedTexts = []struct {
	what, instead string
	pattern       string
}{
	{"is a refresh token alone, which can't be taken over without the rest of its sign-in", "to sign in anew: ccagent help login",
		`^\s*sk-ant-ort\S+\s*$`},
	{"is a setup token of Claude (claude setup-token)",
		"give it to: ccagent add NAME --provider static", `^\s*sk-ant-oat\S+\s*$`},
	{"is an API key", "give it to: ccagent add NAME --provider static", `^\s*sk-[\w-]+\s*$`},
	{isGitHub, leaveGitHub, `(?m)^\s+(oauth_token|git_protocol):`},
	{"is a configuration of kubectl (kubeconfig)",
		"let kubectl ask ccagent: ccagent setup kubectl --name USER",
		`(?m)^(kind: ["']?Config\b|current-context:|clusters:)`},
	{isAWS, leaveAWS, `(?m)^\s*(aws_access_key_id|aws_secret_access_key|sso_start_url)\s*=`},
	{"is a file of passwords (netrc)",
		"give the token to: ccagent add NAME --provider static --host HOST",
		`(?m)^\s*(machine\s+\S+|default)\s+(login|password)\b`},
	{"is a private key",
		"name it in config.toml, as client_key_file or identity: ccagent help config",
		`(?m)^-----BEGIN [A-Z ]*PRIVATE KEY-----`},
}

// CheckName refuses (ErrInvalid) a path at which another program keeps a sign-in of its own, by the end of the path, whatever is
// there now. A link is judged by its own path and by where it leads. The error says what the file is, and what to do instead.
func CheckName(name string) error {
	names := []string{filepath.Clean(name)}
	if real, err := filepath.EvalSymlinks(name); err == nil {
		names = append(names, real)
	} else if dir, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil {
		names = append(names, filepath.Join(dir, filepath.Base(name)))
	}
	// A local, because the agent is the same program and may never need it.
	for _, s := range []struct{ end, what, instead string }{
		{".codex/auth.json", isCodex, leaveCodex},
		{".pi/agent/auth.json", "is pi's sign-in (auth.json)", "leave it to pi" + askCommand + keyInstead},
		{"opencode/auth.json", "is opencode's sign-in (auth.json)", "leave it to opencode" + askFile + keyInstead},
		{"opencode/mcp-auth.json", "is where opencode keeps its sign-ins to MCP servers", "leave it to opencode" + askFile},
		{"share/crush/crush.json", "is where crush keeps its own sign-ins and keys",
			"leave it to crush, which can ask ccagent: ccagent setup crush --name PROVIDER"},
		{".gemini/oauth_creds.json", isGemini, leaveGoogle},
		{".gemini/gemini-credentials.json", isGeminiToo, leaveGoogle},
		{".gemini/*-oauth-tokens.json", isGeminiToo, leaveGoogle},
		{".qwen/oauth_creds.json", isQwen, leaveQwen},
		{"cursor/auth.json", isCursor, leaveCursor},
		{".cursor/auth.json", isCursor, leaveCursor},
		{"github-copilot/hosts.json", isCopilot, leaveGitHub},
		{"github-copilot/apps.json", isCopilot, leaveGitHub},
		{"gh/hosts.yml", isGitHub, leaveGitHub},
		{"gcloud/*.db", isGcloud, leaveGoogle},
		{"gcloud/application_default_credentials.json", isGcloud, leaveGoogle},
		{"gcloud/legacy_credentials/*/*", isGcloud, leaveGoogle},
		{".azure/msal_token_cache.*", isMicrosoft, leaveMicrosoft},
		{".aws/credentials", isAWS, leaveAWS},
		{".aws/sso/cache/*", isAWS, leaveAWS},
		{".aws/cli/cache/*", isAWS, leaveAWS},
	} {
		for _, n := range names {
			parts := strings.Split(n, "/")
			end := strings.Join(parts[max(0, len(parts)-strings.Count(s.end, "/")-1):], "/")
			if ok, _ := filepath.Match(s.end, strings.ToLower(end)); ok { // macOS ignores the case of letters
				return &protocol.Error{Code: protocol.CodeInvalid, Message: name + " " + s.what, Hint: s.instead}
			}
		}
	}
	return nil
}

// known refuses a file that holds credentials which we don't use (ErrInvalid), and says what it is. It returns nil for a file
// that holds none.
func (o *object) known() error {
	if err := o.marked(); err != nil || !anonymous.is(o) {
		return err
	}
	return notOurs(o.name, anonymous.what, anonymous.instead)
}

// marked refuses a file that is one of refusedObjects, whatever else it says that it is.
func (o *object) marked() error {
	for _, s := range refusedObjects {
		if s.is(o) {
			return notOurs(o.name, s.what, s.instead)
		}
	}
	return nil
}

// knownText is known for a file that is no JSON object.
func knownText(name string, src []byte) error {
	for _, s := range refusedTexts {
		if regexp.MustCompile(s.pattern).Match(bytes.TrimPrefix(src, []byte("\ufeff"))) {
			return notOurs(name, s.what, s.instead)
		}
	}
	return nil
}

// stray refuses what a person gives us as a sign-in and is no JSON at all, and says what it is. It returns nil for what may be a
// damaged sign-in.
func stray(name string, src []byte) error {
	const add = "ccagent add NAME --provider static"
	const variables = `(?m)^\s*((?i:export|set|setx)\s+|\$[Ee]nv:)?[A-Za-z_][\w.-]*\s*=`
	src = bytes.TrimSpace(bytes.TrimPrefix(src, []byte("\ufeff")))
	if len(src) == 0 || src[0] == '{' || !utf8.Valid(src) {
		return nil
	}
	if regexp.MustCompile(variables).Match(src) {
		return notOurs(name, "is a file of settings or variables (NAME=value, as in .env)",
			"give the value that is the token, without its name, to: "+add)
	}
	switch text := lookalike.Of(string(src)); {
	case text == nil:
		return notOurs(name, "is a token or a key alone", "give it to: "+add)
	case text.Kind == lookalike.Header:
		return notOurs(name, "is a header", "give the token in it to: "+add)
	case text.Kind == lookalike.Refresh:
		return notOurs(name, "is "+text.What+" alone", "to sign in anew: ccagent help login")
	case text.Kind == lookalike.Encoding:
		return nil
	default:
		return notOurs(name, "is "+text.What+", and no sign-in", "name the file that holds the sign-in: ccagent help import")
	}
}

func notOurs(name, what, instead string) error {
	return &protocol.Error{Code: protocol.CodeInvalid, Message: name + " " + what, Hint: "nothing was changed; " + instead}
}

// refusedTokens are how tokens of other providers begin. A program that converts files may have put one into Claude's form.
var refusedTokens = map[string]string{"ya29.": "Google", "1//": "Google",
	"gho_": "GitHub", "ghu_": "GitHub", "ghr_": "GitHub", "ghp_": "GitHub", "github_pat_": "GitHub",
	"glpat-": "GitLab", "xox": "Slack", "sk-proj-": "OpenAI"}

// checkClaude refuses a record in one of Claude's forms whose tokens are known to be another provider's.
func (r Record) checkClaude(name string) error {
	for _, token := range []protocol.Secret{r.AccessToken, r.RefreshToken} {
		for begin, of := range refusedTokens {
			if strings.HasPrefix(token.Reveal(), begin) {
				return notOurs(name, "holds a token of "+of+" in the place of Claude's",
					"sign in with Claude Code: run claude, then type /login")
			}
		}
	}
	return nil
}

// readStrict is readObject for a file that somebody else may have written. If it is not JSON, the error says what it is, if that
// is known.
func readStrict(name string, src []byte) (*object, error) {
	o, err := readObject(name, src)
	if err != nil {
		return nil, cmp.Or(knownText(name, src), err)
	}
	return o, nil
}

// any reports whether one of the keys is there and not null.
func (o *object) any(keys ...string) bool { return slices.ContainsFunc(keys, o.has) }

// string returns a value, "" if it is no string.
func (o *object) string(key string) (s string) {
	if o.has(key) && o.values[key][0] == '"' {
		probe := object{name: o.name, values: o.values}
		probe.text(key, &s)
	}
	return s
}

// is reports whether the value of the key is one of these strings.
func (o *object) is(key string, values ...string) bool {
	return o.has(key) && slices.Contains(values, o.string(key))
}

// inner returns the object that is the value of the key, an empty one if it is none.
func (o *object) inner(key string) *object {
	if o.has(key) && o.values[key][0] == '{' {
		if i, err := readObject(o.name, o.values[key]); err == nil {
			return i
		}
	}
	return &object{name: o.name}
}

// inners returns the objects among the values.
func (o *object) inners() []*object {
	var all []*object
	for key := range o.values {
		all = append(all, o.inner(key))
	}
	return all
}

// eachInner reports whether the value of the key is an object of objects which all have the key want.
func (o *object) eachInner(key, want string) bool {
	all := o.inner(key).inners()
	return len(all) > 0 && !slices.ContainsFunc(all, func(i *object) bool { return !i.any(want) })
}

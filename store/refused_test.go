package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// A file of each kind that people try by mistake, and what the error must name.
var strangeFiles = []struct{ file, named string }{
	{`{"access_token":"ya29.fake-x","refresh_token":"1//fakeG","expiry_date":1}`, "Gemini"},
	{
		`{"access_token":"fake-x","refresh_token":"fake-g","scope":"openid https://www.googleapis.com/auth/cloud-platform","token_type":"Bearer"}`,
		"Gemini",
	},
	{`{"version":"1.0","access_token":"ya29.fake-x","refresh_token":"1//fakeG"}`, "Google"},
	{`{"claudeAiOauth":{"accessToken":"ya29.fake-x","refreshToken":"1//fakeG","expiresAt":1}}`, "Google"},
	{`{"type":"oauth_token","access_token":"fake-1","refresh_token":"ghr_fake2"}`, "GitHub"},
	{`{"version":"1.0","access_token":"fake-1","refresh_token":"fake-2","expiry_date":1}`, "Gemini"},
	{`{"type":"oauth_token","access_token":"fake-1","refresh_token":"fake-2","token_uri":"https://example.com/token"}`, "Gemini"},
	{`{"version":"1.0","access_token":"fake-1","refresh_token":"fake-2","resource_url":"portal.example.com"}`, "Qwen"},
	{`{"version":"1.0","type":"oauth_token","access_token":"fake-1","refresh_token":"fake-2","id_token":"fake-3"}`, "OpenID"},
	{`{"version":"1.0","access_token":"fake-1","refresh_token":"fake-2","start_url":"https://fake.example.com"}`, "AWS"},
	{`{"version":"1.0","access_token":"fake-1","refresh_token":"fake-2","auth_mode":"chatgpt"}`, "Codex"},
	{`{"OPENAI_API_KEY":null,"tokens":null,"last_refresh":null}`, "Codex"},
	{`{"auth_mode":"agentIdentity","agent_identity":{}}`, "Codex"},
	{`{"clientId":"fake","clientSecret":"fake-0","expiresAt":"2026-01-01T00:00:00Z"}`, "AWS"},
	{`{"copilotTokens":{"https://github.com:fake":"fake-1"}}`, "Copilot"},
	{`{"account":{"uuid":"fake"},"access_token":"fake-1","refresh_token":"fake-2"}`, "nothing that says whose"},
	{`{"serverName":"fake","token":{"accessToken":"fake-1","refreshToken":"fake-2"}}`, "MCP"},
	{`{"access_token":"fake-1","refresh_token":"fake-2","token_type":"Bearer","resource_url":"portal.example.com","expiry_date":1}`,
		"Qwen"},
	{
		`{"OPENAI_API_KEY":null,"tokens":{"id_token":"fake-0","access_token":"fake-1","refresh_token":"fake-2","account_id":"fake-3"},"last_refresh":"2026-01-01T00:00:00Z"}`,
		"Codex",
	},
	{`{"tokens":{"access_token":"fake-1","refresh_token":"fake-2","account_id":"fake-3"}}`, "Codex"},
	{`{"OPENAI_API_KEY":"fake-key-1"}`, "Codex"},
	{`{"anthropic":{"type":"oauth","refresh":"fake-2","access":"fake-1","expires":1}}`, "opencode"},
	{`{"openai":{"type":"api_key","key":"fake-key-1"}}`, "pi"},
	{`{"type":"authorized_user","client_id":"fake","client_secret":"fake-0","refresh_token":"fake-2"}`, "Google Cloud"},
	{`{"type":"service_account","private_key":"fake-0","token_uri":"https://oauth2.example.com/token"}`, "Google Cloud"},
	{`{"installed":{"client_id":"fake","client_secret":"fake-0"}}`, "client_secret.json"},
	{
		`{"startUrl":"https://fake.example.com","region":"eu-west-1","accessToken":"fake-1","expiresAt":"2026-01-01T00:00:00Z","refreshToken":"fake-2"}`,
		"AWS",
	},
	{`{"accessToken":"fake-1","refreshToken":"fake-2","expiresAt":"2026-01-01T00:00:00Z","profileArn":"fake","provider":"Google"}`,
		"AWS"},
	{`{"Version":1,"AccessKeyId":"fake","SecretAccessKey":"fake-0"}`, "AWS"},
	{"[default]\naws_access_key_id = fake\naws_secret_access_key = fake-0\n", "AWS"},
	{`{"auths":{"registry.example.com":{"auth":"fake-0"}}}`, "docker"},
	{`{"apiVersion":"v1","kind":"Config","users":[]}`, "kubectl"},
	{"apiVersion: v1\nkind: Config\nusers:\n- name: fake\n  user:\n    token: fake-1\n", "kubectl"},
	{"github.com:\n    oauth_token: fake-1\n    git_protocol: https\n", "gh"},
	{`{"github.com":{"user":"fake","oauth_token":"fake-1"}}`, "Copilot"},
	{`{"AccessToken":{},"RefreshToken":{"fake":{"secret":"fake-2"}}}`, "Microsoft"},
	{`{"credentials":{"app.example.com":{"token":"fake-1"}}}`, "terraform"},
	{"machine example.com login fake password fake-0\n", "netrc"},
	{"sk-ant-oat01-fake-1\n", "setup token"},
	{"sk-ant-api03-fake-1\n", "API key"},
	{"-----BEGIN OPENSSH PRIVATE KEY-----\nfake\n", "private key"},
	{`{"numStartups":3,"oauthAccount":{"accountUuid":"fake"}}`, "settings"},
	{`{"access_token":"fake-1","refresh_token":"fake-2","expires_in":3600,"token_type":"Bearer"}`, "nothing that says whose"},
	{`{"accessToken":"fake-1","refreshToken":"fake-2","expiresAt":1}`, "nothing that says whose"},
	{`{"ccagent_export":1,"provider":"claude","record":{"version":1,"access_token":"ya29.fake","refresh_token":"1//fake"}}`,
		"Google"},
	{`{"ccagent_export":1,"profile":"fake","record":{"version":1,"access_token":"fake-1","refresh_token":"fake-2"}}`,
		"of which provider"},
}

// TestRefusedAreNamed: nothing takes another program's credentials for a sign-in of Claude's, and the error says what they are.
func TestRefusedAreNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range strangeFiles {
		refused := func(door string, err error) {
			t.Helper()
			if !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), tt.named) ||
				strings.Contains(err.Error()+protocol.HintOf(err), "fake") ||
				protocol.HintOf(err) == "" {
				t.Errorf("%s: %s: %v (%s), want that it names %s", tt.file, door, err, protocol.HintOf(err), tt.named)
			}
		}
		_, err := Read(strings.NewReader(tt.file), nil)
		refused("import", err)
		if strings.Contains(tt.file, "ccagent_export") || strings.Contains(tt.file, `"type":"oauth_token"`) ||
			strings.Contains(tt.file, `"1.0"`) {
			continue // by what they say they are in the vendor's form, or ours: the file of Claude Code is neither
		}
		_, err = ReadClaude(strings.NewReader(tt.file))
		refused("the keyring", err)

		// In the place of Claude Code's own file it is neither used nor written over.
		dir := t.TempDir()
		path := filepath.Join(dir, ".credentials.json")
		if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		s := NewClaudeCode(dir)
		s.chain = nil
		_, _, err = s.Load(t.Context())
		refused("config_dir", err)
		_, err = s.Save(t.Context(), fakeRecord(1), Version{})
		refused("a save", err)
		if left, err := os.ReadFile(path); err != nil || string(left) != tt.file {
			t.Errorf("%s became %s, %v", tt.file, left, err)
		}
	}
}

// TestStraysAreNamed: what is imported and is no sign-in is named as what it is, and nothing of it is shown. What may be a
// damaged sign-in is not.
func TestStraysAreNamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, named, hint string }{
		{"FAKE_API_KEY=fake-1\nOTHER=2\n", "NAME=value", "without its name, to: ccagent add"},
		{"# fake\n\nexport FAKE_TOKEN='fake-1'\n", "NAME=value", "ccagent add"},
		{"\ufeffFAKE_TOKEN=fake-1\r\n", "NAME=value", "ccagent add"},
		{"[fake]\nkey = \"fake-1\"\n", "NAME=value", "ccagent add"},
		{"$env:FAKE=fake-1", "NAME=value", "ccagent add"},
		{"fake-access-1\n", "a token or a key alone", "give it to: ccagent add"},
		{"Authorization: Bearer fake-1\n", "a header", "ccagent add"},
		{"sk-ant-ort01-fake-1\n", "a refresh token alone", "ccagent help login"},
		{"1//fake-refresh-token-01234567890123456789012345678901234567890123", "a refresh token of Google alone", "ccagent help login"},
		{"<html>\n<p>fake\n", "web page", "ccagent help import"},
		{"null\n", "null", "ccagent help import"},
		{`[{"fake":1}]`, "a JSON list", "ccagent help import"},
		{"fake: 1\nfaker: 2\n", "2 lines", "ccagent help import"},
		{`{"claudeAiOauth":{"accessToken":"fake-1`, "not valid JSON", "repair it"},
		{"{\nFAKE=fake\n", "not valid JSON", "repair it"},
		{"FAKE=\xff\xfe", "not valid JSON", "repair it"},
		{"\n", "empty", "repair it"},
	} {
		_, err := Read(strings.NewReader(tt.file), nil)
		hint := protocol.HintOf(err)
		if !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), tt.named) || !strings.Contains(hint, tt.hint) ||
			strings.Contains(err.Error()+hint, "fake") {
			t.Errorf("%q: %v (%s), want %q (%q)", tt.file, err, hint, tt.named, tt.hint)
		}
	}
	// The file of Claude Code is not given to us: whoever reads that it is no sign-in has nothing else to name.
	if _, err := readClaude("/x", []byte("null")); !strings.Contains(protocol.HintOf(err), "repair it") {
		t.Errorf("%v (%s)", err, protocol.HintOf(err))
	}
}

// TestNobodySignedIn: what Claude Code leaves of its file after a sign-out is not refused as another program's.
func TestNobodySignedIn(t *testing.T) {
	t.Parallel()
	for _, file := range []string{`{}`, `{"claudeAiOauth":null}`,
		`{"mcpOAuth":{"fake|1":{"serverName":"fake","accessToken":"fake-1"}}}`,
		`{"organizationUuid":"fake","trustedDeviceToken":"fake-1"}`} {
		for _, read := range []func(string) error{
			func(s string) error { _, err := ReadClaude(strings.NewReader(s)); return err },
			func(s string) error { _, err := Read(strings.NewReader(s), nil); return err },
		} {
			if err := read(file); !errors.Is(err, protocol.ErrNotFound) {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// TestNamesOfOthers: a file in which another program keeps a sign-in is known by its name, wherever it is and whatever links lead
// to it, and other files are not taken for one.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".codex"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".codex/auth.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"mine.json": ".codex/auth.json", "cx": ".codex", "kept": ".pi"} {
		if err := os.Symlink(to, filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(home, ".pi/agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, named := range map[string]string{
		".codex/auth.json":                                    "Codex",
		"mine.json":                                           "Codex",
		"cx/auth.json":                                        "Codex",
		"cx/../.codex/./auth.json":                            "Codex",
		".CODEX/Auth.json":                                    "Codex",
		".pi/agent/auth.json":                                 "pi's",
		"kept/agent/auth.json":                                "pi's",
		".local/share/opencode/auth.json":                     "opencode's",
		".local/share/opencode/mcp-auth.json":                 "opencode",
		".local/share/crush/crush.json":                       "crush",
		".gemini/oauth_creds.json":                            "Gemini",
		".gemini/mcp-oauth-tokens.json":                       "Gemini",
		".gemini/gemini-credentials.json":                     "Gemini",
		".qwen/oauth_creds.json":                              "Qwen",
		".config/cursor/auth.json":                            "Cursor",
		".cursor/auth.json":                                   "Cursor",
		".config/github-copilot/apps.json":                    "Copilot",
		".config/gh/hosts.yml":                                "gh",
		".config/gcloud/credentials.db":                       "gcloud",
		".config/gcloud/access_tokens.db":                     "gcloud",
		".config/gcloud/application_default_credentials.json": "gcloud",
		".config/gcloud/legacy_credentials/x@y/adc.json":      "gcloud",
		".azure/msal_token_cache.json":                        "Microsoft",
		".azure/msal_token_cache.bin":                         "Microsoft",
		".aws/credentials":                                    "AWS",
		".aws/sso/cache/0123.json":                            "AWS",
		".config/crush/crush.json":                            "",
		".config/opencode/opencode.json":                      "",
		".codex/config.toml":                                  "",
		".gemini/settings.json":                               "",
		".gemini/.env":                                        "",
		".aws/config":                                         "",
		"auth.json":                                           "",
		"codex/auth.json":                                     "",
		".claude/.credentials.json":                           "",
	} {
		err := CheckName(filepath.Join(home, file))
		switch {
		case named == "" && err != nil:
			t.Errorf("%s: %v", file, err)
		case named != "" && (!errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), named) ||
			!strings.HasPrefix(protocol.HintOf(err), "leave it to ")):
			t.Errorf("%s: %v (%s), want that it names %s", file, err, protocol.HintOf(err), named)
		}
	}
}

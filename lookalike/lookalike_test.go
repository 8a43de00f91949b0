package lookalike

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// jwt is a token like Keycloak's, which says of itself what it is.
func jwt(payload string) string {
	return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".fake"
}

func TestOf(t *testing.T) {
	t.Parallel()
	for kind, texts := range map[Kind][]string{
		"": {
			"fake-token", " fake-token\r\n", "sk-ant-api03-fake-1", "sk-ant-oat01-fake", "sk-1234", "ollama", "fakeA==", "fake/a=b",
			"ghp_fake0123", "/fake+base64/AbC=", "0/fake", "eyJ.fake.fake", jwt(`{"typ":"Bearer"}`), "hvs.fake", "fake.key.id", "AIzafake",
			"fake_xxx_1", "fake'quoted\"inside-1", "fake:fake", "user:fake-password", "yFake", "myFakeGateway-1", "fake-key-1",
			"the-fake-key", "thereisafaketoken", "fake..fake", "dummy", "not-needed", "EMPTY", "lm-studio",
			strings.Repeat("fake", protocol.MaxToken/4),
		},
		Empty:    {"", " \r\n\t"},
		Encoding: {"\ufefffake", "fake\ufeff", "\xff\xfef\x00a\x00", "\xfe\xff\x00f\x00a", "f\x00a\x00k\x00e\x00", "\ufeff"},
		Terminal: {"\x1b[32mfake\x1b[0m", "\u009b32mfake"},
		Word:     {"null", "None", "undefined\n", "NaN", "<nil>", "[object Object]", "true", "Unauthorized"},
		Placeholder: {
			"YOUR_API_KEY", "your-api-key-here", "<your key>", "<token>", "xxx", "XXXXXXXX", "xxxx-xxxx-xxxx", "changeme", "change-me",
			"ChangeMe", "REPLACE_ME", "replace-with-your-token", "TODO", "placeholder", "sk-...", "sk-xxxx", "sk-ant-api03-xxxxxxxxxxxx",
			"sk-ant-...fake",
			"ghp_xxxxxxxxxxxxxxxxxxxx", "***", "sk-***fake", "[REDACTED]", "my_api_key", "api_key_here", "insert-key-here",
			"sk-your-openai-key", "ANTHROPIC_KEY_HERE", "\u2022\u2022\u2022\u2022", "fake\u2026", "aaaa", "sk-", "password", "{token}",
		},
		Variable: {
			"$FAKE_API_KEY", "${FAKE_API_KEY}", "$(cat fake)", "%FAKE_KEY%", "$env:FAKE_KEY", "{{ fake_key }}", "process.env.FAKE_KEY",
			"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "${{ secrets.FAKE }}", "secrets.FAKE_TOKEN",
		},
		Markup: {"<html><body>fake</body></html>", "<?xml version='1.0'?>"},
		List:   {`["fake"]`, `[{"token":"fake"}]`},
		Object: {`{"token":"fake"}`, "{\n}"},
		Assignment: {"TOKEN=fake", "export A=fake", "api_key = fake", "A=fake\nB=fake", "set -gx A fake", "apiKey=fake",
			"FAKE_KEY='a b'"},
		Quoted:   {`"fake"`, "'fake'", "`fake`", `fake"`, "\u201cfake\u201d", "\u00abfake\u00bb"},
		Header:   {"Bearer fake", "bearer fake", "Authorization: Bearer fake"},
		Armoured: {"-----BEGIN PRIVATE KEY-----\nfake\n-----END PRIVATE KEY-----\n", "ssh-ed25519 AAAAfake me@fake"},
		Lines:    {"fake\nfake", "Welcome to fake!\nfake", "fake\r\rfake"},
		Path: {
			"/home/fake/key", "~/key", "./fake", "../fake", `C:\fake`, "key.txt", "fake/key.json", "/etc/fake/key", "/run/secrets/fake",
			".env",
		},
		Address:  {"https://fake.example/key", "op://fake/fake/key"},
		Labelled: {"token: fake", "x-api-key: fake"},
		Words:    {"fake fake", "fake\tfake"},
		Refresh: {
			"sk-ant-ort01-fake", "1//fake", "ghr_fake", "xoxe-1-fake", "rt_fake", jwt(`{"typ":"Refresh"}`), jwt(`{"typ":"Offline"}`),
		},
		Other: {"f\u00e4ke", "fake\u200bfake", "fake\x07",
			`fake:{"token":"fake"}`, `fake{"a":1}`},
		Long:     {strings.Repeat("fake", protocol.MaxToken)},
		Question: {"Password:", "Enter your token: ", "fake user name:", "Go on? Are you fake?"},
	} {
		for _, text := range texts {
			got := Of(text)
			switch {
			case got == nil && kind != "", got != nil && got.Kind != kind:
				t.Errorf("%.60q: got %+v, want kind %q", text, got, kind)
			case got != nil && (got.What == "" || strings.Contains(strings.ToLower(got.What), "fake")):
				t.Errorf("%.60q: %q", text, got.What)
			}
		}
	}
}

func TestMark(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "fake": "", "\ufeff": "UTF-8", "\xff\xfef\x00": "UTF-16", "\xfe\xff\x00f": "UTF-16",
		"\xff\xfe\x00\x00f": "UTF-32", "\x00\x00\xfe\xfff": "UTF-32", "fake\ufeff": "", "\xef\xbb": "",
	} {
		if got := Mark(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBadCredentialsFiles(t *testing.T) {
	record := func(access, expires string) string {
		return fmt.Sprintf(
			`{"claudeAiOauth":{"accessToken":%s,"refreshToken":"fake-unused","expiresAt":%s,"scopes":["user:inference"]}}`,
			access,
			expires,
		)
	}
	good := record(`"fake-good"`, "null")
	cases := []struct {
		name    string
		content string
		exit    int
		found   string // in the error
	}{
		{"empty", "", 8, "credentials.json"},
		{"truncated", good[:len(good)/2], 8, "not valid JSON"},
		{"100 MB", good[:len(good)-1] + `,"x":"` + strings.Repeat("x", 100<<20) + `"}`, 8, "credentials.json"},
		{"100 MB of blanks", strings.Repeat(" ", 100<<20), 8, "credentials.json"},
		{"binary", "\x7fELF\x00\x01\xff\xfe" + strings.Repeat("\x00\xff", 500), 8, "not valid JSON"},
		{"an array", `[]`, 8, "credentials.json"},
		{"a number", `42`, 8, "credentials.json"},
		{"deeply nested", strings.Repeat("[", 100000), 8, "credentials.json"},
		{"no sign-in in it", `{"mcpOAuth":{}}`, 3, "claude"},
		{"sign-in null", `{"claudeAiOauth":null}`, 3, "claude"},
		{"sign-in a string", `{"claudeAiOauth":"fake-good"}`, 8, "claudeAiOauth"},
		{"access token a number", record("42", "null"), 8, "accessToken"},
		{"access token an object", record("{}", "null"), 8, "accessToken"},
		{"scopes a number", `{"claudeAiOauth":{"accessToken":"fake-good","refreshToken":"fake-unused","expiresAt":null,"scopes":1}}`, 8,
			"scopes"},
		{"expiry a string", record(`"fake-good"`, `"4102444800000"`), 8, "expiresAt"},
		{"expiry beyond all calendars", record(`"fake-good"`, "9223372036854775807"), 8, "expiresAt"},
		{"expiry an object", record(`"fake-good"`, `{}`), 8, "expiresAt"},
		{"token with a newline", record(`"fake-good\nX-Evil: 1"`, "null"), 8, ""},
		{"token with a control character", record(`"fake-good\u001b[2J"`, "null"), 8, ""},
		{"token with NUL", record(`"fake-good\u0000"`, "null"), 8, ""},
		{"token with a space", record(`"fake good"`, "null"), 8, ""},
		{"token beyond 16384 bytes", record(`"fake`+strings.Repeat("x", 16384)+`"`, "null"), 8, ""},
		{"logged-out stub", `{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0,"scopes":["user:inference"]}}`, 4, ""},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			h.write(".claude/.credentials.json", test.content)
			r := h.helper()
			r.fails(t, test.exit, test.found)
			if strings.Contains(r.stderr, "fake") {
				t.Errorf("the error shows the token: %q", r.stderr)
			}
			h.ccagent("validate").fails(t, test.exit, test.found)
			if h.read(".claude/.credentials.json") != test.content {
				t.Error("the file was changed")
			}
			if n := provider.Counts().Requests; n != 0 {
				t.Errorf("%d requests at the provider", n)
			}
			// Nothing of it sticks: a good file is taken at once.
			signIn := provider.Issue()
			h.signIn(signIn)
			if got := h.token(); got != signIn.AccessToken {
				t.Errorf("after the file was mended: %q", got)
			}
		})
	}
}

// What expiresAt may say: milliseconds of a time, or null for never. All else that is a number is due, and renewed.
func TestExpiresAt(t *testing.T) {
	cases := []struct {
		name    string
		value   string
		renewed bool
	}{
		{"null", "null", false},
		{"an hour from now", fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()), false},
		{"year 9999", "253402300799000", false},
		{"0", "0", true},
		{"negative", "-1000", true},
		{"in seconds", fmt.Sprint(time.Now().Add(time.Hour).Unix()), true},
		{"past", fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli()), true},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			signIn := provider.Issue()
			h.write(".claude/.credentials.json", fmt.Sprintf(
				`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":%s,"scopes":[],"subscriptionType":"max"},"mcpOAuth":{}}`,
				signIn.AccessToken,
				signIn.RefreshToken,
				test.value,
			))
			token := h.token()
			if renewed := token != signIn.AccessToken; renewed != test.renewed {
				t.Errorf("renewed %v, want %v", renewed, test.renewed)
			}
			h.ccagent("validate").must(t)
			checkSignIn(t, h.credentialsFile(), provider)
		})
	}
}

func TestBadConfig(t *testing.T) {
	cases := []struct {
		name, config, found string
	}{
		{"unknown key", "default_profile = \"claude\"\nfavourite = 1\n", "favourite"},
		{"unknown key of a profile", "[profiles.claude]\nprovider = \"claude\"\ntoken_ur = \"x\"\n", "token_ur"},
		{"wrong type", "[profiles.claude]\nprovider = 3\n", "provider"},
		{"not TOML", "[profiles.claude\n", "config.toml"},
		{"binary", "\x00\xff\xfe", "config.toml"},
		{"plain http elsewhere", "[profiles.claude]\nprovider = \"claude\"\ntoken_url = \"http://login.example.com/token\"\n",
			"token_url"},
		{"unknown provider", "[profiles.claude]\nprovider = \"magic\"\n", "magic"},
		{"no such default", "default_profile = \"nobody\"\n", "nobody"},
		{"two names but for case", "[profiles.a]\nprovider = \"static\"\n[profiles.A]\nprovider = \"static\"\n", "case"},
		{"name with a slash", "[profiles.\"a/b\"]\nprovider = \"static\"\n", "a/b"},
		{"name of two dots", "[profiles.\"..\"]\nprovider = \"static\"\n", ".."},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			h, _ := newSignedIn(t, time.Hour)
			h.config(test.config)
			h.ccagent("list").fails(t, 2, test.found)
			h.helper().fails(t, 2, test.found)
		})
	}
	t.Run("unknown key names its line", func(t *testing.T) {
		h, _ := newSignedIn(t, time.Hour)
		h.config("# one\n# two\nfavourite = 1\n")
		h.ccagent("list").fails(t, 2, "3")
	})
	t.Run("others may write it", func(t *testing.T) {
		h, _ := newSignedIn(t, time.Hour)
		if err := os.Chmod(h.path(".config/ccagent/config.toml"), 0o666); err != nil {
			t.Fatal(err)
		}
		h.helper().fails(t, 2, "config.toml")
	})
	t.Run("others may write its folder", func(t *testing.T) {
		h, _ := newSignedIn(t, time.Hour)
		mkdir(t, h.path(".config/ccagent"), 0o777)
		h.helper().fails(t, 2, "ccagent")
	})
	t.Run("an invalid one keeps the old settings", func(t *testing.T) {
		h, provider := newSignedIn(t, time.Hour)
		h.serve()
		h.token()
		h.config("favourite = 1\n")
		h.ccagent("refresh").must(t)
		if token := h.token(); !provider.Live(token) {
			t.Errorf("token %s is not live", token)
		}
		if r := h.ccagent("status"); !strings.Contains(r.stdout, "favourite") {
			t.Errorf("status does not say what is wrong with config.toml:\n%s", r.stdout)
		}
	})
}

func TestBadProfileNames(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.serve()
	for _, name := range []string{"a/b", "..", "a..b", ".hidden", "-", strings.Repeat("x", 65), "a b", "a\nb", "é", "a\x1b[2J"} {
		for _, r := range []result{
			h.helper("--profile=" + name),
			h.ccagent("token", "--profile="+name),
		} {
			r.fails(t, 2, "profile")
			if strings.ContainsAny(r.stderr, "\x1b") {
				t.Errorf("%q: stderr %q", name, r.stderr)
			}
		}
	}
	h.helper("-p", strings.Repeat("x", 64)).fails(t, 3, "profile")
}

package worker

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

func TestPrinted(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		printed string
		token   string // "": an error is wanted
		expiry  time.Time
	}{
		{"fake-token\n", "fake-token", time.Time{}},
		{"fake-token\r\n", "fake-token", time.Time{}},
		{"fake-token", "fake-token", time.Time{}},
		{`{"token":"fake-token"}`, "fake-token", time.Time{}},
		{"\n {\"access_token\":\"fake-token\",\"expires_in\":90}\n", "fake-token", now.Add(90 * time.Second)},
		{`{"key":"fake-token","expires_in":"90"}`, "fake-token", now.Add(90 * time.Second)},
		{`{"key":"fake-token","expires_in":1.5}`, "fake-token", now.Add(1500 * time.Millisecond)},
		{`{"key":"fake-token","expires_in":0}`, "fake-token", now},
		{`{"key":"fake-token","expires_in":-5}`, "fake-token", now.Add(-5 * time.Second)},
		{`{"key":"fake-token","expires_in":1e14}`, "fake-token", now.Add(maxSeconds * time.Second)},
		{`{"token":"fake-token","expires_at":1800000000}`, "fake-token", time.Unix(1800000000, 0)},
		{`{"token":"fake-token","expires_at":1800000000123}`, "fake-token", time.UnixMilli(1800000000123)},
		{`{"token":"fake-token","expires_at":"1800000000"}`, "fake-token", time.Unix(1800000000, 0)},
		{`{"token":"fake-token","expires_at":0}`, "fake-token", time.Unix(1, 0)},
		{`{"token":"fake-token","expires_at":-1}`, "fake-token", time.Unix(1, 0)},
		{`{"token":"fake-token","expires_at":null}`, "fake-token", time.Time{}},
		{`{"token":"fake-token","expiration":"2027-01-01T00:00:00Z"}`, "fake-token", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"token":"fake-token","expiration":"2027-01-01T01:00:00.5+01:00"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 5e8, time.UTC)},
		{`{"token":"fake-token","expiration":"0001-01-01T00:00:00Z"}`, "fake-token", time.Unix(1, 0)},
		{`{"token":"fake-token","expirationTimestamp":"9999-12-31T23:59:59Z"}`, "fake-token", time.Unix(lastUnix, 0)},
		{`{"kind":"ExecCredential","status":{"token":"fake-token","expirationTimestamp":"2027-01-01T00:00:00Z"}}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		// keys of AWS: credential_process, aws sts, aws sso get-role-credentials, and keys without a session
		{`{"Version":1,"AccessKeyId":"fake-id","SecretAccessKey":"fake/+=","SessionToken":"fake-s",
			"Expiration":"2027-01-01T00:00:00+00:00"}`,
			`{"AccessKeyId":"fake-id","SecretAccessKey":"fake/+=","SessionToken":"fake-s"}`, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"Credentials":{"SecretAccessKey":"fake-k","AccessKeyId":"fake-id","SessionToken":"fake-s","Expiration":"2027-01-01T00:00:00Z"},
			"AssumedRoleUser":{"Arn":"arn"}}`,
			`{"AccessKeyId":"fake-id","SecretAccessKey":"fake-k","SessionToken":"fake-s"}`, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"roleCredentials":{"accessKeyId":"fake-id","secretAccessKey":"fake-k","sessionToken":"fake-s","expiration":1800000000123}}`,
			`{"AccessKeyId":"fake-id","SecretAccessKey":"fake-k","SessionToken":"fake-s"}`, time.UnixMilli(1800000000123)},
		{`{"Version":1,"AccessKeyId":"fake-id","SecretAccessKey":"fake-k","SessionToken":null}`,
			`{"AccessKeyId":"fake-id","SecretAccessKey":"fake-k"}`, time.Time{}},
		{`{"token":null,"access_token":"fake-token"}`, "fake-token", time.Time{}},
		{`{"status":"ok","token":"fake-token"}`, "fake-token", time.Time{}},
		{"fake-token\n\n", "fake-token", time.Time{}},
		{"\r\n \tfake-token \t\r\n\n", "fake-token", time.Time{}},
		{"fake=token==\n", "", time.Time{}},
		{"fakeToken0==\n", "fakeToken0==", time.Time{}},
		{"fakes_eyJ0aGlzIjoib25lIn0=_c2VjcmV0\n", "fakes_eyJ0aGlzIjoib25lIn0=_c2VjcmV0", time.Time{}}, // as Sentry's
		{`{"token":" fake-token\n"}`, "fake-token", time.Time{}},
		// az account get-access-token: the time without a zone is local, and expires_on goes before it
		{`{"accessToken":"fake-token","expiresOn":"2026-11-30 12:00:00.250000","tokenType":"Bearer"}`, "fake-token",
			time.Date(2026, 11, 30, 12, 0, 0, 250e6, time.Local)},
		{`{"accessToken":"fake-token","expiresOn":"2020-01-01 00:00:00.000000","expires_on":1800000000}`, "fake-token",
			time.Unix(1800000000, 0)},
		{`{"accessToken":"fake-token","expiresOn":"N/A"}`, "fake-token", time.Time{}},
		// a managed identity of Azure, whose lifetime may be that of a token of some time ago
		{`{"access_token":"fake-token","expires_in":"90","expires_on":"11/23/2026 12:01:00 +00:00"}`, "fake-token",
			now.Add(time.Minute)},
		{`{"access_token":"fake-token","expires_in":"60","expires_on":"1900000000"}`, "fake-token", now.Add(time.Minute)},
		// azd auth token
		{`{"token":"fake-token","expiresOn":"2027-01-01T00:00:00Z"}`, "fake-token", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		// gcloud config config-helper, and gcloud auth print-access-token with --format=json
		{`{"configuration":{"properties":{}},"credential":{"access_token":"fake-token","id_token":"fake-id",
			"token_expiry":"2027-01-01T00:00:00Z"}}`, "fake-token", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"token":"fake-token","expiry":{"datetime":"2027-01-01 00:00:00.5","day":1,"year":2027}}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 5e8, time.UTC)},
		{`{"access_token":"fake-token","token_expiry":{"datetime":"2027-01-01 01:00:00+01:00"}}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		// vault login, vault read of an OIDC token, vault kv get; a lease of 0 has no end
		{`{"auth":{"client_token":"fake-token","lease_duration":60},"data":null}`, "fake-token", now.Add(time.Minute)},
		{`{"auth":{"client_token":"fake-token","lease_duration":0}}`, "fake-token", time.Time{}},
		{`{"auth":null,"lease_duration":0,"data":{"token":"fake-token","ttl":60}}`, "fake-token", now.Add(time.Minute)},
		{`{"lease_duration":60,"data":{"token":"fake-token"}}`, "fake-token", now.Add(time.Minute)},
		{`{"data":{"data":{"key":"fake-token"},"metadata":{"version":1}}}`, "fake-token", time.Time{}},
		// aws codeartifact get-authorization-token
		{`{"authorizationToken":"fake-token","expiration":"2027-01-01T01:00:00+01:00"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		// databricks auth token, docker-credential-x get
		{`{"access_token":"fake-token","token_type":"Bearer","expiry":"2027-01-01T00:00:00Z"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"ServerURL":"a","Username":"_","Secret":"fake-token"}`, "fake-token", time.Time{}},

		// names in other spellings: PowerShell's Get-AzAccessToken, PowerShell 5, Google's generateAccessToken, Cognito
		{`{"Token":"fake-token","ExpiresOn":"2027-01-01T00:00:00+00:00","TenantId":"x","Type":"Bearer"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"Token":"fake-token","ExpiresOn":"/Date(1800000000123)/"}`, "fake-token", time.UnixMilli(1800000000123)},
		{`{"accessToken":"fake-token","expireTime":"2027-01-01T00:00:00.5Z"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 5e8, time.UTC)},
		{`{"AccessToken":"fake-token","ExpiresIn":60,"TokenType":"Bearer"}`, "fake-token", now.Add(time.Minute)},
		{`{"access-token":"fake-token","expires-in":"60s"}`, "fake-token", now.Add(time.Minute)},
		{`{"access_token":null,"accessToken":"fake-token","ttl":"1h30m"}`, "fake-token", now.Add(90 * time.Minute)},
		{`{"token":"fake-token","ttl":0,"expires_in":60}`, "fake-token", now.Add(time.Minute)},
		// of aws sso in its cache, of HTTP, of Go, and others
		{`{"accessToken":"fake-token","expiresAt":"2027-01-01T00:00:00UTC"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"token":"fake-token","expires":"Fri, 01 Jan 2027 00:00:00 GMT"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)},
		{`{"token":"fake-token","expires":"2027-01-01 01:00:00.5 +0100 CET m=+1.5"}`, "", time.Time{}},
		{`{"token":"fake-token","expires":"2027-01-01 00:00:00.5 +0000 UTC m=+1.5"}`, "fake-token",
			time.Date(2027, 1, 1, 0, 0, 0, 5e8, time.UTC)},
		{`{"token":"fake-token","exp":1800000000}`, "fake-token", time.Unix(1800000000, 0)},
		{`{"token":"fake-token","valid_until":"1/2/2027 3:00:00 PM +00:00"}`, "fake-token",
			time.Date(2027, 1, 2, 15, 0, 0, 0, time.UTC)},
		// the earliest of several
		{`{"token":"fake-token","expires_at":1900000000,"exp":1800000000}`, "fake-token", time.Unix(1800000000, 0)},
		{`{"token":"fake-token","exp":1900000000,"expires_at":1800000000,"expiresOn":"2020-01-01 00:00:00"}`, "fake-token",
			time.Unix(1800000000, 0)},
		{`{"token":"fake-token","expires_at":"Never"}`, "fake-token", time.Time{}},

		{"", "", time.Time{}},
		{"\n", "", time.Time{}},
		{"fake token", "", time.Time{}},
		{"fake\x1b[2Jtoken", "", time.Time{}},
		{"fäke", "", time.Time{}},
		{strings.Repeat("x", protocol.MaxToken+1), "", time.Time{}},
		{`{}`, "", time.Time{}},
		{`{"token":""}`, "", time.Time{}},
		{`{"token":42}`, "", time.Time{}},
		{`{"token":"fake\ntoken"}`, "", time.Time{}},
		{`{"token":"fake-token"`, "", time.Time{}},
		{`{"token":"fake-token"} {}`, "", time.Time{}},
		{`{"token":"fake-token","expires_in":"soon"}`, "", time.Time{}},
		{`{"token":"fake-token","expires_in":"NaN"}`, "", time.Time{}},
		{`{"token":"fake-token","expires_at":{}}`, "", time.Time{}},
		{`{"token":"fake-token","expires_at":true}`, "", time.Time{}},
		{`{"token":"fake-token","expires_at":1e99}`, "", time.Time{}},
		{`{"token":"fake-token","expiration":"tomorrow"}`, "", time.Time{}},
	}
	for _, tt := range tests {
		token, expiry, err := parsePrinted([]byte(tt.printed), now)
		if token.Reveal() != tt.token && err == nil || (err == nil) != (tt.token != "") || err == nil && !expiry.Equal(tt.expiry) {
			t.Errorf("%.80q: %q, %v, %v, want %q, %v", tt.printed, token.Reveal(), expiry.UTC(), err, tt.token, tt.expiry.UTC())
		}
		if err != nil && strings.Contains(err.Error(), "fake") {
			t.Errorf("%.80q: the error %v holds what was printed", tt.printed, err)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		command  []string
		timeout  time.Duration
		wantErr  error
		shown    string        // part of the error
		hidden   string        // no part of it
		lifetime time.Duration // wanted
	}{
		{name: "bare token", command: []string{"/bin/sh", "-c", "echo fake-token"}, lifetime: DefaultTTL},
		{name: "object", command: []string{"/bin/sh", "-c", `echo '{"token":"fake-token","expires_in":3600}'`}, lifetime: time.Hour},
		{name: "found on PATH", command: []string{"sh", "-c", "echo fake-token"}, lifetime: DefaultTTL},
		{name: "no shell of ours", command: []string{"/bin/echo", "$HOME;`id`"}, lifetime: DefaultTTL},
		{name: "nothing on stdin", command: []string{"/bin/sh", "-c", `cat; echo fake-token`}, lifetime: DefaultTTL},
		{
			name:     "a session of its own",
			command:  []string{"/bin/sh", "-c", `test "$(cut -d' ' -f6 /proc/$$/stat 2>/dev/null || echo $$)" = $$ && echo fake-token`},
			lifetime: DefaultTTL,
		},

		{
			name:    "fails",
			command: []string{"/bin/sh", "-c", "echo no network >&2; exit 3"},
			wantErr: protocol.ErrUnavailable,
			shown:   "(exit status 3): no network",
		},
		{name: "killed", command: []string{"/bin/sh", "-c", "kill -TERM $$"}, wantErr: protocol.ErrUnavailable, shown: "terminated"},
		{
			name:    "fails with its token in stderr",
			command: []string{"/bin/sh", "-c", "echo fake-token; echo got fake-token but >&2; exit 1"},
			wantErr: protocol.ErrUnavailable,
			shown:   "got [redacted] but",
			hidden:  "fake-token",
		},
		{
			name:    "fails with its object in stderr",
			command: []string{"/bin/sh", "-c", `echo '{"token":"fake-token"}'; echo got fake-token >&2; exit 1`},
			wantErr: protocol.ErrUnavailable,
			hidden:  "fake-token",
		},
		{
			name:    "fails at length",
			command: []string{"/bin/sh", "-c", "i=0; while [ $i -lt 500 ]; do echo line $i >&2; i=$((i+1)); done; exit 1"},
			wantErr: protocol.ErrUnavailable,
			shown:   "line 499",
			hidden:  "line 100 ",
		},
		{
			name:    "fails in colour",
			command: []string{"/bin/sh", "-c", `printf 'grey\n\033[31mred\tblue\007\n' >&2; exit 1`},
			wantErr: protocol.ErrUnavailable,
			shown:   "[31mred blue",
			hidden:  "grey",
		},
		{
			name:    "says why it prints nothing",
			command: []string{"/bin/sh", "-c", "echo please log in >&2"},
			wantErr: protocol.ErrUnavailable,
			shown:   "printed no token: please log in",
		},
		{
			name:    "complains where its token should be",
			command: []string{"/bin/sh", "-c", "echo 'Error: not signed in, see fake-secret'"},
			wantErr: protocol.ErrUnavailable,
			shown:   "printed a complaint instead of a token: Error: not signed in, see …",
			hidden:  "fake-secret",
		},
		{
			name:    "complains in JSON",
			command: []string{"/bin/echo", `{"error":"invalid_grant","secret":null,"token":null,"access_token":null}`},
			wantErr: protocol.ErrUnavailable,
			shown:   "printed null as its token: invalid grant",
		},
		{
			name:    "fails, and complains on the wrong side",
			command: []string{"/bin/sh", "-c", "echo 'Error: not signed in'; echo fake-token; exit 1"},
			wantErr: protocol.ErrUnavailable,
			shown:   "(exit status 1): Error: not signed in",
			hidden:  "fake-token",
		},
		{
			name:    "prints what has expired",
			command: []string{"/bin/echo", `{"token":"fake-token","expires_in":0}`},
			wantErr: protocol.ErrUnavailable,
			shown:   "expired already",
			hidden:  "fake-token",
		},
		{name: "prints nothing", command: []string{"/bin/true"}, wantErr: protocol.ErrUnavailable, shown: "no token"},
		{
			name:    "prints too much",
			command: []string{"/bin/sh", "-c", "head -c 70000 /dev/zero"},
			wantErr: protocol.ErrUnavailable,
			shown:   "64 KiB",
		},
		{
			name:    "prints without end",
			command: []string{"/bin/sh", "-c", "cat /dev/zero"},
			timeout: 300 * time.Millisecond,
			wantErr: protocol.ErrUnavailable,
			shown:   "within",
		},
		{
			name:    "hangs",
			command: []string{"/bin/sh", "-c", "echo waiting for you >&2; sleep 60"},
			timeout: 300 * time.Millisecond,
			wantErr: protocol.ErrUnavailable,
			shown:   "within 300ms: waiting for you",
		},
		{
			name:    "not there",
			command: []string{"/nonexistent/fake-login"},
			wantErr: protocol.ErrConfig,
			shown:   "/nonexistent/fake-login is not there",
		},
		{
			name:    "not on PATH",
			command: []string{"fake-login-that-is-nowhere"},
			wantErr: protocol.ErrConfig,
			shown:   "is not there: the agent's PATH is /",
		},
		{name: "a directory", command: []string{"/"}, wantErr: protocol.ErrConfig, shown: "can't be run"},
		{name: "no program", command: []string{"/proc/self/maps"}, wantErr: protocol.ErrConfig},
		{name: "none", wantErr: protocol.ErrConfig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.settings.Provider, w.settings.Command, w.settings.Timeout = "command", tt.command, tt.timeout
			_, _, done := w.run(job.Job{Op: job.Renew})
			if !is(done.Err, tt.wantErr) {
				t.Fatalf("got %v, want %v", done.Err, tt.wantErr)
			}
			if tt.wantErr != nil {
				if !done.Local || tt.wantErr == protocol.ErrConfig && tt.command != nil && done.Err.Hint == "" {
					t.Errorf("local %v, hint %q: want a failure of this machine, and what to do about a wrong command", done.Local,
						done.Err.Hint)
				}
				says := protocol.Says(done.Err)
				if !strings.Contains(says, tt.shown) || tt.hidden != "" && strings.Contains(says, tt.hidden) {
					t.Errorf("error %q: want %q in it, and not %q", says, tt.shown, tt.hidden)
				}
				if len([]rune(says)) > 700 || strings.ContainsAny(says, "\x1b\x07\n") {
					t.Errorf("error %q is not one line for a person", says)
				}
				if said := done.Err.Detail; said != "" && strings.Contains(done.Err.Message+done.Err.Hint, said) {
					t.Errorf("%q, which a log or a status may have, has the command's words %q", done.Err.Message, said)
				}
				return
			}
			r := done.Result
			if r.Token.Empty() || !r.Saved || !r.Record.Empty() || r.Store != "none" || r.Kind != protocol.KindBearer {
				t.Errorf("result %+v", r)
			}
			if got := r.Expiry.Sub(r.Issued); got != tt.lifetime {
				t.Errorf("lifetime %v, want %v", got, tt.lifetime)
			}
		})
	}
}

// What is no token is refused, and the message says what it is. It holds nothing of what was printed.
func TestMisprints(t *testing.T) {
	t.Parallel()
	for printed, want := range map[string]string{
		"":                                                   "no token",
		" \r\n\n":                                            "no token",
		"null\n":                                             `the word "null"`,
		"None":                                               `the word "none"`,
		"undefined\n":                                        `the word "undefined"`,
		"<nil>\n":                                            `the word "<nil>"`,
		"Unauthorized\n":                                     `the word "unauthorized"`,
		`"fake-token"` + "\n":                                "in quotes",
		"'fake-token'":                                       "in quotes",
		"`fake-token`":                                       "in quotes",
		`fake-token"`:                                        "in quotes",
		`{"token":"\"fake-token\""}`:                         "in quotes",
		`{"token":"null"}`:                                   `the word "null"`,
		"TOKEN=fake-token\n":                                 "an assignment",
		"export FAKE_TOKEN=fake\n":                           "an assignment",
		"export FAKE_TOKEN='fake token'":                     "an assignment",
		"set -gx FAKE_TOKEN fake":                            "an assignment",
		"$env:FAKE_TOKEN=fake-token":                         "an assignment",
		"access_token=fake&token_type=bearer":                "an assignment",
		"accessToken=fake-token":                             "an assignment",
		"Bearer fake-token\n":                                "a header",
		"Authorization: Bearer fake-token\n":                 "a header",
		"token: fake-token\n":                                "with a colon",
		"please sign in to fake\n":                           "a complaint",
		"fake-token fake-other\n":                            "several words",
		"Welcome to fake!\nfake-token\n":                     "2 lines",
		"fake-token\r\rfake-more":                            "3 lines",
		"\x1b[32mfake-token\x1b[0m\n":                        "ANSI",
		"\u009b32mfake-token\n":                              "ANSI",
		"\ufefffake-token\n":                                 "BOM",
		"fake-token\ufeff\n":                                 "BOM",
		"\xff\xfef\x00a\x00k\x00e\x00\n\x00":                 "BOM",
		"f\x00a\x00k\x00e\x00":                               "NUL",
		"\ufeff{\"token\":\"fake-token\"}":                   "BOM",
		"<html><body>fake</body></html>":                     "a web page",
		`[{"token":"fake-token"}]`:                           "a JSON list",
		"TOKEN = fake-token":                                 "an assignment",
		`FAKE_TOKEN = "fake token"`:                          "an assignment",
		"\x1b[1m{\"token\":\"fake\"}":                        "ANSI",
		"{\x1b[34m\"token\"\x1b[0m:\"fake-token\"}":          "ANSI",
		"{\"token\":\"fake-token\"}\nUpdate to fake!":        "after its JSON",
		`{"accessToken":null}`:                               "null as its accessToken",
		`{"data":{"token":null}}`:                            "null as its token",
		`{"tokens":"fake-token"}`:                            "without a token",
		`{"AccessKeyId":"fake-id"}`:                          "keys of AWS without",
		`{"AccessKeyId":"fake","SecretAccessKey":"fake\"x"}`: "keys of AWS without",
		`{"AccessKeyId":"fake","SecretAccessKey":"fake","SessionToken":"f\n"}`: "keys of AWS without",
		`{"AccessKeyId":"fake","SecretAccessKey":7}`:                           "keys of AWS without",
		`{"access_token":"fake-token","token_type":"DPoP"}`:                    "a token of type dpop",
		`{"accessToken":"fake-token","tokenType":"pop"}`:                       "a token of type pop",
		`{"token":7}`:                                                      "no string",
		`{"token":"t","expires":"fake"}`:                                   "as its expires what is neither",
		`{"token":"t","ttl":"fake"}`:                                       "as its ttl what is no number",
		`{"error":"invalid_grant"}`:                                        "an error",
		`{"Message":"fake is not signed in"}`:                              "an error",
		`{"wrap_info":{"token":"fake"}}`:                                   "wraps",
		"export AWS_ACCESS_KEY_ID=fake\nexport AWS_SECRET_ACCESS_KEY=fake": "keys of AWS as assignments",
		"$Env:AWS_SECRET_ACCESS_KEY=\"fake\"":                              "keys of AWS as assignments",
		"Password:\n":                                                      "a question",
		"Enter fake password: ":                                            "a question",
		"Go on with fake? [y/N] y?":                                        "a question",
		"Logged in to fake:\nfake-token":                                   "2 lines",
		"fake:{\"token\":\"fake-token\"}":                                  "JSON with something before it",
		"YOUR_API_KEY\n":                                                   "a placeholder",
		"$FAKE_TOKEN\n":                                                    "the name of a variable",
		"/run/fake/token\n":                                                "the path of a file",
		"ghr_fake\n":                                                       "a refresh token of GitHub",
		"fäke\n":                                                           "outside ASCII",
		"fake\u200btoken\n":                                                "outside ASCII",
		strings.Repeat("fake", protocol.MaxToken):                          "longer than",
	} {
		_, _, err := parsePrinted([]byte(printed), time.Now())
		m := (*misprint)(nil)
		if !errors.As(err, &m) || !strings.Contains(m.what, want) || strings.Contains(m.what+m.hint, "fake") {
			t.Errorf("%.80q: %v, want %q", printed, err, want)
		} else if m.hint == "" {
			t.Errorf("%.80q: no hint what to do", printed)
		}
	}
}

// A complaint on standard output is shown, and nothing of it that may be a secret.
func TestComplaint(t *testing.T) {
	t.Parallel()
	for printed, want := range map[string]string{
		"Error: not logged in. Run 'vault login' first.\n":                      "Error: not logged in. Run 'vault login' first.",
		"\x1b[31mError:\x1b[0m permission denied (403)\n":                       "Error: permission denied (403)",
		"Welcome!\nYour session has expired, please sign in\n":                  "Your session has expired, please sign in",
		"warning: the file is readable by all\nfake-token\n":                    "warning: the file is readable by all",
		"Please visit https://sso.example/device?code=FAKE and log in":          "Please visit … and log in",
		"login failed: token fake-token was refused":                            "login failed: token … was refused",
		"invalid password swordfish for user alice":                             "invalid password … for user …",
		"Error: wrong client_secret: swordfish":                                 "Error: wrong …",
		"Error: unknown userid swordfish, see api-key hunter":                   "Error: unknown userid … see …",
		`{"error":"invalid_grant"}`:                                             "invalid grant",
		`{"error":"invalid_client client_secret swordfish here"}`:               "invalid client client secret … here",
		"Error: your code is WDJBMJHT":                                          "Error: your code is …",
		"error: key is abcdef0123 and 123456":                                   "error: key is … and …",
		"Error: token expired":                                                  "Error: token expired",
		"could not use FaKeToKeN here":                                          "could not use … here",
		"correct horse battery staple":                                          "",
		"fake-token":                                                            "",
		"fake-token\nsecond line of it":                                         "",
		`{"error":{"message":"please log in again"}}`:                           "please log in again",
		`{"error":"invalid_grant","error_description":"the session has ended"}`: "the session has ended",
		`{"token":"","message":"Access denied to fake-token"}`:                  "Access denied to …",
		`{"tokens":"fake-token"}`:                                               "",
		"":                                                                      "",
	} {
		if got := complaint([]byte(printed)); got != want {
			t.Errorf("%q: %q, want %q", printed, got, want)
		}
	}
}

// TestCommandKilledWithItsChildren checks that a time-out leaves none of what a command has started.
func TestCommandKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alive := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(alive, 0o600); err != nil {
		t.Fatal(err)
	}
	// Reading the FIFO ends when the last process that has it open for writing is gone. The grandchild has nothing else of ours.
	reader, err := os.OpenFile(alive, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	w.settings.Provider, w.settings.Timeout = "command", time.Second
	w.settings.Command = []string{"/bin/sh", "-c", `(exec >"$1" 2>/dev/null; echo up; sleep 60) & wait`, "sh", alive}
	_, _, done := w.run(job.Job{Op: job.Renew})
	if !is(done.Err, protocol.ErrUnavailable) {
		t.Fatalf("got %v", done.Err)
	}
	up := make([]byte, 3)
	if _, err := reader.Read(up); err != nil || string(up) != "up\n" {
		t.Fatalf("the grandchild did not start: %q, %v", up, err)
	}
	// Open for reading alone now: without a writer left, a read is at its end at once.
	last, err := os.OpenFile(alive, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	reader.Close()
	last.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := last.Read(up); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the grandchild is alive: %d, %v", n, err)
	}
}

// TestCommandLeavesDaemon takes the token of a command that has left a process behind, which holds its output open until we
// let it go.
func TestCommandLeavesDaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	w.settings.Provider, w.settings.Timeout = "command", time.Hour
	w.settings.Command = []string{"/bin/sh", "-c", `cat "$1" & echo fake-token`, "sh", gate}
	_, _, done := w.run(job.Job{Op: job.Renew})
	if done.Err != nil || done.Result.Token.Reveal() != "fake-token" {
		t.Errorf("got %+v, %v", done.Result, done.Err)
	}
	opened, err := os.OpenFile(gate, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	opened.Close()
}

func TestCommandStoresNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Provider, w.settings.Command, w.settings.TTL = "command", []string{"/bin/echo", "fake-token"}, time.Hour
	_, _, done := w.run(job.Job{Op: job.Renew})
	if done.Result.Expiry.Sub(done.Result.Issued) != time.Hour {
		t.Errorf("lives for %v, want its ttl", done.Result.Expiry.Sub(done.Result.Issued))
	}
	_, _, done = w.run(job.Job{Op: job.Put, Record: mustMarshal(t, record(w.server.Issue(), time.Now()))})
	if !is(done.Err, protocol.ErrConfig) {
		t.Errorf("put: %v", done.Err)
	}
	if _, _, done = w.run(job.Job{Op: job.Delete}); done.Err != nil {
		t.Errorf("delete: %v", done.Err)
	}
}

// A printed token expires at the earliest of what is said beside it, what it says itself, and ttl.
func TestCommandExpiry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	jwt := func(left time.Duration) string {
		claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, now.Add(left).Unix()))
		return "eyJhbGciOiJub25lIn0." + claims + ".fake"
	}
	at := func(left time.Duration) string { return now.Add(left).UTC().Format(time.RFC3339) }
	for _, tt := range []struct {
		name, printed string
		ttl, want     time.Duration // want 0: refused
	}{
		{"nothing is said", "fake-token", 0, DefaultTTL},
		{"ttl alone", "fake-token", 30 * time.Minute, 30 * time.Minute},
		{"a JWT", jwt(2 * time.Hour), 0, 2 * time.Hour},
		{"a JWT, ttl is shorter", jwt(2 * time.Hour), time.Hour, time.Hour},
		{"a JWT, ttl is longer", jwt(2 * time.Hour), 3 * time.Hour, 2 * time.Hour},
		{"a JWT that has expired", jwt(-time.Hour), time.Hour, 0},
		{"in JSON, ttl is shorter", `{"access_token":"fake-token","expires_in":7200}`, time.Hour, time.Hour},
		{"in JSON, ttl is longer", `{"access_token":"fake-token","expires_in":7200}`, 3 * time.Hour, 2 * time.Hour},
		{"golang.org/x/oauth2", `{"access_token":"fake-token","expiry":"` + at(2*time.Hour) + `"}`, 3 * time.Hour, 2 * time.Hour},
		{"az", `{"accessToken":"fake-token","expiresOn":"` + now.Add(2*time.Hour).Local().Format("2006-01-02 15:04:05.000000") + `"}`,
			3 * time.Hour, 2 * time.Hour},
		{"az, newer", fmt.Sprintf(`{"accessToken":"fake-token","expires_on":%d}`, now.Add(2*time.Hour).Unix()), 0, 2 * time.Hour},
		{"gcloud", `{"credential":{"access_token":"fake-token","token_expiry":"` + at(2*time.Hour) + `"}}`, 0, 2 * time.Hour},
		{"gcloud, in parts", `{"token":"fake-token","token_expiry":{"datetime":"` +
			now.Add(2*time.Hour).UTC().Format("2006-01-02 15:04:05") + `","year":2026}}`, 0, 2 * time.Hour},
		{"a JWT in JSON that ends first", `{"token":"` + jwt(time.Hour) + `","expires_in":7200}`, 0, time.Hour},
		{"a JWT in JSON that ends last", `{"token":"` + jwt(3*time.Hour) + `","expires_in":7200}`, 0, 2 * time.Hour},
	} {
		w := newWorld(t)
		w.settings.Provider, w.settings.Command, w.settings.TTL = "command", []string{"/bin/echo", tt.printed}, tt.ttl
		_, _, done := w.run(job.Job{Op: job.Renew})
		if tt.want == 0 {
			if done.Err == nil || !strings.Contains(done.Err.Message, "expired already") || strings.Contains(done.Err.Message, "eyJ") {
				t.Errorf("%s: %v", tt.name, done.Err)
			}
			continue
		}
		if got := done.Result.Expiry.Sub(now).Round(time.Minute); done.Err != nil || got != tt.want {
			t.Errorf("%s: it lives for %v, want %v; %v", tt.name, got, tt.want, done.Err)
		}
	}
}

package oauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// jwt is an unsigned token with these claims.
func jwt(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part([]byte(claims)) + ".fake"
}

// Every form in which a provider states an expiry counts, and the earliest expiry wins.
func TestExpiry(t *testing.T) {
	t.Parallel()
	date := time.Now().Truncate(time.Second) // of each answer, so that what is left does not depend on how fast the test runs
	header := map[string]string{"Date": date.UTC().Format(http.TimeFormat)}
	at := date.Add(20 * time.Minute)
	unix, past := fmt.Sprint(at.Unix()), fmt.Sprint(at.Add(-2*time.Hour).Unix())
	for _, tt := range []struct {
		name string
		more string // of the answer
		want time.Duration
	}{
		{"expires_in", `"access_token":"fake-1","expires_in":1200`, 20 * time.Minute},
		{"expires_in as a string", `"access_token":"fake-1","expires_in":"1200"`, 20 * time.Minute},
		{"expires_in with a fraction", `"access_token":"fake-1","expires_in":1200.0`, 20 * time.Minute},
		{"expires_in with a fraction, as a string", `"access_token":"fake-1","expires_in":" 1200.5 "`, 20 * time.Minute},
		{"expires_in that is a moment", `"access_token":"fake-1","expires_in":` + unix, 20 * time.Minute},
		{"expires, as Facebook has it", `"access_token":"fake-1","expires":1200`, 20 * time.Minute},
		{"expires that is a moment", `"access_token":"fake-1","expires":` + unix, 20 * time.Minute},
		{"expires_at", `"access_token":"fake-1","expires_at":` + unix, 20 * time.Minute},
		{"expires_at as a string", `"access_token":"fake-1","expires_at":"` + unix + `"`, 20 * time.Minute},
		{"expires_at in milliseconds", `"access_token":"fake-1","expiresAt":` + unix + `000`, 20 * time.Minute},
		{"expires_at as a date", `"access_token":"fake-1","expires_at":"` + at.UTC().Format(time.RFC3339) + `"`, 20 * time.Minute},
		{"expires_on, as Entra has it", `"access_token":"fake-1","expires_on":"` + unix + `"`, 20 * time.Minute},
		{"expires_on, as Azure App Service has it",
			`"access_token":"fake-1","expires_on":"` + at.UTC().Format("01/02/2006 15:04:05 -07:00") + `"`, 20 * time.Minute},
		{"expiresOn", `"access_token":"fake-1","expiresOn":"` + at.UTC().Format(time.RFC3339Nano) + `"`, 20 * time.Minute},
		{"expiry, as x/oauth2 has it", `"access_token":"fake-1","expiry":"` + at.Format(time.RFC3339) + `"`, 20 * time.Minute},
		{"a date of HTTP", `"access_token":"fake-1","expires_at":"` + at.UTC().Format(http.TimeFormat) + `"`, 20 * time.Minute},
		{"a zone without a colon", `"access_token":"fake-1","expires_at":"` + at.UTC().Format("2006-01-02T15:04:05.000-0700") + `"`, 20 * time.Minute},
		{"a date without a zone", `"access_token":"fake-1","expires_at":"` + at.UTC().Format("2006-01-02 15:04:05") + `"`, 20 * time.Minute},
		{"a date of Go's", `"access_token":"fake-1","expiry":"` + at.UTC().String() + `"`, 20 * time.Minute},
		{"a JWT", `"access_token":"` + jwt(`{"exp":`+unix+`}`) + `"`, 20 * time.Minute},
		{"a JWT, with a fraction", `"access_token":"` + jwt(`{"exp":`+unix+`.5}`) + `"`, 20 * time.Minute},
		{"a JWT that ends before", `"expires_in":3600,"access_token":"` + jwt(`{"exp":`+unix+`}`) + `"`, 20 * time.Minute},
		{"a JWT that ends after", `"expires_in":600,"access_token":"` + jwt(`{"exp":`+unix+`}`) + `"`, 10 * time.Minute},
		{"three statements", `"access_token":"fake-1","expires_in":3600,"expires_at":` + unix + `,"expires_on":"` + unix + `"`, 20 * time.Minute},
		{"the shorter one first", `"access_token":"fake-1","expires_in":600,"expires_at":` + unix, 10 * time.Minute},

		{"a moment that has passed", `"access_token":"fake-1","expires_at":` + past, DefaultLifetime},
		{"a JWT that has ended", `"access_token":"` + jwt(`{"exp":`+past+`}`) + `"`, DefaultLifetime},
		{"a JWT without an end", `"access_token":"` + jwt(`{"sub":"alice"}`) + `"`, DefaultLifetime},
		{"a JWT whose end is a word", `"access_token":"` + jwt(`{"exp":"soon"}`) + `"`, DefaultLifetime},
		{"a JWT of a list", `"access_token":"` + jwt(`[]`) + `"`, DefaultLifetime},
		{"dots and no JWT", `"access_token":"a.b.c"`, DefaultLifetime},
		{"a word", `"access_token":"fake-1","expires_at":"soon"`, DefaultLifetime},
		{"nothing", `"access_token":"fake-1","expires_at":null,"expires_on":"","expiry":{}`, DefaultLifetime},
		{"a moment beyond all time", `"access_token":"fake-1","expires_at":1e300`, DefaultLifetime},
		{"a year that is far", `"access_token":"fake-1","expires_at":4102444800`, maxLifetime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reply, err := answering(t, 200, header, "{"+tt.more+"}").Refresh(t.Context(), protocol.NewSecret(sent))
			if err != nil {
				t.Fatal(err)
			}
			if got := reply.Expiry.Sub(reply.Issued).Round(time.Second); got != tt.want {
				t.Errorf("lifetime %v, want %v", got, tt.want)
			}
		})
	}
}

// A point in time counts by the provider's clock, because ours may be wrong by hours.
func TestExpiryByAnotherClock(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-5 * time.Hour, 5 * time.Hour} {
		there := time.Now().Add(ahead)
		body := fmt.Sprintf(`{"access_token":"fake-1","expires_at":%d,"refresh_token":"%s"}`,
			there.Add(20*time.Minute).Unix(), jwt(fmt.Sprintf(`{"exp":%d}`, there.Add(2*time.Hour).Unix())))
		c := answering(t, 200, map[string]string{"Date": there.UTC().Format(http.TimeFormat)}, body)
		reply, err := c.Refresh(t.Context(), protocol.NewSecret(sent))
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Expiry.Sub(reply.Issued).Round(time.Minute); got != 20*time.Minute {
			t.Errorf("ahead by %v: lifetime %v", ahead, got)
		}
		if got := reply.GrantExpiry.Sub(reply.Issued).Round(time.Minute); got != 2*time.Hour {
			t.Errorf("ahead by %v: the sign-in's lifetime %v", ahead, got)
		}
	}
}

// The expiry of the sign-in itself is read in each form that providers have for it.
func TestGrantExpiry(t *testing.T) {
	t.Parallel()
	date := time.Now().Truncate(time.Second)
	header := map[string]string{"Date": date.UTC().Format(http.TimeFormat)}
	at := date.Add(2 * time.Hour)
	for _, tt := range []struct {
		name string
		more string
		want time.Duration // 0: none
	}{
		{"GitHub", `"refresh_token":"fake-2","refresh_token_expires_in":7200`, 2 * time.Hour},
		{"Keycloak", `"refresh_token":"fake-2","refresh_expires_in":7200`, 2 * time.Hour},
		{"Keycloak, for ever", `"refresh_token":"fake-2","refresh_expires_in":0`, 0},
		{"Keycloak, by its token", `"refresh_token":"` + jwt(fmt.Sprintf(`{"exp":%d}`, at.Unix())) + `"`, 2 * time.Hour},
		{"Keycloak, offline", `"refresh_token":"` + jwt(`{"typ":"Offline"}`) + `","refresh_expires_in":0`, 0},
		{"Intuit", `"refresh_token":"fake-2","x_refresh_token_expires_in":7200`, 2 * time.Hour},
		{"a moment", fmt.Sprintf(`"refresh_token":"fake-2","refresh_token_expires_at":%d`, at.Unix()), 2 * time.Hour},
		{"the shorter", `"refresh_token":"fake-2","refresh_token_expires_in":"7200","refresh_expires_in":86400`, 2 * time.Hour},
		{"not said", `"refresh_token":"fake-2","expires_in":60`, 0},
	} {
		reply, err := answering(t, 200, header, `{"access_token":"fake-1",`+tt.more+`}`).Refresh(t.Context(), protocol.NewSecret(sent))
		if err != nil {
			t.Fatal(err)
		}
		if endless := strings.Contains(tt.more, `expires_in":0`); reply.Endless != endless {
			t.Errorf("%s: endless: %v", tt.name, reply.Endless)
		}
		if tt.want == 0 && reply.GrantExpiry.IsZero() {
			continue
		}
		if got := reply.GrantExpiry.Sub(reply.Issued).Round(time.Second); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A form is read as a form, also if it is labelled as text. A text that is no form is not.
func TestFormEncoded(t *testing.T) {
	t.Parallel()
	const form = "access_token=fake-1&expires_in=1200&scope=repo%2Cgist&token_type=bearer"
	for _, tt := range []struct{ kind, body, want string }{
		{"application/x-www-form-urlencoded", form, "fake-1"},
		{"application/x-www-form-urlencoded; charset=utf-8", form + "\n", "fake-1"},
		{"text/plain; charset=UTF-8", form, "fake-1"},
		{"text/plain", "access_token=fake-1&expires=1200&scope=repo+gist", "fake-1"},
		{"text/plain", "all is well", ""},
		{"text/html", form, ""},
		{"application/json", form, ""},
		{"application/x-www-form-urlencoded", "access_token=fake%zz", ""},
	} {
		reply, err := answering(t, 200, map[string]string{"Content-Type": tt.kind}, tt.body).
			Refresh(t.Context(), protocol.NewSecret(sent))
		if reply.AccessToken.Reveal() != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s, %q: %q, %v", tt.kind, tt.body, reply.AccessToken.Reveal(), err)
		}
		if err == nil && (reply.Expiry.Sub(reply.Issued).Round(time.Second) != 20*time.Minute ||
			strings.Join(reply.Scopes, " ") != "repo gist") {
			t.Errorf("%s, %q: %+v", tt.kind, tt.body, reply)
		}
	}
	for _, kind := range []string{"application/x-www-form-urlencoded", "text/plain"} {
		c := answering(t, 200, map[string]string{"Content-Type": kind},
			"device_code=fake-device&user_code=FAKE&verification_uri=https%3A%2F%2Fsso.example.com%2Fd&interval=7&expires_in=900")
		c.DeviceURL = c.TokenURL
		if d, err := c.StartDevice(t.Context()); err != nil || d.UserCode != "FAKE" || d.interval != 7*time.Second {
			t.Errorf("%s: %+v, %v", kind, d, err)
		}
	}
}

// A token that is bound to a key is not passed on as a bearer token. The refresh token beside it is kept.
func TestTokenTypes(t *testing.T) {
	t.Parallel()
	for kind, good := range map[string]bool{
		`"Bearer"`: true, `"bearer"`: true, `""`: true, `null`: true, `"user"`: true, `7`: true,
		`"DPoP"`: false, `"dpop"`: false, `"mac"`: false, `"pop"`: false,
	} {
		body := `{"access_token":"fake-1","refresh_token":"fake-2","token_type":` + kind + `}`
		reply, err := answering(t, 200, nil, body).Refresh(t.Context(), protocol.NewSecret(sent))
		if good != (err == nil) || err != nil && !errors.Is(err, protocol.ErrConfig) || reply.RefreshToken.Reveal() != "fake-2" ||
			reply.AccessToken.Empty() == good {
			t.Errorf("%s: %+v, %v", kind, reply, err)
		}
	}
}

// One odd value in a person's profile does not cost the other values.
func TestOddProfiles(t *testing.T) {
	t.Parallel()
	fields := func(body string) map[string]json.RawMessage {
		f, err := object([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if id := claims(fields(`{"sub":4711,"email":["a@example.com"],"name":{},"nickname":"alice","tid":7.5}`)); id.Account != "4711" ||
		id.Email != "" || id.Name != "alice" || id.OrganizationID != "" {
		t.Errorf("claims: %+v", id)
	}
	const odd = `{"account":{"uuid":"u","email":7.5,"full_name":[],"display_name":"Alice","has_claude_max":"true","has_claude_pro":true},
		"organization":{"uuid":7,"name":"Example","organization_type":null}}`
	if id := claudeProfile(fields(odd)); id.Account != "u" || id.Email != "" || id.Name != "Alice" || id.Subscription != "pro" ||
		id.Organization != "Example" || id.OrganizationID != "7" {
		t.Errorf("provider claude's profile: %+v", id)
	}
	if id := claudeAccount(fields(`{"account":{"uuid":[],"email_address":"a@example.com"},"organization":"x"}`)); id.Account != "" ||
		id.Email != "a@example.com" || id.Organization != "" {
		t.Errorf("provider claude's account: %+v", id)
	}
}

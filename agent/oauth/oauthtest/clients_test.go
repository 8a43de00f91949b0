package oauthtest_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// The server is tested with clients that are not ours: our own client might make the same mistakes as our server.

const callback = "http://127.0.0.1:1/callback"

// answer asks the authorize endpoint, and returns the parameters of the redirect without following it. With a decision it
// also clicks, as a person would.
func answer(t *testing.T, address, decision string) url.Values {
	t.Helper()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(address)
	if err == nil && decision != "" {
		resp.Body.Close()
		u, _ := url.Parse(address)
		form := u.Query()
		form.Set("decision", decision)
		u.RawQuery = ""
		resp, err = browser.PostForm(u.String(), form)
	}
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return back.Query()
}

// TestOAuth2 signs in, renews and uses client credentials with x/oauth2.
func TestOAuth2(t *testing.T) {
	t.Parallel()
	s := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-secret"})
	config := oauth2.Config{ClientID: "fake-client", ClientSecret: "fake-secret", RedirectURL: callback, Scopes: []string{"jobs"},
		Endpoint: oauth2.Endpoint{
			AuthURL:       s.AuthorizeURL(),
			TokenURL:      s.TokenURL(),
			DeviceAuthURL: s.DeviceURL(),
			AuthStyle:     oauth2.AuthStyleInHeader,
		}}
	verifier := oauth2.GenerateVerifier()
	address := config.AuthCodeURL("fake-state", oauth2.S256ChallengeOption(verifier))
	got := answer(t, address, "")
	if got.Get("state") != "fake-state" || got.Get("iss") != s.Issuer() {
		t.Errorf("the answer is %v", got)
	}
	if _, err := config.Exchange(t.Context(), got.Get("code"), oauth2.VerifierOption(oauth2.GenerateVerifier())); code(
		err,
	) != "invalid_grant" {
		t.Errorf("with another verifier: %v", err)
	}
	token, err := config.Exchange(t.Context(), got.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil || !s.Live(token.AccessToken) {
		t.Fatalf("exchange: %v", err)
	}
	renewed, err := config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	if err != nil || renewed.RefreshToken == token.RefreshToken || !s.Live(renewed.AccessToken) {
		t.Fatalf("renewal: %v", err)
	}
	if _, err := config.Exchange(t.Context(), got.Get("code"), oauth2.VerifierOption(verifier)); code(err) != "invalid_grant" ||
		s.Live(renewed.AccessToken) {
		t.Errorf("a code used twice ends what it brought: %v", err)
	}

	machine := clientcredentials.Config{
		ClientID:       "fake-client",
		ClientSecret:   "fake-secret",
		TokenURL:       s.TokenURL(),
		Scopes:         []string{"jobs"},
		AuthStyle:      oauth2.AuthStyleInParams,
		EndpointParams: url.Values{"audience": {"fake-audience"}, "resource": {"https://a.example", "https://b.example"}},
	}
	token, err = machine.Token(t.Context())
	if err != nil || token.RefreshToken != "" ||
		!slices.Equal(s.Audience(token.AccessToken), []string{"fake-audience", "https://a.example", "https://b.example"}) {
		t.Errorf("client credentials: %v, for %q", err, s.Audience(token.AccessToken))
	}
	machine.ClientSecret = "fake-other"
	if _, err := machine.Token(t.Context()); code(err) != "invalid_client" {
		t.Errorf("with another secret: %v", err)
	}
}

// TestDevice uses x/oauth2 as a public client, because the library does not authenticate at the device endpoint.
func TestDevice(t *testing.T) {
	t.Parallel()
	s := oauthtest.New(t, oauthtest.Options{ClientID: "fake-client"})
	config := oauth2.Config{
		ClientID: "fake-client",
		Endpoint: oauth2.Endpoint{TokenURL: s.TokenURL(), DeviceAuthURL: s.DeviceURL(), AuthStyle: oauth2.AuthStyleInParams},
	}
	for verdict, tt := range map[string]struct {
		decide func(string) bool
		want   string
	}{"approved": {s.Approve, ""}, "denied": {s.Deny, "access_denied"}, "expired": {s.Expire, "expired_token"}} {
		t.Run(verdict, func(t *testing.T) {
			t.Parallel() // the library waits a second before it asks
			device, err := config.DeviceAuth(t.Context())
			if err != nil || !tt.decide(device.UserCode) {
				t.Fatal(err)
			}
			token, err := config.DeviceAccessToken(t.Context(), device)
			if code(err) != tt.want || tt.want == "" && !s.Live(token.AccessToken) {
				t.Error(err)
			}
		})
	}
}

// code returns the error code (RFC 6749 section 5.2) from an error of x/oauth2.
func code(err error) string {
	var refused *oauth2.RetrieveError
	errors.As(err, &refused)
	if refused == nil {
		return ""
	}
	return refused.ErrorCode
}

// TestOpenID discovers the server, verifies its ID tokens and asks who signed in, with two libraries.
func TestOpenID(t *testing.T) {
	t.Parallel()
	s := oauthtest.New(t, oauthtest.Options{Ask: true, ProfileScope: "profile"})
	party, err := rp.NewRelyingPartyOIDC(t.Context(), s.Issuer(), "fake-client", "", callback, []string{"openid", "profile"},
		rp.WithVerifierOpts(rp.WithNonce(func(context.Context) string { return "fake-nonce" })))
	if err != nil {
		t.Fatal(err)
	}
	provider, err := gooidc.NewProvider(t.Context(), s.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	authorize := func(t *testing.T, decision, scope string) (url.Values, string) {
		verifier := oauth2.GenerateVerifier()
		address := rp.AuthURL("fake-state", party, rp.WithCodeChallenge(oidc.NewSHACodeChallenge(verifier)),
			func() []oauth2.AuthCodeOption {
				return []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("nonce", "fake-nonce"), oauth2.SetAuthURLParam("scope", scope)}
			})
		return answer(t, address, decision), verifier
	}
	got, verifier := authorize(t, "allow", "openid profile")
	tokens, err := rp.CodeExchange[*oidc.IDTokenClaims](t.Context(), got.Get("code"), party, rp.WithCodeVerifier(verifier))
	if err != nil || tokens.IDTokenClaims.Email != "alice@example.com" {
		t.Fatalf("exchange: %v", err)
	}
	if _, err := provider.Verifier(&gooidc.Config{ClientID: "fake-client"}).Verify(t.Context(), tokens.IDToken); err != nil {
		t.Errorf("go-oidc: %v", err)
	}
	info, err := rp.Userinfo[*oidc.UserInfo](t.Context(), tokens.AccessToken, "Bearer", tokens.IDTokenClaims.Subject, party)
	if err != nil || info.Email != "alice@example.com" {
		t.Errorf("userinfo: %v", err)
	}
	if err := rp.RevokeToken(t.Context(), party, tokens.RefreshToken, "refresh_token"); err != nil || s.Live(tokens.AccessToken) {
		t.Errorf("revoked: %v", err)
	}
	if got, _ := authorize(t, "deny", "openid"); got.Get("error") != "access_denied" || got.Get("code") != "" ||
		got.Get("state") != "fake-state" {
		t.Errorf("denied: %v", got)
	}

	// The same client, and a server whose ID tokens are wrong.
	for name, fault := range map[string]oauthtest.IDFault{
		"expired": {Clock: -time.Hour}, "other key": {OtherKey: true}, "alg none": {Unsigned: true}, "nonce": {Nonce: "fake-other"},
		"audience": {Audience: "fake-other"}, "issuer": {Issuer: "https://evil.example.com"},
	} {
		s.ID = fault
		got, verifier := authorize(t, "allow", "openid")
		if _, err := rp.CodeExchange[*oidc.IDTokenClaims](t.Context(), got.Get("code"), party,
			rp.WithCodeVerifier(verifier)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	s.ID = oauthtest.IDFault{Issuer: "https://evil.example.com"}
	if _, err := gooidc.NewProvider(t.Context(), s.Issuer()); err == nil {
		t.Error("another issuer: taken")
	}
}

// TestRedirects: the server redirects only to addresses that are the client's.
func TestRedirects(t *testing.T) {
	t.Parallel()
	s := oauthtest.New(t, oauthtest.Options{})
	query := func(redirect string) string {
		return s.AuthorizeURL() + "?" + url.Values{
			"client_id":             {"fake-client"},
			"response_type":         {"code"},
			"state":                 {"fake-state"},
			"redirect_uri":          {redirect},
			"code_challenge_method": {"S256"},
			"code_challenge":        {oauth2.S256ChallengeFromVerifier("fake")},
		}.Encode()
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for redirect, want := range map[string]int{
		"http://127.0.0.1:1/callback": 302, "http://127.0.0.1:65535/callback": 302, "http://localhost:2/callback": 302,
		"http://[::1]:3/callback": 302, s.PasteURL(): 302,
		"https://evil.example.com/callback": 400, "http://127.0.0.1.example.com/callback": 400, "http://127.0.0.1:1/other": 400,
		"": 400,
	} {
		resp, err := browser.Get(query(redirect))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%q: %d, want %d", redirect, resp.StatusCode, want)
		}
	}
}

// TestScopeAndFaultsAt: a token without the scope is refused with the scope's name, and each endpoint can misbehave
// separately.
func TestScopeAndFaultsAt(t *testing.T) {
	t.Parallel()
	s := oauthtest.New(t, oauthtest.Options{ProfileScope: "user:other"})
	ask := func(address string) *http.Response {
		req, _ := http.NewRequest(http.MethodGet, address, nil)
		req.Header.Set("Authorization", "Bearer "+s.Issue().AccessToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if resp := ask(s.ProfileURL()); resp.StatusCode != 403 ||
		!strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="insufficient_scope", scope="user:other"`) {
		t.Errorf("without the scope: %d, %s", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
	s.SetFaultAt("/api/whoami", oauthtest.Fault{Times: 2, Status: 503})
	for i, want := range []int{503, 503, 200} {
		if resp := ask(s.APIURL()); resp.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i, resp.StatusCode, want)
		}
	}
	if got := s.Hits("/api/whoami"); got != 3 || s.Counts().API != 1 {
		t.Errorf("%d hits, %+v", got, s.Counts())
	}
}

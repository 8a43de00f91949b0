package httpauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// stored is the service's own sign-in in one of the states of the table.
func stored(t *testing.T, state string) *Agent {
	t.Helper()
	p := protocoltest.Profile{Name: "main", Token: "fake-stored-1", Expiry: time.Now().Add(time.Hour)}
	switch state {
	case "live":
	case "expired":
		p.Err = &protocol.Error{Code: protocol.CodeExpired, Message: "expired"}
	case "revoked":
		p.Err = &protocol.Error{Code: protocol.CodeLoginRequired, Message: "revoked"}
	case "absent":
		p.Err = &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored"}
	case "provider down":
		p.Err = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider answered 503"}
	case "misconfigured":
		p.Err = &protocol.Error{Code: protocol.CodeConfig, Message: "the client id is not known"}
	case "agent down":
		a := NewAgent(protocol.NewPool(protocol.NewClient(filepath.Join(protocoltest.SocketDir(t), "agent.sock")), 0), "")
		t.Cleanup(func() { a.Close() })
		return a
	}
	a := NewAgent(protocoltest.NewFake(p), "")
	t.Cleanup(func() { a.Close() })
	return a
}

// outcome is the answer to a request.
type outcome struct {
	status    int
	challenge string
	retry     string
	text      string // of the body, or what the handler saw
}

var (
	missing  = outcome{401, `Bearer`, "", "a bearer token is required\n"}
	noSignIn = outcome{401, `Bearer`, "", "authentication is required: the service is not signed in\n"}
	invalid  = outcome{401, `Bearer error="invalid_token", error_description="the bearer token is not accepted"`, "",
		"the bearer token is not accepted\n"}
	badHeader = outcome{400, `Bearer error="invalid_request", error_description="the Authorization header is malformed"`, "",
		"the Authorization header is malformed\n"}
	later    = outcome{503, "", "5", "authentication is not available at the moment\n"}
	broken   = outcome{500, "", "", "authentication is not configured correctly\n"}
	asBearer = outcome{200, "", "", "fake-good-1"}
	asStored = outcome{200, "", "", "fake-stored-1"}
)

// TestRequireTable tries every combination of what a request carries, what is configured and in which state the service's
// own sign-in is.
func TestRequireTable(t *testing.T) {
	t.Parallel()
	// What each header means to a policy that accepts fake-good-1, and to one that accepts no bearer token.
	headers := []struct {
		name       string
		fields     []string
		configured outcome
		otherwise  outcome
		fallsBack  bool // without any bearer configured, mode Either goes by the stored sign-in
	}{
		{"absent", nil, missing, missing, true},
		{"right", []string{"Bearer fake-good-1"}, asBearer, invalid, false},
		{"right, scheme in small letters", []string{"bearer fake-good-1"}, asBearer, invalid, false},
		{"wrong", []string{"Bearer fake-bad-1"}, invalid, invalid, false},
		{"a beginning of the right one", []string{"Bearer fake-good-"}, invalid, invalid, false},
		{"the right one and more", []string{"Bearer fake-good-1x"}, invalid, invalid, false},
		{"the stored one", []string{"Bearer fake-stored-1"}, invalid, invalid, false},
		{"empty", []string{""}, badHeader, badHeader, false},
		{"no token", []string{"Bearer"}, badHeader, badHeader, false},
		{"white space", []string{"Bearer    "}, badHeader, badHeader, false},
		{"very long", []string{"Bearer " + strings.Repeat("a", 1<<20)}, badHeader, badHeader, false},
		{"as long as can be", []string{"Bearer " + strings.Repeat("a", protocol.MaxToken)}, invalid, invalid, false},
		{"twice", []string{"Bearer fake-good-1", "Bearer fake-good-1"}, badHeader, badHeader, false},
		{"right and wrong", []string{"Bearer fake-good-1", "Bearer fake-bad-1"}, badHeader, badHeader, false},
		{"another scheme", []string{"Basic ZmFrZTpnb29k"}, missing, missing, false},
		{"a control character", []string{"Bearer fake-good-1\x00"}, badHeader, badHeader, false},
		{"a line feed", []string{"Bearer fake-good-1\nX: y"}, badHeader, badHeader, false},
	}
	states := map[string]outcome{"live": asStored, "expired": noSignIn, "revoked": noSignIn, "absent": noSignIn,
		"provider down": later, "agent down": later, "misconfigured": broken}
	for state, own := range states {
		for _, mode := range []Mode{Bearer, Stored, Either} {
			for _, configured := range []bool{true, false} {
				policy := Policy{Mode: mode}
				if configured {
					policy.Tokens = []protocol.Secret{protocol.NewSecret("fake-good-1")}
				}
				if configured == (mode == Stored) && mode != Either {
					continue // refused when it is made: see TestRequireRefuses
				}
				t.Run(
					state+"/"+map[Mode]string{Bearer: "bearer", Stored: "stored", Either: "either"}[mode]+map[bool]string{true: ", token",
						false: ""}[configured],
					func(t *testing.T) {
						t.Parallel()
						if mode != Bearer {
							policy.Stored = stored(t, state)
						}
						guard, err := Require(policy)
						if err != nil {
							t.Fatal(err)
						}
						for _, h := range headers {
							want := h.configured
							switch {
							case mode == Stored, mode == Either && !configured && h.fallsBack:
								want = own
							case !configured:
								want = h.otherwise
							}
							check(t, h.name, guard, h.fields, want)
						}
					},
				)
			}
		}
	}
}

// check sends a request with and without Accept, and compares the answers.
func check(t *testing.T, name string, guard func(http.Handler) http.Handler, authorization []string, want outcome) {
	t.Helper()
	handler := guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := FromContext(r.Context())
		if !ok {
			t.Errorf("%s: nobody is in the context", name)
			return
		}
		token, err := who.AccessToken(r.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		io.WriteString(w, token.Reveal())
	}))
	for _, accept := range []string{"", "application/json"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"] = authorization
		if authorization == nil {
			delete(r.Header, "Authorization")
		}
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		got := outcome{w.Code, w.Header().Get("WWW-Authenticate"), w.Header().Get("Retry-After"), w.Body.String()}
		if w.Code != http.StatusOK {
			if len(w.Header()["Www-Authenticate"]) > 1 || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s: header %v", name, w.Header())
			}
			if accept != "" {
				var body struct {
					Error       string `json:"error"`
					Description string `json:"error_description"`
				}
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error == "" ||
					w.Header().Get("Content-Type") != "application/json" {
					t.Errorf("%s: %v, %q", name, w.Header(), w.Body)
				}
				if code := body.Error; strings.HasPrefix(code, "in") && !strings.Contains(got.challenge, `error="`+code+`"`) {
					t.Errorf("%s: the body says %s, the challenge %s", name, code, got.challenge)
				}
				got.text = body.Description + "\n"
			}
		}
		if got != want {
			t.Errorf("%s, accepting %q:\n got %+v\nwant %+v", name, accept, got, want)
		}
	}
}

// TestRequireRefuses: a policy that would accept nothing, or anything, is refused.
func TestRequireRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secrets := func(list ...string) (s []protocol.Secret) {
		for _, text := range list {
			s = append(s, protocol.NewSecret(text))
		}
		return s
	}
	own := Static{protocol.NewSecret("fake-1")}
	for name, p := range map[string]Policy{
		"no mode":                  {Tokens: secrets("fake-1")},
		"no such mode":             {Mode: 4, Tokens: secrets("fake-1"), Stored: own},
		"bearer of nothing":        {Mode: Bearer},
		"an empty token":           {Mode: Bearer, Tokens: secrets("")},
		"an empty one among good":  {Mode: Bearer, Tokens: secrets("fake-1", "")},
		"the zero secret":          {Mode: Bearer, Tokens: []protocol.Secret{{}}},
		"white space":              {Mode: Bearer, Tokens: secrets(" \t\n")},
		"a token that can't come":  {Mode: Bearer, Tokens: secrets("fake 1")},
		"stored of nobody":         {Mode: Stored},
		"either of nobody":         {Mode: Either, Tokens: secrets("fake-1")},
		"stored with tokens":       {Mode: Stored, Stored: own, Tokens: secrets("fake-1")},
		"no file":                  {Mode: Bearer, TokenFile: filepath.Join(dir, "none")},
		"a folder":                 {Mode: Bearer, TokenFile: dir},
		"an empty file":            {Mode: Bearer, TokenFile: write("empty", "", 0o600)},
		"a file of white space":    {Mode: Bearer, TokenFile: write("blank", "\n \n", 0o600)},
		"a file with a bad line":   {Mode: Bearer, TokenFile: write("bad", "fake-1\nfake 2\n", 0o600)},
		"a file that others write": {Mode: Bearer, TokenFile: write("open", "fake-1\n", 0o666)},
		"a nil validator":          {Mode: Bearer, Validators: []Validator{nil}},
		"a quote in the realm":     {Mode: Bearer, Tokens: secrets("fake-1"), Realm: `a"b`},
		"a line in a scope":        {Mode: Bearer, Tokens: secrets("fake-1"), Scopes: []string{"a\nb"}},
	} {
		if _, err := Require(p); !errors.Is(err, protocol.ErrConfig) && !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("%s: %v, want ErrConfig or ErrInvalid", name, err)
		} else if strings.Contains(err.Error(), "fake") {
			t.Errorf("%s: the error quotes a token: %v", name, err)
		}
	}
}

// TestRotation: during a rotation both the old and the new token are accepted.
func TestRotation(t *testing.T) {
	t.Parallel()
	guard, err := Require(
		Policy{Mode: Bearer, Tokens: []protocol.Secret{protocol.NewSecret("fake-old-1"), protocol.NewSecret(" fake-new-2\n")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"fake-old-1", "fake-new-2"} {
		check(t, token, guard, []string{"Bearer " + token}, outcome{200, "", "", token})
	}
	check(t, "another", guard, []string{"Bearer fake-old-2"}, invalid)
}

// TestTokenFile: changes count within a second, and a file that can't be read accepts nothing.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		write("fake-a\n\nfake-b\r\n")
		guard, err := Require(Policy{Mode: Bearer, TokenFile: path})
		if err != nil {
			t.Fatal(err)
		}
		bearer := func(token string, want outcome) {
			t.Helper()
			check(t, token, guard, []string{"Bearer " + token}, want)
		}
		ok := func(token string) outcome { return outcome{200, "", "", token} }
		bearer("fake-a", ok("fake-a"))
		bearer("fake-b", ok("fake-b"))
		bearer("fake-c", invalid)

		write("fake-b\nfake-c\n")
		time.Sleep(reloadAfter)
		bearer("fake-a", invalid)
		bearer("fake-b", ok("fake-b"))
		bearer("fake-c", ok("fake-c"))

		write("")
		time.Sleep(reloadAfter)
		bearer("fake-b", later)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reloadAfter)
		bearer("fake-b", later)

		write("fake-d\n")
		time.Sleep(reloadAfter)
		bearer("fake-d", ok("fake-d"))
		bearer("fake-b", invalid)
	})
}

// vouched is a Validator that accepts one token.
type vouched struct {
	token    string
	identity protocol.Identity
	err      error
}

func (v vouched) Validate(_ context.Context, token string) (protocol.Identity, error) {
	if v.err != nil {
		return protocol.Identity{}, v.err
	}
	if token != v.token {
		return protocol.Identity{}, notValid("it is another one")
	}
	return v.identity, nil
}

// TestForeign: the identity that a validator finds is in the context. If a validator can't be asked, that is no reason to
// refuse.
func TestForeign(t *testing.T) {
	t.Parallel()
	alice := vouched{token: "fake-foreign-1", identity: protocol.Identity{Account: "alice", Scopes: []string{"read", "write"}}}
	down := vouched{err: &protocol.Error{Code: protocol.CodeUnavailable, Message: "down"}}
	for _, tt := range []struct {
		name       string
		validators []Validator
		scopes     []string
		token      string
		want       outcome
	}{
		{"vouched for", []Validator{alice}, nil, "fake-foreign-1", outcome{200, "", "", "fake-foreign-1"}},
		{"by the second", []Validator{down, alice}, nil, "fake-foreign-1", outcome{200, "", "", "fake-foreign-1"}},
		{"by nobody", []Validator{alice}, nil, "fake-foreign-2", invalid},
		{"by nobody who could be asked", []Validator{alice, down}, nil, "fake-foreign-2", later},
		{"with its scopes", []Validator{alice}, []string{"write"}, "fake-foreign-1", outcome{200, "", "", "fake-foreign-1"}},
		{"without one", []Validator{alice}, []string{"read", "admin"}, "fake-foreign-1",
			outcome{403, `Bearer error="insufficient_scope", error_description="a scope is missing", scope="read admin"`, "",
				"a scope is missing\n"}},
		{"one of the service's own has every scope", []Validator{alice}, []string{"admin"}, "fake-good-1", asBearer},
	} {
		guard, err := Require(
			Policy{
				Mode:       Bearer,
				Tokens:     []protocol.Secret{protocol.NewSecret("fake-good-1")},
				Validators: tt.validators,
				Scopes:     tt.scopes,
			},
		)
		if err != nil {
			t.Fatal(err)
		}
		check(t, tt.name, guard, []string{"Bearer " + tt.token}, tt.want)
	}

	guard, err := Require(Policy{Mode: Bearer, Validators: []Validator{alice}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer fake-foreign-1")
	guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		who, _ := FromContext(r.Context())
		profile, err := who.UserProfile(r.Context())
		if err != nil || profile.Account != "alice" || !slices.Equal(profile.Scopes, []string{"read", "write"}) {
			t.Errorf("%+v, %v", profile, err)
		}
		profile.Scopes[0] = "changed by a handler"
		if again, _ := who.UserProfile(r.Context()); again.Scopes[0] != "read" {
			t.Error("a handler can change what the next one sees")
		}
		if ok, err := who.Authenticated(r.Context()); !ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
		if c, err := who.Credentials(r.Context()); err != nil || c.AccessToken.Reveal() != "fake-foreign-1" {
			t.Errorf("%+v, %v", c, err)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// TestStoredScopes: mode Stored checks the scopes of the sign-in.
func TestStoredScopes(t *testing.T) {
	t.Parallel()
	guard, err := Require(
		Policy{Mode: Stored, Stored: scoped{stored(t, "live"), []string{"read"}}, Scopes: []string{"read"}, Realm: "fake realm"},
	)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "granted", guard, nil, asStored)
	guard, err = Require(Policy{Mode: Stored, Stored: scoped{stored(t, "live"), nil}, Scopes: []string{"read"}, Realm: "fake realm"})
	if err != nil {
		t.Fatal(err)
	}
	check(t, "not granted", guard, nil, outcome{403,
		`Bearer realm="fake realm", error="insufficient_scope", error_description="a scope is missing", scope="read"`, "",
		"a scope is missing\n"})
}

// scoped is a sign-in with scopes.
type scoped struct {
	Authenticator
	scopes []string
}

func (s scoped) Credentials(context.Context) (Credentials, error) {
	return Credentials{Scopes: s.scopes}, nil
}

// TestContext: the identity is found in contexts that a handler derives. Without a guard there is none.
func TestContext(t *testing.T) {
	t.Parallel()
	if _, ok := FromContext(t.Context()); ok {
		t.Error("somebody is in an empty context")
	}
	guard, err := Require(Policy{Mode: Bearer, Tokens: []protocol.Secret{protocol.NewSecret("fake-good-1")}})
	if err != nil {
		t.Fatal(err)
	}
	type key struct{}
	r := httptest.NewRequest("GET", "/", nil)
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, "outer"))
	r = r.WithContext(ctx)
	r.Header.Set("Authorization", "Bearer fake-good-1")
	guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		derived, stop := context.WithTimeout(r.Context(), time.Hour)
		defer stop()
		if who, ok := FromContext(derived); !ok || who == nil {
			t.Error("a derived context lost it")
		}
		if derived.Value(key{}) != "outer" {
			t.Error("the outer values are lost")
		}
		cancel()
		if <-derived.Done(); derived.Err() == nil {
			t.Error("the outer end is lost")
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}

// TestHead: a HEAD request gets the headers and no body.
func TestHead(t *testing.T) {
	t.Parallel()
	guard, err := Require(Policy{Mode: Bearer, Tokens: []protocol.Secret{protocol.NewSecret("fake-good-1")}})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	guard(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("HEAD", "/", nil))
	if w.Code != 401 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("%d, %q, %v", w.Code, w.Body, w.Header())
	}
}

package httpauth

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/protocol"
)

// issuer is the part of an OpenID provider that publishes keys. It answers within the process, so its clock is the test's.
type issuer struct {
	mu      sync.Mutex
	url     string
	keys    map[string]*ecdsa.PrivateKey
	current string
	down    bool
	fetches int    // of the keys
	keysAt  string // "": at url
	odd     []any  // published beside the keys
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{url: "https://sso.example.com", keys: map[string]*ecdsa.PrivateKey{}}
	i.rotate(t, "key-1")
	return i
}

func (i *issuer) rotate(t *testing.T, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[name], i.current = key, name
}

func (i *issuer) set(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// RoundTrip answers requests to the issuer.
func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	switch req.URL.Path {
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).
			Encode(map[string]any{"issuer": i.url, "jwks_uri": cmp.Or(i.keysAt, i.url+"/keys"),
				"id_token_signing_alg_values_supported": []string{"none", "HS256", "ES256"},
				"userinfo_endpoint":                     7, "token_endpoint": "/relative"})
	case "/keys":
		i.fetches++
		keys := slices.Clone(i.odd)
		for name, key := range i.keys {
			keys = append(keys, jose.JSONWebKey{Key: key.Public(), KeyID: name, Algorithm: "ES256", Use: "sig"})
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	return w.Result(), nil
}

// sign returns a token of the issuer's with the usual claims, changed by others. nil removes a claim.
func (i *issuer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	i.mu.Lock()
	key, name := i.keys[i.current], i.current
	i.mu.Unlock()
	return signed(t, i.url, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: name}}, claims)
}

func signed(t *testing.T, iss string, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": iss, "aud": "service", "sub": "alice", "scope": "read write",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := token.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func newJWT(t *testing.T, i *issuer) Validator {
	t.Helper()
	v, err := NewJWT(JWT{Issuer: i.url, Audience: "service", Client: &http.Client{Transport: i}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestJWT(t *testing.T) {
	t.Parallel()
	i, stranger := newIssuer(t), newIssuer(t)
	v := newJWT(t, i)
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	none := "eyJhbGciOiJub25lIn0." + strings.Split(i.sign(t, nil), ".")[1] + "."
	public, err := json.Marshal(i.keys["key-1"].Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		token string
		want  error
	}{
		"good":                   {i.sign(t, nil), nil},
		"an expiry that is none": {i.sign(t, map[string]any{"exp": "tomorrow"}), protocol.ErrDenied},
		"claims that nobody needs": {i.sign(t, map[string]any{"iat": "x", "at_hash": 7, "nonce": 1,
			"_claim_names": map[string]any{"groups": "src1"}, "aud": []any{7, "service"}, "exp": fmt.Sprint(at(time.Hour))}), nil},
		"for several":                    {i.sign(t, map[string]any{"aud": []string{"another", "service"}}), nil},
		"just expired, by another clock": {i.sign(t, map[string]any{"exp": at(-5 * time.Second)}), nil},
		"expired":                        {i.sign(t, map[string]any{"exp": at(-time.Minute)}), protocol.ErrDenied},
		"without an expiry":              {i.sign(t, map[string]any{"exp": nil}), protocol.ErrDenied},
		"not valid yet":                  {i.sign(t, map[string]any{"nbf": at(time.Hour)}), protocol.ErrDenied},
		"valid from no time on":          {i.sign(t, map[string]any{"nbf": "tomorrow"}), protocol.ErrDenied},
		"for another service":            {i.sign(t, map[string]any{"aud": "another"}), protocol.ErrDenied},
		"for nobody":                     {i.sign(t, map[string]any{"aud": nil}), protocol.ErrDenied},
		"of another issuer":              {i.sign(t, map[string]any{"iss": "https://evil.example"}), protocol.ErrDenied},
		"of an issuer that begins alike": {i.sign(t, map[string]any{"iss": i.url + "/"}), protocol.ErrDenied},
		"of nobody":                      {i.sign(t, map[string]any{"iss": nil}), protocol.ErrDenied},
		"signed by a stranger":           {stranger.sign(t, nil), protocol.ErrDenied},
		"not signed":                     {none, protocol.ErrDenied},
		"signed with the public key": {signed(t, i.url, jose.SigningKey{Algorithm: jose.HS256,
			Key: append(public, make([]byte, 32)...)}, nil), protocol.ErrDenied},
		"changed":       {i.sign(t, nil)[:60] + "A" + i.sign(t, nil)[61:], protocol.ErrDenied},
		"no token":      {"fake-1", protocol.ErrDenied},
		"dots":          {"..", protocol.ErrDenied},
		"too many dots": {i.sign(t, nil) + ".fake.fake", protocol.ErrDenied},
	} {
		id, err := v.Validate(t.Context(), tt.token)
		if !errors.Is(err, tt.want) || err != nil && tt.want == nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), tt.token) {
			t.Errorf("%s: the error quotes the token", name)
		}
		if err == nil && (id.Account != "alice" || !slices.Equal(id.Scopes, []string{"read", "write"})) {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

// TestJWTKeys: keys are cached, fetched again after a rotation, and not fetched for every token that somebody makes up.
func TestJWTKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i, stranger := newIssuer(t), newIssuer(t)
		stranger.rotate(t, "made-up")
		v := newJWT(t, i)
		validate := func(token string, want error) {
			t.Helper()
			if _, err := v.Validate(t.Context(), token); !errors.Is(err, want) || err != nil && want == nil {
				t.Errorf("%v, want %v", err, want)
			}
		}
		i.set(true)
		validate(i.sign(t, nil), protocol.ErrUnavailable)
		i.set(false)
		validate(i.sign(t, nil), protocol.ErrUnavailable) // it is not asked again at once
		time.Sleep(failedFetchPause)
		for range 100 {
			validate(i.sign(t, nil), nil)
		}
		for range 100 {
			validate(stranger.sign(t, nil), protocol.ErrDenied)
		}
		if i.fetches != 1 {
			t.Errorf("the keys were fetched %d times, want once", i.fetches)
		}
		i.rotate(t, "key-2")
		time.Sleep(keysPause)
		validate(i.sign(t, nil), nil)
		if i.fetches != 2 {
			t.Errorf("the keys were fetched %d times, want twice", i.fetches)
		}
		i.set(true)
		validate(i.sign(t, nil), nil) // its key is known
		time.Sleep(keysPause)
		validate(stranger.sign(t, nil), protocol.ErrUnavailable) // it might be a new key
		validate(i.sign(t, nil), nil)
		i.set(false)
		time.Sleep(failedFetchPause)
		validate(stranger.sign(t, nil), protocol.ErrDenied)
		if i.fetches != 3 {
			t.Errorf("the keys were fetched %d times, want three times", i.fetches)
		}
	})
}

// One key that can't be used does not affect tokens that another key has signed. If no key can be used, that is not the
// token's fault.
func TestJWTUnusableKeys(t *testing.T) {
	t.Parallel()
	odd := []any{map[string]any{"kty": "RSA", "n": "AQAB", "e": "AQAB", "x5c": []string{""}}, map[string]any{"kty": "fake"},
		map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "key-1"}, nil, "fake"}
	i := newIssuer(t)
	i.odd = odd
	if id, err := newJWT(t, i).Validate(t.Context(), i.sign(t, nil)); err != nil || id.Account != "alice" {
		t.Errorf("%+v, %v", id, err)
	}
	token := i.sign(t, nil)
	i.keys, i.odd = nil, odd[1:]
	if _, err := newJWT(t, i).Validate(t.Context(), token); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("without a key that can be used: %v", err)
	}
}

// TestJWTHerd: callers who come while the keys are being fetched wait for them, each within its own context.
func TestJWTHerd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		slow := roundTrip(func(req *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Second)
			return i.RoundTrip(req)
		})
		v, err := NewJWT(JWT{Issuer: i.url, Audience: "service", Client: &http.Client{Transport: slow}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.(*jwtValidator).issuerKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		token := i.sign(t, nil)
		var herd sync.WaitGroup
		for range 100 {
			herd.Go(func() {
				if _, err := v.Validate(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		herd.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if _, err := v.Validate(ctx, token); !errors.Is(err, protocol.ErrUnavailable) || time.Since(began) != time.Second {
				t.Errorf("who could not wait: %v after %v", err, time.Since(began))
			}
		})
		herd.Wait()
		if i.fetches != 1 {
			t.Errorf("the keys were fetched %d times", i.fetches)
		}
	})
}

// The keys of an https issuer must come over https, also from this machine, where any program may answer.
func TestJWTKeysInTheClear(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.keysAt = "http://127.0.0.1/keys"
	if _, err := newJWT(t, i).Validate(t.Context(), i.sign(t, nil)); !errors.Is(err, protocol.ErrUnavailable) || i.fetches != 0 {
		t.Errorf("%v, and they were fetched %d times", err, i.fetches)
	}
}

func TestForeignConfig(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() (Validator, error){
		"no audience":         func() (Validator, error) { return NewJWT(JWT{Issuer: "https://sso.example.com"}) },
		"no issuer":           func() (Validator, error) { return NewJWT(JWT{Audience: "service"}) },
		"issuer in the clear": func() (Validator, error) { return NewJWT(JWT{Issuer: "http://sso.example.com", Audience: "service"}) },
		"no endpoint":         func() (Validator, error) { return NewIntrospection(Introspection{ClientID: "service"}) },
		"no client":           func() (Validator, error) { return NewIntrospection(Introspection{URL: "https://sso.example.com/i"}) },
		"endpoint in the clear": func() (Validator, error) {
			return NewIntrospection(Introspection{URL: "http://sso.example.com/i", ClientID: "service"})
		},
	} {
		if _, err := make(); !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// registry is an introspection endpoint that answers within the process.
type registry struct {
	asked  atomic.Int32
	delay  time.Duration
	answer func(token string) (status int, body string)
	form   atomic.Pointer[url.Values]
	basic  atomic.Pointer[[2]string]
}

func (r *registry) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked.Add(1)
	time.Sleep(r.delay)
	if err := req.ParseForm(); err != nil {
		return nil, err
	}
	user, password, _ := req.BasicAuth()
	r.form.Store(&req.PostForm)
	r.basic.Store(&[2]string{user, password})
	status, body := r.answer(req.PostForm.Get("token"))
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	w.WriteString(body)
	return w.Result(), nil
}

func newIntrospection(t *testing.T, r *registry, c Introspection) Validator {
	t.Helper()
	c.URL, c.ClientID, c.ClientSecret, c.Client = "https://sso.example.com/introspect", "the service", protocol.NewSecret(
		"fake:secret",
	), &http.Client{
		Transport: r,
	}
	v, err := NewIntrospection(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"active": {200,
			fmt.Sprintf(`{"active":true,"sub":"alice","scope":"read write","exp":%d,"aud":["service"],"iss":"https://sso.example.com"}`,
				now+3600), nil},
		"one audience": {200,
			`{"active":true,"sub":"alice","scope":"read write","aud":"service","iss":"https://sso.example.com"}`, nil},
		"times that say nothing": {200,
			`{"active":true,"sub":"alice","scope":["read",1,"write"],"exp":null,"nbf":null,"aud":[1,"service"],"iss":"https://sso.example.com"}`, nil},
		"a time in quotes": {200, fmt.Sprintf(
			`{"active":true,"sub":"alice","scope":"read write","exp":"%d","aud":"service","iss":"https://sso.example.com","client_id":{},"iat":"x"}`,
			now+3600), nil},
		"a past time in quotes": {200, fmt.Sprintf(`{"active":true,"exp":"%d","aud":"service","iss":"https://sso.example.com"}`, now-1), protocol.ErrDenied},
		"a past date":           {200, `{"active":true,"exp":"2026-01-01T00:00:00Z","aud":"service","iss":"https://sso.example.com"}`, protocol.ErrDenied},
		"times that are none": {200,
			`{"active":true,"sub":"alice","scope":"read write","exp":"tomorrow","nbf":"NaN","aud":"service","iss":"https://sso.example.com"}`,
			nil},
		"no string as audience":   {200, `{"active":true,"aud":[1],"iss":"https://sso.example.com"}`, protocol.ErrDenied},
		"inactive":                {200, `{"active":false}`, protocol.ErrDenied},
		"does not say":            {200, `{"sub":"alice"}`, protocol.ErrDenied},
		"says so in a string":     {200, `{"active":"true"}`, protocol.ErrDenied},
		"expired":                 {200, fmt.Sprintf(`{"active":true,"exp":%d,"aud":"service","iss":"https://sso.example.com"}`, now-1), protocol.ErrDenied},
		"not yet":                 {200, fmt.Sprintf(`{"active":true,"nbf":%d,"aud":"service","iss":"https://sso.example.com"}`, now+3600), protocol.ErrDenied},
		"another audience":        {200, `{"active":true,"aud":"another","iss":"https://sso.example.com"}`, protocol.ErrDenied},
		"no audience":             {200, `{"active":true,"iss":"https://sso.example.com"}`, protocol.ErrDenied},
		"another issuer":          {200, `{"active":true,"aud":"service","iss":"https://evil.example"}`, protocol.ErrDenied},
		"not an object":           {200, `[]`, protocol.ErrUnavailable},
		"null":                    {200, `null`, protocol.ErrUnavailable},
		"HTML":                    {200, `<html>fake-1</html>`, protocol.ErrUnavailable},
		"larger than is sensible": {200, `{"active":true,"x":"` + strings.Repeat("a", maxReply) + `"}`, protocol.ErrUnavailable},
		"we are not known there":  {401, `{"active":true}`, protocol.ErrUnavailable},
		"an error as a success":   {200, `{"error":"server_error"}`, protocol.ErrUnavailable},
		"not known, as a success": {200, `{"error":"invalid_client"}`, protocol.ErrUnavailable},
		"down":                    {503, `{"active":true}`, protocol.ErrUnavailable},
		"a redirect":              {302, `{"active":true}`, protocol.ErrUnavailable},
	} {
		r := &registry{answer: func(string) (int, string) { return tt.status, tt.body }}
		v := newIntrospection(t, r, Introspection{Audience: "service", Issuer: "https://sso.example.com"})
		id, err := v.Validate(t.Context(), "fake-1")
		if !errors.Is(err, tt.want) || err != nil && tt.want == nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "fake-1") {
			t.Errorf("%s: the error quotes the token or the answer", name)
		}
		if err == nil && (id.Account != "alice" || !slices.Equal(id.Scopes, []string{"read", "write"})) {
			t.Errorf("%s: %+v", name, id)
		}
		if form := *r.form.Load(); form.Get("token") != "fake-1" || *r.basic.Load() != [2]string{"the+service", "fake%3Asecret"} {
			t.Errorf("%s: asked with %v as %q", name, form, *r.basic.Load())
		}
	}
}

// TestIntrospectionCache: an answer is cached as long as it may be, whatever tokens strangers make up, and callers who wait
// share one request.
func TestIntrospectionCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := false
		r := &registry{delay: time.Millisecond}
		r.answer = func(token string) (int, string) {
			switch {
			case down:
				return 503, ""
			case token == "fake-odd":
				return 200, `{"active":true,"exp":"tomorrow"}`
			case token == "fake-short":
				return 200, fmt.Sprintf(`{"active":true,"exp":%d}`, time.Now().Unix()+5)
			}
			return 200, fmt.Sprintf(`{"active":%v}`, token == "fake-good")
		}
		v := newIntrospection(t, r, Introspection{Cache: 10})
		ask := func(token string, asked int32, want error) {
			t.Helper()
			before := r.asked.Load()
			if _, err := v.Validate(t.Context(), token); !errors.Is(err, want) || err != nil && want == nil {
				t.Errorf("%s: %v, want %v", token, err, want)
			}
			if n := r.asked.Load() - before; n != asked {
				t.Errorf("%s: asked %d times, want %d", token, n, asked)
			}
		}
		ask("fake-good", 1, nil)
		ask("fake-good", 0, nil)
		for n := range 100 {
			ask(fmt.Sprint("fake-", n), 1, protocol.ErrDenied)
		}
		ask("fake-good", 0, nil)
		ask("fake-99", 0, protocol.ErrDenied)
		if i := v.(*introspector); len(i.valid.verdicts) > 10 || len(i.invalid.verdicts) > 10 {
			t.Errorf("%d and %d are remembered, want 10 at most", len(i.valid.verdicts), len(i.invalid.verdicts))
		}
		time.Sleep(refusedKeep)
		ask("fake-99", 1, protocol.ErrDenied)
		time.Sleep(defaultKeep)
		ask("fake-good", 1, nil)
		ask("fake-odd", 1, nil)
		ask("fake-odd", 0, nil)
		time.Sleep(refusedKeep)
		ask("fake-odd", 1, nil)
		ask("fake-short", 1, nil)
		time.Sleep(5 * time.Second)
		ask("fake-short", 1, nil)

		// An outage says nothing about the token, so it is not cached.
		time.Sleep(defaultKeep)
		down = true
		ask("fake-good", 1, protocol.ErrUnavailable)
		down = false
		ask("fake-good", 1, nil)

		time.Sleep(defaultKeep)
		r.delay = time.Second
		before := r.asked.Load()
		var herd sync.WaitGroup
		for range 50 {
			herd.Go(func() {
				if _, err := v.Validate(t.Context(), "fake-good"); err != nil {
					t.Error(err)
				}
			})
		}
		herd.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if _, err := v.Validate(ctx, "fake-good"); !errors.Is(err, protocol.ErrUnavailable) {
				t.Errorf("who could not wait: %v", err)
			}
		})
		herd.Wait()
		if n := r.asked.Load() - before; n != 1 {
			t.Errorf("a herd asked %d times", n)
		}
	})
}

// TestIntrospectionBound: tokens that somebody makes up can cause only so many requests at once, and so many cache entries.
func TestIntrospectionBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		r := &registry{answer: func(token string) (int, string) {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second)
			running.Add(-1)
			return 200, fmt.Sprintf(`{"active":%v}`, strings.HasPrefix(token, "fake-good"))
		}}
		v := newIntrospection(t, r, Introspection{Concurrency: 4, Cache: 10})
		i := v.(*introspector)
		ask := func(ctx context.Context, token string) error { _, err := v.Validate(ctx, token); return err }
		if err := ask(t.Context(), "fake-good"); err != nil {
			t.Fatal(err)
		}
		var flood sync.WaitGroup
		var denied, busy atomic.Int32
		for n := range 1000 {
			flood.Go(func() {
				switch err := ask(t.Context(), fmt.Sprint("fake-", n/2)); { // two ask about each
				case errors.Is(err, protocol.ErrDenied):
					denied.Add(1)
				case errors.Is(err, protocol.ErrUnavailable):
					busy.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		if err := ask(t.Context(), "fake-good"); err != nil || time.Since(began) != 0 {
			t.Errorf("a token that is known waits: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := ask(ctx, "fake-other"); !errors.Is(err, protocol.ErrUnavailable) || time.Since(began) != 100*time.Millisecond {
			t.Errorf("who could not wait: %v after %v", err, time.Since(began))
		}
		i.mu.Lock()
		if n := len(i.running); n > 4 {
			t.Errorf("%d lookups are running", n)
		}
		i.mu.Unlock()
		flood.Wait()
		if most.Load() != 4 {
			t.Errorf("%d requests ran at once, want 4", most.Load())
		}
		if denied.Load() < 40 || denied.Load()+busy.Load() != 1000 || time.Since(began) > 2*requestTimeout {
			t.Errorf("%d denied and %d busy after %v", denied.Load(), busy.Load(), time.Since(began))
		}
		if len(i.valid.verdicts) > 10 || len(i.invalid.verdicts) > 10 || len(i.running) != 0 || len(i.slots) != 0 {
			t.Errorf("left: %d and %d verdicts, %d lookups, %d slots",
				len(i.valid.verdicts), len(i.invalid.verdicts), len(i.running), len(i.slots))
		}
		if err := ask(t.Context(), "fake-good-2"); err != nil {
			t.Errorf("after the flood: %v", err)
		}
	})
}

func TestIdentityOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]protocol.Identity{
		`{"sub":"a","email":"a@example.com","name":"A","scope":"x y"}`: {Account: "a", Email: "a@example.com", Name: "A",
			Scopes: []string{"x", "y"}},
		`{"sub":"a","username":"login","scp":["x","y"]}`: {Account: "a", Name: "login", Scopes: []string{"x", "y"}},
		`{"sub":7,"email":null,"name":["A"],"scope":{}}`: {},
		`{"sub":"a\nb\u001b[31m\u0085c"}`:                {Account: "ab[31mc"},
	} {
		var claims map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &claims); err != nil {
			t.Fatal(err)
		}
		got := identityOf(claims)
		if got.Fetched.IsZero() {
			t.Errorf("%s: nobody said so", text)
		}
		got.Fetched = time.Time{}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}

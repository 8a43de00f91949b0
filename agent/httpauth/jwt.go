package httpauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/keyset"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// keysPause is how long an issuer's keys are not fetched again. Anybody can send a token that names an unknown key.
	keysPause = 10 * time.Second
	// failedFetchPause is the same after a failure.
	failedFetchPause = time.Second
	// skew is how far an issuer's clock may be from ours.
	skew = 30 * time.Second
)

// JWT says which signed tokens are accepted (RFC 7519, RFC 9068).
type JWT struct {
	// Issuer must be the token's, character by character. Its keys are found as OpenID Connect Discovery says.
	Issuer string
	// Audience must be among the token's. It is the issuer's name for this service.
	Audience string
	// Client asks the issuer; nil: http.DefaultClient. Redirects are not followed.
	Client *http.Client
}

// NewJWT returns a [Validator] of tokens that an issuer has signed for an audience. It checks signature, issuer, audience and
// expiry. It asks the issuer nothing before the first token comes. It keeps the issuer's keys, and fetches them again for a token
// that none of them has signed, at most every 10 seconds. It fails with ErrConfig where issuer or audience is missing, and where
// the issuer's URL is not https.
func NewJWT(c JWT) (Validator, error) {
	if c.Audience == "" {
		return nil, config("without an audience any service's token would be accepted")
	}
	if err := checkURL("the issuer", c.Issuer); err != nil {
		return nil, err
	}
	return &jwtValidator{config: c, client: issuerClient(c.Client), gate: make(chan struct{}, 1)}, nil
}

type jwtValidator struct {
	config JWT
	client *http.Client
	keys   atomic.Pointer[remoteKeys] // nil until the issuer has been found

	gate   chan struct{} // holds one value while the issuer is looked for; unlike a mutex it lets a waiting caller give up
	failed time.Time     // when the issuer was not found the last time; for whoever holds the gate
}

// Validate implements [Validator].
func (v *jwtValidator) Validate(ctx context.Context, token string) (protocol.Identity, error) {
	if strings.Count(token, ".") != 2 {
		return protocol.Identity{}, notValid("it is not a signed token")
	}
	keys, err := v.issuerKeys(ctx)
	if err != nil {
		return protocol.Identity{}, err
	}
	payload, err := keys.verify(ctx, token)
	switch {
	case errors.Is(err, errKeysAway), ctx.Err() != nil:
		return protocol.Identity{}, notNow("the issuer's keys can't be fetched")
	case err != nil:
		return protocol.Identity{}, notValid(err.Error())
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(payload, &claims) != nil || claims == nil {
		return protocol.Identity{}, notValid("its claims are not a JSON object")
	}
	now := time.Now()
	expiry, hasExpiry := moment(claims["exp"])
	start, hasStart := moment(claims["nbf"])
	switch {
	case !keyset.IsIssuer(claim(claims["iss"]), v.config.Issuer):
		return protocol.Identity{}, notValid("it is from another issuer")
	case !audience(claims["aud"], v.config.Audience):
		return protocol.Identity{}, notValid("it is for another service")
	case !hasExpiry:
		return protocol.Identity{}, notValid("it does not say when it expires")
	case !now.Before(expiry.Add(skew)):
		return protocol.Identity{}, notValid("it has expired")
	case stated(claims["nbf"]) && (!hasStart || now.Add(skew).Before(start)):
		return protocol.Identity{}, notValid("it is not valid yet")
	}
	return identityOf(claims), nil
}

// issuerKeys returns the issuer's keys, for which it looks once.
func (v *jwtValidator) issuerKeys(ctx context.Context) (*remoteKeys, error) {
	if keys := v.keys.Load(); keys != nil {
		return keys, nil
	}
	away := notNow("the issuer can't be asked")
	select {
	case v.gate <- struct{}{}:
		defer func() { <-v.gate }()
	case <-ctx.Done():
		return nil, away
	}
	if keys := v.keys.Load(); keys != nil {
		return keys, nil
	}
	if time.Since(v.failed) < failedFetchPause {
		return nil, away
	}
	address, ok := v.discover(context.WithoutCancel(ctx))
	if !ok {
		v.failed = time.Now()
		return nil, away
	}
	v.keys.Store(&remoteKeys{client: v.client, url: address})
	return v.keys.Load(), nil
}

// discover asks the issuer where its keys are (OpenID Connect Discovery section 4). Of its description it reads nothing else.
func (v *jwtValidator) discover(ctx context.Context) (address string, ok bool) {
	place := strings.TrimSuffix(v.config.Issuer, "/") + "/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return "", false
	}
	status, body, err := send(v.client, req)
	var description struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &description) != nil || description.Issuer != v.config.Issuer {
		return "", false
	}
	// The keys of an https issuer never come over plain http, not even from this machine, where any program may answer.
	downgraded := !isPlain(v.config.Issuer) && isPlain(description.Keys)
	return description.Keys, !downgraded && checkURL("the issuer's jwks_uri", description.Keys) == nil
}

var errKeysAway = errors.New("the keys can't be fetched")

// remoteKeys are the keys that an issuer publishes at a URL.
type remoteKeys struct {
	client *http.Client
	url    string

	mu      sync.Mutex
	set     keyset.Set // as last fetched; nil: never
	err     error      // of the last fetch
	next    time.Time  // no fetch before
	running chan struct{}
}

// verify returns a token's payload if one of the keys has signed it. It fetches the keys again where none of those that it has
// did.
func (k *remoteKeys) verify(ctx context.Context, token string) ([]byte, error) {
	k.mu.Lock()
	set := k.set
	k.mu.Unlock()
	payload, err := set.Verify(token)
	if !errors.Is(err, keyset.ErrSignature) {
		return payload, err
	}
	if set, err = k.refresh(ctx); err != nil {
		return nil, err
	}
	return set.Verify(token)
}

// refresh returns the keys, and fetches them if that may be done again. Those who come while they are being fetched wait for
// that.
func (k *remoteKeys) refresh(ctx context.Context) (keyset.Set, error) {
	k.mu.Lock()
	if k.running == nil {
		if time.Now().Before(k.next) {
			defer k.mu.Unlock()
			return k.set, k.err
		}
		k.running = make(chan struct{})
		go k.fetch(context.WithoutCancel(ctx), k.running) // ends within the client's time-out
	}
	running := k.running
	k.mu.Unlock()
	select {
	case <-running:
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.set, k.err
	case <-ctx.Done():
		return nil, errKeysAway
	}
}

// fetch fetches the keys. Where that fails the old ones stay, for the tokens that they have signed.
func (k *remoteKeys) fetch(ctx context.Context, done chan struct{}) {
	set, err := k.ask(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err = err; err == nil {
		k.set, k.next = set, time.Now().Add(keysPause)
	} else {
		k.next = time.Now().Add(failedFetchPause)
	}
	k.running = nil
	close(done)
}

func (k *remoteKeys) ask(ctx context.Context) (keyset.Set, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, errKeysAway
	}
	status, body, err := send(k.client, req)
	if err != nil || status != http.StatusOK {
		return nil, errKeysAway
	}
	set, err := keyset.Parse(body)
	if err != nil {
		return nil, errKeysAway
	}
	return set, nil
}

package httpauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/ccagent/ccagent/protocol"
)

const (
	// keysPause is how long an issuer's keys are not fetched again: anybody can send a token that names an unknown key.
	keysPause = 10 * time.Second
	// issuerPause is the same after a failure.
	issuerPause = time.Second
	// skew is how far an issuer's clock may be from ours.
	skew = 30 * time.Second
)

// algorithms are those that prove something to whoever has the public key: not "none", and not the symmetric ones.
var algorithms = []string{
	oidc.RS256,
	oidc.RS384,
	oidc.RS512,
	oidc.ES256,
	oidc.ES384,
	oidc.ES512,
	oidc.PS256,
	oidc.PS384,
	oidc.PS512,
	oidc.EdDSA,
}

// JWT says which signed tokens are accepted (RFC 7519, RFC 9068).
type JWT struct {
	// Issuer is compared exactly with the token's. Its keys are found as OpenID Connect Discovery says.
	Issuer string
	// Audience must be among the token's: it names this service.
	Audience string
	// Client asks the issuer; nil: http.DefaultClient. Redirects are not followed.
	Client *http.Client
}

// NewJWT returns a [Validator] of tokens that an issuer has signed for an audience: signature, issuer, audience and expiry are
// judged. It asks the issuer for nothing until the first token comes. Keys are kept; a token signed with one that is not
// known has them fetched again, every 10 seconds at most. ErrConfig: issuer or audience is missing, or the issuer is
// not reached by TLS.
func NewJWT(c JWT) (Validator, error) {
	if c.Audience == "" {
		return nil, config("without an audience any service's token would be accepted")
	}
	if err := checkURL("the issuer", c.Issuer); err != nil {
		return nil, err
	}
	return &jwtValidator{config: c, client: asking(c.Client), gate: make(chan struct{}, 1)}, nil
}

type jwtValidator struct {
	config   JWT
	client   *http.Client
	verifier atomic.Pointer[oidc.IDTokenVerifier] // nil: the issuer was not reached yet

	gate   chan struct{} // holds one while the issuer is looked for: a mutex would not heed a context
	failed time.Time     // when it was not found; whoever has the gate may look
}

// Validate implements [Validator].
func (v *jwtValidator) Validate(ctx context.Context, token string) (protocol.Identity, error) {
	if strings.Count(token, ".") != 2 {
		return protocol.Identity{}, notGood("it is not a signed token")
	}
	verifier, err := v.issuer(ctx)
	if err != nil {
		return protocol.Identity{}, err
	}
	var keys fetched
	parsed, err := verifier.Verify(context.WithValue(ctx, fetchedKey{}, &keys), token)
	switch {
	case keys.failed, ctx.Err() != nil:
		return protocol.Identity{}, notNow("the issuer's keys can't be fetched")
	case err != nil:
		return protocol.Identity{}, notGood("it can't be verified") // the library's text may quote the token
	}
	var claims map[string]json.RawMessage
	if err := parsed.Claims(&claims); err != nil {
		return protocol.Identity{}, notGood("its claims are not a JSON object")
	}
	return identityOf(claims), nil
}

// issuer returns what verifies the issuer's tokens, once it has been found.
func (v *jwtValidator) issuer(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	if found := v.verifier.Load(); found != nil {
		return found, nil
	}
	away := notNow("the issuer can't be asked")
	select {
	case v.gate <- struct{}{}:
		defer func() { <-v.gate }()
	case <-ctx.Done():
		return nil, away
	}
	if found := v.verifier.Load(); found != nil {
		return found, nil
	}
	if time.Since(v.failed) < issuerPause {
		return nil, away
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), v.client), v.config.Issuer)
	var found struct {
		Keys string `json:"jwks_uri"`
	}
	if err == nil {
		err = provider.Claims(&found)
	}
	downgraded := !isPlain(v.config.Issuer) && isPlain(found.Keys)
	if err != nil || downgraded || checkURL("the issuer's jwks_uri", found.Keys) != nil {
		v.failed = time.Now()
		return nil, away
	}
	keys := *v.client
	keys.Transport = &paced{base: via(v.client)}
	set := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), &keys), found.Keys)
	v.verifier.Store(oidc.NewVerifier(v.config.Issuer, keySet{set}, &oidc.Config{
		ClientID: v.config.Audience, SupportedSigningAlgs: algorithms, Now: func() time.Time { return time.Now().Add(-skew) },
	}))
	return v.verifier.Load(), nil
}

// fetchError says that keys could not be fetched, which is no fault of a token's.
type fetchError struct{}

func (*fetchError) Error() string { return "the keys can't be fetched" }

// fetched says, by way of a context, what the verifier's error loses: whether it was for want of keys.
type fetched struct{ failed bool }

type fetchedKey struct{}

type keySet struct{ keys *oidc.RemoteKeySet }

func (k keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.keys.VerifySignature(ctx, token)
	var failure *fetchError
	if f, ok := ctx.Value(fetchedKey{}).(*fetched); ok && errors.As(err, &failure) {
		f.failed = true
	}
	return payload, err
}

var errTooSoon = errors.New("the keys have just been fetched")

// paced fetches keys no more often than is sensible.
type paced struct {
	base http.RoundTripper

	mu   sync.Mutex
	next time.Time // no fetch before
	down bool      // the last one failed
}

func (p *paced) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.next) {
		if p.down {
			return nil, &fetchError{}
		}
		return nil, errTooSoon
	}
	resp, err := p.base.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = &fetchError{}
	}
	if p.down = err != nil; p.down {
		p.next = time.Now().Add(issuerPause)
		return nil, &fetchError{}
	}
	p.next = time.Now().Add(keysPause)
	resp.Body = bounded(resp.Body)
	return resp, nil
}

// bounded is a body of which no more than is sensible is read.
func bounded(body io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, maxReply), body}
}

package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/ccagent/ccagent/protocol"
)

// clockSkew is how far the provider's clock may be from ours.
const clockSkew = 2 * time.Minute

// signing are the algorithms an ID token may be signed with. "none" and the symmetric ones are not among them.
var signing = []string{
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

// identified verifies the ID token of a sign-in's reply and takes its claims. Where openid was asked for at an issuer the
// token must be there. Without, none is looked at: who signed in is then unknown.
func (c *Client) identified(ctx context.Context, reply Reply, nonce string) (Reply, error) {
	if c.Issuer == "" || !c.hasScope("openid") {
		return reply, nil
	}
	if reply.idToken == "" {
		return Reply{}, badIDToken("it is missing")
	}
	id, err := c.verify(ctx, reply.idToken, nonce)
	if err != nil {
		return Reply{}, err
	}
	reply.Identity = id
	return reply, nil
}

// verify judges an ID token (OpenID Connect Core section 3.1.3.7): signature, issuer, audience, expiry and nonce.
func (c *Client) verify(ctx context.Context, raw, nonce string) (protocol.Identity, error) {
	if _, bad := parseEndpoint("issuer's jwks_uri", c.KeysURL); bad != nil {
		return protocol.Identity{}, bad
	}
	ctx, cancel := c.bounded(oidc.ClientContext(ctx, c.plain()))
	defer cancel()
	verifier := oidc.NewVerifier(c.Issuer, oidc.NewRemoteKeySet(ctx, c.KeysURL), &oidc.Config{
		ClientID: c.ClientID, SupportedSigningAlgs: signing, SkipExpiryCheck: true, // judged below, with a word on clocks
	})
	parsed, err := verifier.Verify(ctx, raw)
	if err != nil {
		if ctx.Err() != nil {
			return protocol.Identity{}, badIDToken("its signing keys could not be fetched in time")
		}
		return protocol.Identity{}, badIDToken(whyUnverified(err))
	}
	switch at := now(); {
	case parsed.Expiry.Add(clockSkew).Before(at):
		return protocol.Identity{}, wrongClock("it expired " + at.Sub(parsed.Expiry).Round(time.Second).String() + " ago")
	case parsed.IssuedAt.Add(-clockSkew).After(at):
		return protocol.Identity{}, wrongClock("it will be issued in " + parsed.IssuedAt.Sub(at).Round(time.Second).String())
	case nonce != "" && parsed.Nonce != nonce:
		return protocol.Identity{}, badIDToken("its nonce is another sign-in's")
	}
	var fields map[string]json.RawMessage
	if err := parsed.Claims(&fields); err != nil {
		return protocol.Identity{}, badIDToken("its claims are not a JSON object")
	}
	if party, _ := text(fields["azp"]); party != "" && party != c.ClientID {
		return protocol.Identity{}, badIDToken("it was issued to another client")
	}
	id := claims(fields)
	id.Fetched = now()
	return id, nil
}

// whyUnverified says in our own words what go-oidc found: its text may quote a response.
func whyUnverified(err error) string {
	text := err.Error()
	for _, reason := range []struct{ has, say string }{
		{"issued by a different provider", "it is from another issuer"},
		{"expected audience", "it is for another client"},
		{"unsupported algorithm", "it is not signed by an algorithm that proves anything"},
		{"unexpected signature algorithm", "it is not signed by an algorithm that proves anything"},
		{"malformed jwt", "it is not a signed token"},
		{"fetching keys", "its signing keys can't be fetched"},
		{"signature", "its signature is not the issuer's"},
	} {
		if strings.Contains(text, reason.has) {
			return reason.say
		}
	}
	return "it can't be verified"
}

func badIDToken(why string) error {
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the sign-in did not complete: the provider's ID token is not good: " + why,
		Hint:    "sign in again: ccagent login; if that does not help, tell whoever runs the provider",
	}
}

func wrongClock(why string) error {
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the sign-in did not complete: by this machine's clock the provider's ID token is not good: " + why,
		Hint:    "is the clock right? compare `date -u` with another machine's, mend it, and sign in again",
	}
}

// now is the wall clock without its monotonic part, which a stored time has none of.
func now() time.Time { return time.Now().Round(0) }

// plain is an http.Client for go-oidc that keeps the promises of this package.
func (c *Client) plain() *http.Client {
	return &http.Client{
		Transport:     guarded{c},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// guarded makes each request by a transport of its own, and bounds what is read.
type guarded struct{ client *Client }

func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	to, bad := parseEndpoint("endpoint", req.URL.String())
	if bad != nil {
		return nil, bad
	}
	resp, err := g.client.transport(to).RoundTrip(req)
	if err != nil {
		return nil, errors.New("the request failed")
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxReply), resp.Body}
	return resp, nil
}

package oauth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ccagent/ccagent/keyset"
	"github.com/ccagent/ccagent/protocol"
)

// clockSkew is how far the provider's clock may be from ours.
const clockSkew = 2 * time.Minute

// withIdentity verifies the ID token of a sign-in's reply, and adds its claims to the reply. Where the client asked an issuer for
// openid, there must be an ID token. Otherwise none is looked at, and it stays unknown who signed in.
func (c *Client) withIdentity(ctx context.Context, reply Reply, nonce string) (Reply, error) {
	if c.Issuer == "" || !c.hasScope("openid") {
		return reply, nil
	}
	if reply.idToken == "" {
		return Reply{}, c.badIDToken("it is missing", "")
	}
	id, err := c.verifyIDToken(ctx, reply.idToken, nonce)
	if err != nil {
		return Reply{}, err
	}
	reply.Identity = id
	return reply, nil
}

// SameSubject reports whether an ID token that comes with a renewal is of the same issuer and subject as the one before it. One
// that is not must not be used (OpenID Connect Core section 12.2).
func SameSubject(before, renewed protocol.Secret) bool {
	old, now := jwtClaims(before.Reveal()), jwtClaims(renewed.Reveal())
	return first(old, "iss") == first(now, "iss") && said(old, "sub") == said(now, "sub")
}

// verifyIDToken checks an ID token (OpenID Connect Core section 3.1.3.7): signature, issuer, audience, expiry and nonce. None of
// its other claims is needed, so one that is odd does no harm.
func (c *Client) verifyIDToken(ctx context.Context, raw, nonce string) (protocol.Identity, error) {
	if _, err := (keyset.Set{}).Verify(raw); !errors.Is(err, keyset.ErrSignature) {
		return protocol.Identity{}, c.badIDToken(err.Error(), "") // no keys are fetched for it
	}
	keys, failure := c.keys(ctx)
	switch {
	case failure != nil && failure.Condition.Code == protocol.CodeConfig:
		return protocol.Identity{}, failure
	case failure != nil:
		return protocol.Identity{}, c.badIDToken("its signing keys can't be fetched: "+failure.Error(), failure.Condition.Hint)
	}
	payload, err := keys.Verify(raw)
	if err != nil {
		return protocol.Identity{}, c.badIDToken(err.Error(), "")
	}
	fields, err := object(payload)
	if err != nil {
		return protocol.Identity{}, c.badIDToken("its claims are not a JSON object", "")
	}
	expiry, issued := moment(fields["exp"]), moment(fields["iat"])
	switch at := now(); {
	case !keyset.IsIssuer(first(fields, "iss"), c.Issuer):
		return protocol.Identity{}, c.badIDToken("it is from another issuer", "")
	case c.ClientID == "" || !slices.Contains(list(fields["aud"]), c.ClientID):
		return protocol.Identity{}, c.badIDToken("it is for another client", "")
	case expiry.IsZero():
		return protocol.Identity{}, c.badIDToken("it does not say when it expires", "")
	case expiry.Add(clockSkew).Before(at):
		return protocol.Identity{}, c.wrongClock("it expired " + at.Sub(expiry).Round(time.Second).String() + " ago")
	case issued.Add(-clockSkew).After(at):
		return protocol.Identity{}, c.wrongClock("it will be issued in " + issued.Sub(at).Round(time.Second).String())
	case nonce != "" && first(fields, "nonce") != nonce:
		return protocol.Identity{}, c.badIDToken("its nonce is another sign-in's", "")
	}
	if party, _ := text(fields["azp"]); party != "" && party != c.ClientID {
		return protocol.Identity{}, c.badIDToken("it was issued to another client", "")
	}
	id := claims(fields)
	id.Fetched = now()
	return id, nil
}

// keys fetches the issuer's signing keys.
func (c *Client) keys(ctx context.Context) (keyset.Set, *Error) {
	to, bad := c.find(keysEndpoint)
	if bad != nil {
		return nil, bad
	}
	a, failure := c.send(ctx, "GET", to, nil, nil)
	switch {
	case failure != nil:
		return nil, failure.at(to)
	case !a.ok():
		e := a.refusal(forClient, now())
		if e.Condition.Code == protocol.CodeConfig { // a document that anybody may read has nothing to do with our client
			e.Condition.Code = protocol.CodeUnavailable
		}
		return nil, e.at(to)
	}
	keys, err := keyset.Parse(a.body)
	if err != nil {
		return nil, (&Error{Condition: unavailable(err.Error())}).at(to)
	}
	return keys, nil
}

// badIDToken is the error for an ID token that is not accepted. hint is what to do about it, "" where there is only the usual.
func (c *Client) badIDToken(why, hint string) error {
	if hint == "" {
		hint = "sign in again: " + c.Login() + "\nif that does not help, tell whoever runs the provider"
	}
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the sign-in did not complete: the provider's ID token is not valid: " + why,
		Hint:    hint,
	}
}

func (c *Client) wrongClock(why string) error {
	return &protocol.Error{
		Code:    protocol.CodeLogin,
		Message: "the sign-in did not complete: by this machine's clock the provider's ID token is not valid: " + why,
		Hint:    "is the clock right? compare `date -u` with another machine's, set the clock, and sign in again: " + c.Login(),
	}
}

// now is the wall clock without its monotonic part, which a stored time does not have either.
func now() time.Time { return time.Now().Round(0) }

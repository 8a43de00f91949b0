package httpauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Mode is what a [Policy] asks for. There is no default: a policy must have a mode.
type Mode int

const (
	// Bearer asks for a token in the request that the policy accepts.
	Bearer Mode = 1
	// Stored asks that the service itself is signed in. It does not matter who calls and what the request carries.
	Stored Mode = 2
	// Either is Bearer where the policy accepts any bearer token, else Stored. In both cases a bearer token in the request must
	// be accepted: a wrong one never falls back to the stored sign-in.
	Either Mode = 3
)

// Policy says which requests [Require] accepts.
type Policy struct {
	Mode Mode

	// Tokens, TokenFile and Validators are for the modes Bearer and Either. A token is accepted if it is in Tokens (list the old
	// and the new one while you rotate), if it is a line of TokenFile (changes count within a second), or if one of Validators
	// accepts it.
	Tokens     []protocol.Secret
	TokenFile  string
	Validators []Validator

	// Stored is the service's own sign-in, for the modes Stored and Either. Usually it is an [Agent].
	Stored Authenticator

	// Scopes must all be granted: to a foreign token, and to the stored sign-in. The tokens of Tokens and TokenFile are the
	// service's own, and have every scope.
	Scopes []string
	// Realm is shown in the challenge; "": none.
	Realm string
	// NoContext passes requests on unchanged, for a handler that does not ask whose they are. Then [FromContext] finds nothing,
	// and an accepted request costs no allocation.
	NoContext bool
	// Log gets the reason why a request was answered with 500 or 503, and nothing that was in the request; nil: no log.
	Log *slog.Logger
}

// Validator checks tokens that somebody else has issued: see [NewJWT] and [NewIntrospection].
type Validator interface {
	// Validate returns whose token it is. It fails with ErrUnavailable where that can't be found out at the moment, and with any
	// other error where the token is not valid. The token passes protocol.IsToken, and may be anybody's invention.
	Validate(ctx context.Context, token string) (protocol.Identity, error)
}

// Require returns middleware that lets requests through if the policy accepts them. The package comment has the answers to
// others. It fails with ErrConfig or ErrInvalid for a policy that could accept nothing, or anything: an empty token, a token file
// that can't be read, a mode without the fields that it needs.
func Require(p Policy) (func(http.Handler) http.Handler, error) {
	g, err := newGuard(p)
	if err != nil {
		return nil, err
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, refused := g.check(r)
			switch {
			case refused != nil:
				refused.write(w, r)
			case g.policy.NoContext:
				next.ServeHTTP(w, r)
			default:
				next.ServeHTTP(w, r.WithContext(&accepted{r.Context(), who}))
			}
		})
	}, nil
}

// FromContext returns whose request it is that [Require] has let through, and a token for further requests: the [Static] token
// that the request carried, the policy's Stored, or for a foreign token an Authenticator with the UserProfile that its Validator
// found.
func FromContext(ctx context.Context) (Authenticator, bool) {
	a, ok := ctx.Value(whoKey{}).(Authenticator)
	return a, ok
}

type whoKey struct{}

// accepted is the context of a request that the policy accepts.
type accepted struct {
	context.Context
	who Authenticator
}

func (a *accepted) Value(key any) any {
	if key == (whoKey{}) {
		return a.who
	}
	return a.Context.Value(key)
}

// guard applies a policy.
type guard struct {
	policy  Policy
	log     *slog.Logger
	tokens  *tokens
	file    *tokenFile // nil: none
	accepts bool       // the policy accepts some bearer token

	missing, malformed, invalid, scope, signedOut, later, broken *refusal
}

func newGuard(p Policy) (*guard, error) {
	g := &guard{policy: p, log: p.Log}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if strings.ContainsFunc(
		p.Realm+strings.Join(p.Scopes, ""),
		func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' },
	) {
		return nil, config("realm and scopes must be printable ASCII without quotes")
	}
	g.refusals()
	var list []string
	for _, t := range p.Tokens {
		list = append(list, t.Reveal())
	}
	var err error
	if g.tokens, err = newTokens(list); err != nil {
		return nil, err
	}
	if p.TokenFile != "" {
		if g.file, err = openTokenFile(p.TokenFile); err != nil {
			return nil, err
		}
	}
	if slices.Contains(p.Validators, nil) {
		return nil, config("a validator is nil")
	}
	g.accepts = len(p.Tokens) > 0 || p.TokenFile != "" || len(p.Validators) > 0
	switch {
	case p.Mode == Bearer && !g.accepts:
		return nil, config("mode Bearer needs tokens, a token file or a validator: without them it would accept nothing")
	case p.Mode == Stored && g.accepts:
		return nil, config("mode Stored ignores bearer tokens: tokens, token file and validators are for the modes Bearer and Either")
	case (p.Mode == Stored || p.Mode == Either) && p.Stored == nil:
		return nil, config("modes Stored and Either need the service's own sign-in: Policy.Stored")
	case p.Mode != Bearer && p.Mode != Stored && p.Mode != Either:
		return nil, config("the policy has no mode")
	}
	return g, nil
}

func config(message string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: message}
}

// check returns whose request it is, or else how it is refused.
func (g *guard) check(r *http.Request) (Authenticator, *refusal) {
	if g.policy.Mode == Stored {
		return g.stored(r.Context())
	}
	token, p := bearer(r.Header["Authorization"])
	switch {
	case p == malformed:
		return nil, g.malformed
	case p == absent && g.policy.Mode == Either && !g.accepts:
		return g.stored(r.Context())
	case p != present:
		return nil, g.missing
	}
	var room [256]byte // on the stack, and enough for nearly every token
	digest := sha256.Sum256(append(room[:0], token...))
	if who := g.tokens.match(&digest); who != nil {
		return who, nil
	}
	var unavailable error // why one of the sources could not be asked
	if g.file != nil {
		set, err := g.file.current()
		if err != nil {
			unavailable = err
		} else if who := set.match(&digest); who != nil {
			return who, nil
		}
	}
	for _, v := range g.policy.Validators {
		identity, err := v.Validate(r.Context(), token)
		switch {
		case err == nil && g.lacks(identity.Scopes):
			return nil, g.scope
		case err == nil:
			return &validated{token: protocol.NewSecret(token), identity: identity}, nil
		case errors.Is(err, protocol.ErrUnavailable):
			unavailable = err
		}
	}
	if unavailable != nil {
		g.log.Warn("a bearer token could not be checked", "error", unavailable)
		return nil, g.later
	}
	return nil, g.invalid
}

// stored checks the service's own sign-in.
func (g *guard) stored(ctx context.Context) (Authenticator, *refusal) {
	_, err := g.policy.Stored.AccessToken(ctx)
	if err == nil && len(g.policy.Scopes) > 0 {
		var c Credentials
		if c, err = g.policy.Stored.Credentials(ctx); err == nil && g.lacks(c.Scopes) {
			return nil, g.scope
		}
	}
	switch {
	case err == nil:
		return g.policy.Stored, nil
	case signedOut(err):
		return nil, g.signedOut
	case errors.Is(err, protocol.ErrNoAgent),
		errors.Is(err, protocol.ErrUnavailable),
		errors.Is(err, protocol.ErrLocked),
		errors.Is(err, protocol.ErrStorage):
		g.log.Warn("the service has no token at the moment", "error", err)
		return nil, g.later
	}
	g.log.Error("the service has no token", "error", err)
	return nil, g.broken
}

// lacks reports whether one of the policy's scopes is missing among those that are granted.
func (g *guard) lacks(granted []string) bool {
	for _, s := range g.policy.Scopes {
		if !slices.Contains(granted, s) {
			return true
		}
	}
	return false
}

// validated is a foreign token that a Validator has accepted.
type validated struct {
	token    protocol.Secret
	identity protocol.Identity
}

func (v *validated) AccessToken(context.Context) (protocol.Secret, error) {
	return v.token, nil
}

func (v *validated) Credentials(context.Context) (Credentials, error) {
	return Credentials{AccessToken: v.token, Kind: protocol.KindBearer, Scopes: slices.Clone(v.identity.Scopes)}, nil
}

func (v *validated) Authenticated(context.Context) (bool, error) { return true, nil }

func (v *validated) UserProfile(context.Context) (*protocol.Identity, error) {
	identity := v.identity
	identity.Scopes = slices.Clone(identity.Scopes)
	return &identity, nil
}

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

// Mode is what a [Policy] asks for. The zero Mode is none: a policy must say what it wants.
type Mode int

const (
	// Bearer asks for a token in the request that the policy accepts.
	Bearer Mode = 1
	// Stored asks for a service that is signed in itself, whoever calls and whatever the request carries.
	Stored Mode = 2
	// Either is Bearer where the policy accepts any token, else Stored. A bearer token in the request must be accepted in
	// both cases: a wrong one never falls back to what is stored.
	Either Mode = 3
)

// Policy is what [Require] lets through.
type Policy struct {
	Mode Mode

	// The tokens that are accepted, in modes Bearer and Either: those listed, for a rotation the old and the new one; those in
	// TokenFile, one a line, of which changes count within a second; and those that one of Validators vouches for.
	Tokens     []protocol.Secret
	TokenFile  string
	Validators []Validator

	// Stored is the service's own sign-in, of modes Stored and Either: an [Agent], usually.
	Stored Authenticator

	// Scopes must all be granted to a foreign token and to the stored sign-in. Tokens of Tokens and TokenFile are the
	// service's own and have every scope.
	Scopes []string
	// Realm is shown in the challenge; "" is none.
	Realm string
	// NoContext passes requests on as they came, for a handler that does not ask who it is: [FromContext] finds nothing, and
	// an accepted request costs no allocation.
	NoContext bool
	// Log is told why a request was answered with 500 or 503, never what was in it; nil: nobody is.
	Log *slog.Logger
}

// Validator vouches for tokens that somebody else issued: see [NewJWT] and [NewIntrospection].
type Validator interface {
	// Validate returns whose token it is. The error is ErrUnavailable when that can't be found out at the moment; any other is
	// that the token is not good. The token passes protocol.IsToken, and is anybody's text.
	Validate(ctx context.Context, token string) (protocol.Identity, error)
}

// Require returns middleware that lets through what the policy accepts. A policy that could accept nothing, or anything, is
// ErrConfig or ErrInvalid: an empty token, a token file that can't be read, a mode without what it goes by. What it
// answers to everything else is in the package comment.
func Require(p Policy) (func(http.Handler) http.Handler, error) {
	g, err := newGuard(p)
	if err != nil {
		return nil, err
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, no := g.judge(r)
			switch {
			case no != nil:
				no.write(w, r)
			case g.policy.NoContext:
				next.ServeHTTP(w, r)
			default:
				next.ServeHTTP(w, r.WithContext(&accepted{r.Context(), who}))
			}
		})
	}, nil
}

// FromContext returns who a request that [Require] let through is, and a token to go on with: the [Static] token that it
// carried, the policy's Stored, or of a foreign token an Authenticator with the UserProfile that its Validator found.
func FromContext(ctx context.Context) (Authenticator, bool) {
	a, ok := ctx.Value(whoKey{}).(Authenticator)
	return a, ok
}

type whoKey struct{}

// accepted is the context of a request that was let through.
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

// guard is a policy in force.
type guard struct {
	policy  Policy
	log     *slog.Logger
	tokens  *tokens
	file    *tokenFile // nil: none
	accepts bool       // any bearer at all

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
		return nil, config("realm and scopes are printable ASCII without quotes")
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
		return nil, config("mode Bearer needs tokens, a token file or a validator: without one it would accept nothing")
	case p.Mode == Stored && g.accepts:
		return nil, config("mode Stored looks at no bearer token: tokens, token file and validators belong to Bearer and Either")
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

// judge decides on a request: who it is, or how it is refused.
func (g *guard) judge(r *http.Request) (Authenticator, *refusal) {
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
	var later error // why one of them could not be asked
	if g.file != nil {
		set, err := g.file.current()
		if err != nil {
			later = err
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
			later = err
		}
	}
	if later != nil {
		g.log.Warn("a bearer token could not be judged", "error", later)
		return nil, g.later
	}
	return nil, g.invalid
}

// stored judges the service's own sign-in.
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

// lacks reports whether one of the policy's scopes is not granted.
func (g *guard) lacks(granted []string) bool {
	for _, s := range g.policy.Scopes {
		if !slices.Contains(granted, s) {
			return true
		}
	}
	return false
}

// validated is a foreign token that a Validator vouched for.
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

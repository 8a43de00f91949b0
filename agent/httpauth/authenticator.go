package httpauth

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/ccagent/ccagent/protocol"
)

// Authenticator is somebody who is signed in, as a program holds on to it: [Static], [Agent], and what [FromContext] returns.
// Its methods may be called concurrently, and fail with the sentinels of package protocol.
type Authenticator interface {
	// AccessToken returns a token that lives.
	AccessToken(ctx context.Context) (protocol.Secret, error)
	// Credentials returns what is known of the sign-in: everything but the refresh token. ErrNotFound: there is no more to it
	// than the token.
	Credentials(ctx context.Context) (Credentials, error)
	// Authenticated reports whether there is a token that lives; the error is that this can't be found out.
	Authenticated(ctx context.Context) (bool, error)
	// UserProfile returns who it is, nil where nobody knows.
	UserProfile(ctx context.Context) (*protocol.Identity, error)
}

// Credentials is a sign-in without its refresh token, which never leaves the agent.
type Credentials struct {
	Profile      string
	Provider     string
	AccessToken  protocol.Secret
	Kind         protocol.Kind
	Expiry       time.Time // zero: never
	Issued       time.Time // zero: not known
	Scopes       []string
	Subscription string
	Store        string // the kind of the place where it rests
}

// TokenSource is an Authenticator for a library that wants an oauth2.TokenSource. ctx bounds each question.
func TokenSource(ctx context.Context, a Authenticator) oauth2.TokenSource {
	return tokenSource{ctx, a}
}

type tokenSource struct {
	ctx  context.Context
	auth Authenticator
}

func (s tokenSource) Token() (*oauth2.Token, error) {
	token, err := s.auth.AccessToken(s.ctx)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token.Reveal(), TokenType: "Bearer"}, nil
}

// Static is an Authenticator of one token that somebody else looks after.
type Static struct{ token protocol.Secret }

var _ Authenticator = Static{}

// NewStatic returns the token, without the white space around it. One that is empty, or can't be sent in a header, is
// ErrInvalid.
func NewStatic(token string) (Static, error) {
	s := Static{protocol.NewSecret(strings.TrimSpace(token))}
	return s, protocol.CheckToken(s.token)
}

// AccessToken returns the token.
func (s Static) AccessToken(context.Context) (protocol.Secret, error) {
	if s.token.Empty() {
		return protocol.Secret{}, &protocol.Error{Code: protocol.CodeInvalid, Message: "the token is empty"}
	}
	return s.token, nil
}

// Credentials fails with ErrNotFound: nothing but the token is known.
func (Static) Credentials(context.Context) (Credentials, error) {
	return Credentials{}, &protocol.Error{
		Code:    protocol.CodeNotFound,
		Message: "nothing is known of a bearer token but the token itself",
	}
}

// Authenticated reports whether there is a token.
func (s Static) Authenticated(context.Context) (bool, error) { return !s.token.Empty(), nil }

// UserProfile returns nil: nobody knows whose token it is.
func (Static) UserProfile(context.Context) (*protocol.Identity, error) { return nil, nil }

// AccessToken returns a token that lives. It is asked for without a host: a profile's list of hosts is not applied.
func (a *Agent) AccessToken(ctx context.Context) (protocol.Secret, error) {
	l, err := a.take(ctx, "")
	if err != nil {
		return protocol.Secret{}, err
	}
	return l.token.Value, nil
}

// Credentials returns what the agent knows of the sign-in.
func (a *Agent) Credentials(ctx context.Context) (Credentials, error) {
	l, err := a.take(ctx, "")
	if err != nil {
		return Credentials{}, err
	}
	status, err := a.agent.Status(ctx, protocol.StatusRequest{Profile: l.token.Profile})
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{Profile: l.token.Profile, AccessToken: l.token.Value, Kind: l.token.Kind, Expiry: l.token.Expiry}
	for _, p := range status.Profiles {
		if p.Name == c.Profile {
			c.Provider, c.Issued, c.Scopes, c.Subscription, c.Store = p.Provider, p.Issued, p.Scopes, p.Subscription, p.Store
		}
	}
	return c, nil
}

// Authenticated reports whether the agent has a token that lives.
func (a *Agent) Authenticated(ctx context.Context) (bool, error) {
	_, err := a.take(ctx, "")
	if signedOut(err) {
		return false, nil
	}
	return err == nil, err
}

// UserProfile returns who is signed in, as the provider said; nil if it never did.
func (a *Agent) UserProfile(ctx context.Context) (*protocol.Identity, error) {
	identity, err := a.agent.Identify(ctx, protocol.IdentifyRequest{Profile: a.profile})
	if err != nil || identity.Fetched.IsZero() {
		return nil, err
	}
	return &identity, nil
}

// signedOut reports whether an error says that nobody is signed in.
func signedOut(err error) bool {
	return errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrLoginRequired) || errors.Is(err, protocol.ErrExpired)
}

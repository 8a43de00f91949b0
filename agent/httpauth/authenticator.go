package httpauth

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/ccagent/ccagent/protocol"
)

// Authenticator is an account that is signed in: [Static], [Agent], and what [FromContext] returns. Its methods may be called
// concurrently. Their errors are those of package protocol.
type Authenticator interface {
	// AccessToken returns a valid token.
	AccessToken(ctx context.Context) (protocol.Secret, error)
	// Credentials returns what is known about the sign-in, without the refresh token. It fails with ErrNotFound where nothing but
	// the token is known.
	Credentials(ctx context.Context) (Credentials, error)
	// Authenticated reports whether there is a valid token. It returns an error where that can't be found out.
	Authenticated(ctx context.Context) (bool, error)
	// UserProfile returns whose account it is, nil where that is not known.
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
	Store        string // the kind of store that the record is in
}

// TokenSource makes an oauth2.TokenSource of an Authenticator. ctx bounds each request for a token.
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

// Static is an Authenticator with one fixed token, which is never renewed.
type Static struct{ token protocol.Secret }

var _ Authenticator = Static{}

// NewStatic takes a token, without the white space around it. It fails with ErrInvalid where the token is empty or can't be sent
// in a header.
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
		Message: "nothing is known about a bearer token but the token itself",
	}
}

// Authenticated reports whether there is a token.
func (s Static) Authenticated(context.Context) (bool, error) { return !s.token.Empty(), nil }

// UserProfile returns nil: it is not known whose token it is.
func (Static) UserProfile(context.Context) (*protocol.Identity, error) { return nil, nil }

// AccessToken returns a valid token. The agent is not told which host it is for, so the profile's list of hosts is not applied.
func (a *Agent) AccessToken(ctx context.Context) (protocol.Secret, error) {
	c, err := a.get(ctx, "")
	if err != nil {
		return protocol.Secret{}, err
	}
	return c.token.Value, nil
}

// Credentials returns what the agent knows about the sign-in.
func (a *Agent) Credentials(ctx context.Context) (Credentials, error) {
	entry, err := a.get(ctx, "")
	if err != nil {
		return Credentials{}, err
	}
	token := entry.token
	status, err := a.agent.Status(ctx, protocol.StatusRequest{Profile: token.Profile})
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{Profile: token.Profile, AccessToken: token.Value, Kind: token.Kind, Expiry: token.Expiry}
	for _, p := range status.Profiles {
		if p.Name == c.Profile {
			c.Provider, c.Issued, c.Scopes, c.Subscription, c.Store = p.Provider, p.Issued, p.Scopes, p.Subscription, p.Store
		}
	}
	return c, nil
}

// Authenticated reports whether the agent has a valid token.
func (a *Agent) Authenticated(ctx context.Context) (bool, error) {
	_, err := a.get(ctx, "")
	if signedOut(err) {
		return false, nil
	}
	return err == nil, err
}

// UserProfile returns who is signed in, as the provider said, nil where it never did.
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

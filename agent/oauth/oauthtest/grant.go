package oauthtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// grant is one sign-in. All tokens that come from it share it.
type grant struct {
	revoked   bool
	refreshes int
	scopes    []string
	audience  []string // the audience (a common extension) and the resources (RFC 8707) that the request named
}

type refreshToken struct {
	grant *grant
	spent bool
}

type accessToken struct {
	grant   *grant
	expiry  time.Time
	revoked bool
}

// SignIn is what a sign-in brings.
type SignIn struct {
	AccessToken  string
	RefreshToken string
	Expiry       time.Time // millisecond precision
	Scopes       []string
	Subscription string
}

// Issue makes a new sign-in, as if a person had signed in.
func (s *Server) Issue() SignIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue(&grant{scopes: defaultScopes})
}

// IssueFor is Issue with these scopes. With openid among them, renewals bring ID tokens.
func (s *Server) IssueFor(scopes ...string) SignIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue(&grant{scopes: scopes})
}

var defaultScopes = []string{"user:inference", "user:profile"}

func (s *Server) issue(g *grant) SignIn {
	s.serial++
	signIn := SignIn{
		AccessToken:  fmt.Sprintf("fake-access-%d", s.serial),
		RefreshToken: fmt.Sprintf("fake-refresh-%d", s.serial),
		Expiry:       time.Now().Add(s.lifetime).Truncate(time.Millisecond),
		Scopes:       g.scopes,
		Subscription: "max",
	}
	s.access[signIn.AccessToken] = &accessToken{grant: g, expiry: signIn.Expiry}
	s.refresh[signIn.RefreshToken] = &refreshToken{grant: g}
	return signIn
}

// SetLifetime sets the lifetime of the access tokens that are issued from now on.
func (s *Server) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// RevokeToken ends one access token before its time. Its sign-in stays valid.
func (s *Server) RevokeToken(access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.access[access]; t != nil {
		t.revoked = true
	}
}

// RevokeGrant ends the sign-in that an access or refresh token comes from, and all its tokens.
func (s *Server) RevokeGrant(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		g.revoked = true
	}
}

func (s *Server) grantOf(token string) *grant {
	if t := s.access[token]; t != nil {
		return t.grant
	}
	if t := s.refresh[token]; t != nil {
		return t.grant
	}
	return nil
}

// Live reports whether an access token is valid: whether the API would answer to it.
func (s *Server) Live(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.access[access]
	return t != nil && !t.revoked && !t.grant.revoked && time.Now().Before(t.expiry)
}

// Audience returns what was asked for in the sign-in that an access or refresh token comes from: the audience, then each
// resource.
func (s *Server) Audience(token string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		return slices.Clone(g.audience)
	}
	return nil
}

// Renewable reports whether a refresh token would be accepted.
func (s *Server) Renewable(refresh string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.refresh[refresh]
	return t != nil && !t.spent && !t.grant.revoked
}

// Refreshes returns how often the sign-in that an access or refresh token comes from was renewed.
func (s *Server) Refreshes(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		return g.refreshes
	}
	return 0
}

// CredentialsFile returns the sign-in as Claude Code stores it, beside an entry that is not ours.
func (s SignIn) CredentialsFile() []byte {
	data, err := json.MarshalIndent(map[string]any{
		"claudeAiOauth": map[string]any{
			"accessToken": s.AccessToken, "refreshToken": s.RefreshToken, "expiresAt": s.Expiry.UnixMilli(),
			"scopes": s.Scopes, "subscriptionType": s.Subscription, "rateLimitTier": "default",
		},
		"mcpOAuth": map[string]any{"fake-server": map[string]any{"accessToken": "fake-mcp"}},
	}, "", "  ")
	if err != nil {
		return nil // can't happen: strings and numbers always encode
	}
	return data
}

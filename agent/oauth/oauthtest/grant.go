package oauthtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// grant is one sign-in with all that descends from it.
type grant struct {
	revoked   bool
	refreshes int
	scopes    []string
	audience  []string // what the request named as audience (a common extension) and resource (RFC 8707)
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

// Issue makes a new sign-in.
func (s *Server) Issue() SignIn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issue(&grant{scopes: defaultScopes})
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

// SetLifetime sets how long the access tokens live that are issued from now on.
func (s *Server) SetLifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// RevokeToken ends one access token before its time; its sign-in stays good.
func (s *Server) RevokeToken(access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.access[access]; t != nil {
		t.revoked = true
	}
}

// RevokeGrant ends the sign-in that a token of either kind descends from, and all its tokens.
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

// Live reports whether the API would answer to an access token.
func (s *Server) Live(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.access[access]
	return t != nil && !t.revoked && !t.grant.revoked && time.Now().Before(t.expiry)
}

// Audience returns what the sign-in that a token of either kind descends from was asked for: audience, then each resource.
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

// Refreshes returns how often the sign-in that a token of either kind descends from was renewed.
func (s *Server) Refreshes(token string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grantOf(token); g != nil {
		return g.refreshes
	}
	return 0
}

// CredentialsFile returns the sign-in as Claude Code stores it, with keys of other programs beside it.
func (s SignIn) CredentialsFile() []byte {
	data, err := json.MarshalIndent(map[string]any{
		"claudeAiOauth": map[string]any{
			"accessToken": s.AccessToken, "refreshToken": s.RefreshToken, "expiresAt": s.Expiry.UnixMilli(),
			"scopes": s.Scopes, "subscriptionType": s.Subscription, "rateLimitTier": "default",
		},
		"mcpOAuth": map[string]any{"fake-server": map[string]any{"accessToken": "fake-mcp"}},
	}, "", "  ")
	if err != nil {
		return nil // strings and numbers always encode
	}
	return data
}

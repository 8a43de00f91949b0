package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/keyset"
	"github.com/ccagent/ccagent/protocol"
)

// Identify asks the provider who an access token belongs to: at provider claude's user profile, or at OpenID Connect's userinfo.
// Every error is an [*Error]: ErrExpired (the provider refuses the token), ErrDenied (the token lacks a scope, which is named
// where the provider names it), ErrConfig (no endpoint to ask is known) and ErrUnavailable.
func (c *Client) Identify(ctx context.Context, access protocol.Secret) (protocol.Identity, error) {
	to, bad := c.find(UserinfoEndpoint)
	if bad != nil {
		return protocol.Identity{}, bad
	}
	a, fields, failure := c.getObject(ctx, to, access)
	if failure != nil && a != nil && a.jwtParts() != nil {
		if fields, failure = c.signedProfile(ctx, a); failure != nil {
			failure = failure.at(to)
		}
	}
	if failure != nil {
		return protocol.Identity{}, failure
	}
	if a.failed() {
		return protocol.Identity{}, a.profileRefusal().at(to)
	}
	var id protocol.Identity
	if c.JSON {
		id = claudeProfile(fields)
	} else {
		id = claims(fields)
	}
	id.Fetched = now()
	return id, nil
}

// signedProfile reads a user profile that the issuer has signed (OpenID Connect Core section 5.3.2). It must be from our issuer
// and for our client where it says so. The signature is checked where the issuer publishes the key for it. Where it doesn't, as
// with a signature by the client's secret, the profile is as good as one that is not signed: it comes from the endpoint itself.
func (c *Client) signedProfile(ctx context.Context, a *answer) (map[string]json.RawMessage, *Error) {
	parts := a.jwtParts()
	if len(parts) == 5 {
		e := &Error{Condition: unavailable("the user profile is encrypted")}
		e.Condition.Hint = "have the provider send it to this client as JSON, or signed alone"
		return nil, e
	}
	raw := strings.Join(parts, ".")
	fields := jwtClaims(raw)
	issuer, to := first(fields, "iss"), list(fields["aud"])
	switch {
	case fields == nil:
		return nil, a.unreadable()
	case issuer != "" && c.Issuer != "" && !keyset.IsIssuer(issuer, c.Issuer):
		return nil, &Error{Condition: unavailable("the user profile is from another issuer")}
	case to != nil && !slices.Contains(to, c.ClientID):
		return nil, &Error{Condition: unavailable("the user profile is for another client")}
	}
	var header struct {
		Algorithm jose.SignatureAlgorithm `json:"alg"`
	}
	protected, _ := base64.RawURLEncoding.DecodeString(parts[0]) // jwtParts has read it
	if json.Unmarshal(protected, &header); c.KeysURL == "" || !slices.Contains(keyset.Algorithms, header.Algorithm) {
		return fields, nil
	}
	keys, failure := c.keys(ctx)
	if failure != nil {
		return nil, failure
	}
	if _, err := keys.Verify(raw); err != nil {
		return nil, &Error{Condition: unavailable("the user profile is not signed by the issuer")}
	}
	return fields, nil
}

// profileRefusal is refusal for an endpoint that an access token was shown to (RFC 6750 section 3.1).
func (a *answer) profileRefusal() *Error {
	e := a.refusal(forAccess, now())
	noScope := e.code == fold("insufficient_scope")
	switch {
	case a.status == http.StatusForbidden && !a.isPage() && !e.Dead && !noScope && !temporaryCodes.has(e.code):
		return fail(protocol.CodeDenied, "the provider does not let this sign-in see its own profile")
	case e.Condition.Code == protocol.CodeExpired:
		e.Condition.Hint = "renew it with: " + a.client.refresh()
	}
	return e
}

// claudeProfile reads provider claude's user profile.
func claudeProfile(fields map[string]json.RawMessage) protocol.Identity {
	organization, _ := object(fields["organization"])
	id := protocol.Identity{Organization: said(organization, "name"), OrganizationID: said(organization, "uuid")}
	account, err := object(fields["account"])
	if err != nil {
		return id // it is unknown whose sign-in it is, and so is the subscription
	}
	id.Account, id.Email = said(account, "uuid"), said(account, "email")
	id.Name = said(account, "full_name", "display_name")
	switch kind := first(organization, "organization_type"); {
	case string(account["has_claude_max"]) == "true":
		id.Subscription = "max"
	case string(account["has_claude_pro"]) == "true":
		id.Subscription = "pro"
	case strings.Contains(kind, "max"):
		id.Subscription = "max"
	case strings.Contains(kind, "pro"):
		id.Subscription = "pro"
	case strings.Contains(kind, "enterprise"):
		id.Subscription = "enterprise"
	case strings.Contains(kind, "team"):
		id.Subscription = "team"
	default:
		id.Subscription = "free"
	}
	return id
}

// claudeAccount reads what provider claude's token endpoint says about the account, beside the tokens.
func claudeAccount(fields map[string]json.RawMessage) protocol.Identity {
	account, _ := object(fields["account"]) // nil where it is no object, and then nothing is said
	organization, _ := object(fields["organization"])
	return protocol.Identity{
		Account: said(account, "uuid"), Email: said(account, "email_address"),
		Organization: said(organization, "name"), OrganizationID: said(organization, "uuid"),
	}
}

// claims reads the standard claims (OpenID Connect Core section 5.1), and the organization under the names that the large
// providers have for it.
func claims(fields map[string]json.RawMessage) protocol.Identity {
	return protocol.Identity{
		Account: said(fields, "sub"), Email: said(fields, "email"),
		Name:         said(fields, "name", "preferred_username", "nickname"),
		Organization: said(fields, "org_name", "organization", "hd"), OrganizationID: said(fields, "org_id", "tid"),
	}
}

// said returns the first of these fields that is a string and not empty, or a whole number, fit to be shown. It returns "" where
// there is none.
func said(fields map[string]json.RawMessage, names ...string) string {
	for _, name := range names {
		if s, _ := text(fields[name]); s != "" {
			return printable(s)
		}
		if _, err := strconv.ParseInt(string(fields[name]), 10, 64); err == nil {
			return string(fields[name]) // some providers have numbers for accounts
		}
	}
	return ""
}

package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

const profileEndpoint = "user profile endpoint"

// Identify asks the provider whose token it is: provider claude's user profile, or OpenID Connect's userinfo. Every error is
// an [*Error]: ErrExpired (the provider refuses the token), ErrDenied (it lacks the scope that is named), ErrConfig (there
// is nobody to ask), ErrUnavailable.
func (c *Client) Identify(ctx context.Context, access protocol.Secret) (protocol.Identity, error) {
	if c.ProfileURL == "" {
		return protocol.Identity{}, fail(protocol.CodeConfig, "the provider has no user profile endpoint that we know of")
	}
	to, bad := parseEndpoint(profileEndpoint, c.ProfileURL)
	if bad != nil {
		return protocol.Identity{}, &Error{Condition: bad}
	}
	a, fields, failure := c.fetch(ctx, to, access)
	if failure != nil {
		return protocol.Identity{}, failure
	}
	if a.failed() {
		return protocol.Identity{}, a.unwelcome().at(to)
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

// unwelcome sorts the answer of an endpoint that an access token was shown to (RFC 6750 section 3.1).
func (a *answer) unwelcome() *Error {
	e := a.refused(aToken, now())
	switch {
	case a.status == http.StatusForbidden && !a.page() && !e.Dead && e.code != fold("insufficient_scope") && !passing[e.code]:
		return fail(protocol.CodeDenied, "the provider does not let this sign-in see its own profile")
	case e.Condition.Code == protocol.CodeExpired:
		e.Condition.Hint = "renew it with: " + a.client.renewal()
	}
	return e
}

// claudeProfile reads provider claude's user profile.
func claudeProfile(fields map[string]json.RawMessage) protocol.Identity {
	var p struct {
		Account *struct {
			UUID        string `json:"uuid"`
			Email       string `json:"email"`
			FullName    string `json:"full_name"`
			DisplayName string `json:"display_name"`
			Max         bool   `json:"has_claude_max"`
			Pro         bool   `json:"has_claude_pro"`
		}
		Organization struct {
			UUID string `json:"uuid"`
			Name string `json:"name"`
			Type string `json:"organization_type"`
		}
	}
	if json.Unmarshal(fields["account"], &p.Account) != nil { // of another type than it should be
		p.Account = nil
	}
	json.Unmarshal(fields["organization"], &p.Organization)
	id := protocol.Identity{Organization: clean(p.Organization.Name, nil), OrganizationID: clean(p.Organization.UUID, nil)}
	if p.Account == nil {
		return id // whose it is, and so the subscription, is unknown
	}
	id.Account, id.Email, id.Name = clean(p.Account.UUID, nil), clean(p.Account.Email, nil), clean(p.Account.FullName, nil)
	if id.Name == "" {
		id.Name = clean(p.Account.DisplayName, nil)
	}
	id.Subscription = "free"
	switch {
	case p.Account.Max:
		id.Subscription = "max"
	case p.Account.Pro:
		id.Subscription = "pro"
	default:
		for _, kind := range []string{"max", "pro", "enterprise", "team"} {
			if strings.Contains(p.Organization.Type, kind) {
				id.Subscription = kind
				break
			}
		}
	}
	return id
}

// accountOf reads what provider claude's token endpoint says of the account beside the tokens.
func accountOf(fields map[string]json.RawMessage) protocol.Identity {
	var account struct {
		UUID  string `json:"uuid"`
		Email string `json:"email_address"`
	}
	var organization struct {
		UUID string `json:"uuid"`
		Name string `json:"name"`
	}
	json.Unmarshal(fields["account"], &account)
	json.Unmarshal(fields["organization"], &organization)
	return protocol.Identity{
		Account: clean(account.UUID, nil), Email: clean(account.Email, nil),
		Organization: clean(organization.Name, nil), OrganizationID: clean(organization.UUID, nil),
	}
}

// claims reads the standard claims (OpenID Connect Core section 5.1), and the organization where one is named as the large
// providers do.
func claims(fields map[string]json.RawMessage) protocol.Identity {
	said := func(names ...string) string { return clean(first(fields, names...), nil) }
	return protocol.Identity{
		Account: said("sub"), Email: said("email"), Name: said("name", "preferred_username", "nickname"),
		Organization: said("org_name", "organization", "hd"), OrganizationID: said("org_id", "tid"),
	}
}

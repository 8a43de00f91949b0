package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Discover fills in the endpoints that are not set from the issuer's own description: OpenID Connect Discovery, else RFC
// 8414. An issuer that describes another one is refused (RFC 8414 section 3.3), and so is an endpoint that no secret may go
// to. Without an Issuer it does nothing. It must not run beside other calls. Errors are ErrConfig and ErrUnavailable.
func (c *Client) Discover(ctx context.Context) error {
	if c.Issuer == "" {
		return nil
	}
	issuer, bad := parseEndpoint("issuer", c.Issuer)
	if bad != nil {
		return bad
	}
	var last *Error
	for _, place := range wellKnown(issuer.URL) {
		to, bad := parseEndpoint("issuer", place)
		if bad != nil {
			return bad
		}
		a, fields, failure := c.fetch(ctx, to, protocol.Secret{})
		switch {
		case failure != nil:
			return failure
		case !a.ok():
			last = a.undescribed().at(to)
			if last.Condition.Code != protocol.CodeConfig { // nothing there is a reason to look elsewhere, a failing server is not
				return last
			}
			continue
		}
		return c.describe(to, fields)
	}
	return last
}

// wellKnown are the two places of an issuer's description: OpenID Connect appends, RFC 8414 inserts.
func wellKnown(issuer string) []string {
	places := []string{strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"}
	if u, err := url.Parse(issuer); err == nil {
		u.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/")
		u.RawPath = ""
		places = append(places, u.String())
	}
	return places
}

// undescribed is an issuer that does not describe itself.
func (a *answer) undescribed() *Error {
	switch {
	case a.status == http.StatusNotFound, a.status == http.StatusGone: // the issuer's own web server may well say it with a page
	case a.page() || a.status/100 != 4 || !a.final():
		return a.refused(ourClient, now())
	}
	e := fail(protocol.CodeConfig, "it does not describe itself as an issuer")
	e.Condition.Hint = "check issuer in config.toml, or set authorize_url and token_url there (provider = \"oauth2\")"
	return e
}

// describe takes the endpoints from a description.
func (c *Client) describe(from endpoint, fields map[string]json.RawMessage) error {
	issuer, _ := text(fields["issuer"])
	if issuer != c.Issuer {
		e := fail(protocol.CodeConfig, "the issuer calls itself \""+clean(issuer, nil)+"\", not \""+clean(c.Issuer, nil)+"\"").at(from)
		e.Condition.Hint = "if that is the one you mean, write it in config.toml just so: issuer = ..."
		return e
	}
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"authorization_endpoint", &c.AuthorizeURL},
		{"token_endpoint", &c.TokenURL},
		{"device_authorization_endpoint", &c.DeviceURL},
		{"revocation_endpoint", &c.RevokeURL},
		{"introspection_endpoint", &c.IntrospectURL},
		{"userinfo_endpoint", &c.ProfileURL},
		{"jwks_uri", &c.KeysURL},
	} {
		value, ok := text(fields[f.name])
		if *f.to != "" || ok && value == "" {
			continue
		}
		if _, bad := parseEndpoint("issuer's "+f.name, value); !ok || bad != nil {
			if bad == nil {
				bad = &protocol.Error{Code: protocol.CodeConfig, Message: "the issuer's " + f.name + " is not a string"}
			}
			return (&Error{Condition: bad}).at(from)
		}
		*f.to = value
	}
	json.Unmarshal(fields["authorization_response_iss_parameter_supported"], &c.issConfirmed) // what is no boolean is false
	return nil
}

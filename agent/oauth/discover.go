package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Discover fills in the endpoints that are not set from the issuer's own description: OpenID Connect Discovery, else RFC
// 8414. An issuer that describes another one is refused (RFC 8414 section 3.3), and so is an endpoint that no secret may go
// to: an https issuer's are https, too. Where the client is bound, an endpoint elsewhere stays unset, and [Client.Astray] says
// why; the token endpoint is for the caller to judge. Without an Issuer it does nothing. It must not run beside other calls.
// Errors are ErrConfig and ErrUnavailable. An issuer that does not describe itself is ErrConfig, or ErrUnavailable where the
// client is bound: it did describe itself when the sign-in was made.
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
		case !a.ok(), first(fields, "issuer") == "":
			last = a.undescribed().at(to)
			if last.Condition.Code != protocol.CodeConfig {
				return last // nothing there is a reason to look elsewhere, a failing server is not
			}
			continue
		}
		return c.describe(to, fields)
	}
	if c.Bound != nil {
		last.Condition.Code = protocol.CodeUnavailable
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
	case a.ok(): // it describes something else
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
		e := fail(
			protocol.CodeConfig,
			"the issuer calls itself \""+clean(issuer, nil)+"\", not \""+clean(c.Issuer, nil)+"\"",
		).at(from)
		e.Condition.Hint = "if that is the one you mean, write it in config.toml just so: issuer = ..."
		return e
	}
	for _, e := range c.endpoints() {
		value, ok := text(fields[e.name])
		if *e.at != "" || ok && value == "" {
			continue
		}
		bad := c.trust(from, e, value, ok)
		switch {
		case bad == nil:
			*e.at = value
		case c.Bound == nil || e.at == &c.TokenURL: // what a sign-in is made with, or renewed
			return (&Error{Condition: bad}).at(from)
		default:
			if c.astray == nil {
				c.astray = map[string]*protocol.Error{}
			}
			c.astray[e.name] = bad
		}
	}
	json.Unmarshal(fields["authorization_response_iss_parameter_supported"], &c.issConfirmed) // what is no boolean is false
	return nil
}

// The names of the endpoints that [Client.Astray] is asked about (RFC 8414 section 2, OpenID Connect Discovery section 3).
const (
	RevocationEndpoint = "revocation_endpoint"
	UserinfoEndpoint   = "userinfo_endpoint"
)

// described is an endpoint that an issuer describes.
type described struct {
	name, what string
	at         *string
	secret     bool // it gets a secret, or shows a person where to type one
}

func (c *Client) endpoints() []described {
	return []described{
		{"authorization_endpoint", "sign-in page", &c.AuthorizeURL, true},
		{"token_endpoint", tokenEndpoint, &c.TokenURL, true},
		{"device_authorization_endpoint", "device authorization", &c.DeviceURL, true},
		{RevocationEndpoint, "revocation", &c.RevokeURL, true},
		{"introspection_endpoint", "introspection", &c.IntrospectURL, true},
		{UserinfoEndpoint, "user profile", &c.ProfileURL, true},
		{"jwks_uri", "signing keys", &c.KeysURL, false},
	}
}

// trust says why an endpoint is not taken from an issuer's description, nil where it is.
func (c *Client) trust(from endpoint, e described, value string, ok bool) *protocol.Error {
	if !ok {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "the issuer's " + e.name + " is not a string"}
	}
	to, bad := parseEndpoint("issuer's "+e.name, value)
	switch {
	case bad != nil:
		return bad
	case to.plain && !from.plain:
		return &protocol.Error{Code: protocol.CodeConfig,
			Message: "the issuer's " + e.name + " at " + to.Host + " is plain http, and the issuer itself is https"}
	case c.Bound == nil || !e.secret || e.at == &c.TokenURL:
		return nil
	}
	if origin, _ := Origin(value); !slices.Contains(c.Bound, origin) {
		return &protocol.Error{Code: protocol.CodeLoginRequired,
			Message: "the issuer's " + e.name + " is now at " + clean(origin, nil) +
				", where this sign-in's secrets are not sent",
			Hint: "if the provider has moved, sign in again, which binds the new place: " + c.login()}
	}
	return nil
}

// Astray says why [Client.Discover] did not take an endpoint of a bound client, nil where it did or there is none.
func (c *Client) Astray(name string) error {
	if bad := c.astray[name]; bad != nil {
		return bad
	}
	return nil
}

// Site is an origin, and what of the provider's is there.
type Site struct {
	Origin    string
	Endpoints []string // in words
}

// Sites are the origins of the endpoints that get this client's secrets, the issuer's first. A sign-in is bound to them.
func (c *Client) Sites() []Site {
	var sites []Site
	add := func(raw, what string) {
		origin, err := Origin(raw)
		if err != nil {
			return
		}
		i := slices.IndexFunc(sites, func(s Site) bool { return s.Origin == origin })
		if i < 0 {
			i, sites = len(sites), append(sites, Site{Origin: origin})
		}
		sites[i].Endpoints = append(sites[i].Endpoints, what)
	}
	add(c.Issuer, "issuer")
	for _, e := range c.endpoints() {
		if e.secret {
			add(*e.at, e.what)
		}
	}
	return sites
}

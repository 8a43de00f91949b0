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

// Discover fills in the endpoints that are not set from the issuer's own description: OpenID Connect Discovery, else RFC 8414.
// Without an Issuer it does nothing. It must not run beside other calls.
//
// An issuer that describes another one is refused (RFC 8414 section 3.3). So is a token endpoint that no secret may be sent to:
// it must be an absolute URL, and https where the issuer is https. Another endpoint that is bad in this way stays unset, and only
// what needs it fails, with the reason. The same goes for an endpoint at an origin that the sign-in is not bound to
// ([Client.Bound]), except for the token endpoint, which the caller must compare with the record. [Client.EndpointError] tells
// the reason in advance.
//
// Errors are ErrConfig and ErrUnavailable. An issuer that does not describe itself is ErrConfig, or ErrUnavailable where the
// client is bound: then it did describe itself when the sign-in was made.
func (c *Client) Discover(ctx context.Context) error {
	if c.Issuer == "" {
		return nil
	}
	base, bad := parseURL("the issuer", c.Issuer)
	if bad != nil {
		return bad
	}
	var last *Error
	for _, address := range c.wellKnown(base.URL) {
		to, bad := parseURL("the issuer", address)
		if bad != nil {
			return bad
		}
		a, fields, failure := c.getObject(ctx, to, protocol.Secret{})
		switch {
		case failure != nil:
			return failure
		case a.ok() && first(fields, "issuer") != "":
			return c.describe(to, fields)
		}
		last = a.notDescribed().at(to)
		if last.Condition.Code != protocol.CodeConfig {
			return last // only an answer of "not here" is a reason to look at the other address, and a failing server gives none
		}
	}
	if c.Bound != nil {
		last.Condition.Code = protocol.CodeUnavailable
	}
	return last
}

// wellKnown returns the addresses at which an issuer may describe itself. OpenID Connect appends to the issuer's path, and RFC
// 8414 inserts before it. MCP asks for RFC 8414's first, and for OpenID's in both ways.
func (c *Client) wellKnown(issuer string) []string {
	appended := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	u, err := url.Parse(issuer)
	if err != nil {
		return []string{appended}
	}
	path := strings.TrimSuffix(u.Path, "/")
	u.RawPath, u.Path = "", "/.well-known/oauth-authorization-server"+path
	inserted := u.String()
	u.Path = "/.well-known/openid-configuration" + path
	switch {
	case !c.MCP:
		return []string{appended, inserted}
	case path == "":
		return []string{inserted, appended}
	}
	return []string{inserted, u.String(), appended}
}

// mcpIssuerHint says what to do where the authorization server that an MCP server names is not one, or not by that name.
const mcpIssuerHint = "tell whoever runs the MCP server: authorization_servers of its description must name an issuer that " +
	"describes itself by that name (RFC 8414)"

// notDescribed is the error of an answer that is no description: ErrConfig where the issuer seems to have none there.
func (a *answer) notDescribed() *Error {
	somethingElse := a.ok()                                                  // it describes something else
	absent := a.status == http.StatusNotFound || a.status == http.StatusGone // the issuer's own web server may say so with a page
	if !somethingElse && !absent && (a.isPage() || a.status/100 != 4 || !a.canBeFinal()) {
		return a.refusal(forClient, now())
	}
	e := fail(protocol.CodeConfig, "it does not describe itself as an issuer")
	e.Condition.Hint = "check issuer in config.toml, or set authorize_url and token_url there (provider = \"oauth2\")"
	if a.client.MCP {
		e.Condition.Hint = mcpIssuerHint
	}
	return e
}

// describe takes over what a description says.
func (c *Client) describe(from target, fields map[string]json.RawMessage) error {
	name, _ := text(fields["issuer"])
	if c.MCP && SameIssuer(name, c.Issuer) {
		c.Issuer = name // many MCP servers write a slash after it, or leave that out, where the issuer itself does not
	}
	if name != c.Issuer {
		e := fail(protocol.CodeConfig, "the issuer calls itself \""+printable(name)+"\", not \""+printable(c.Issuer)+"\"").at(from)
		e.Condition.Hint = "if that is the one you mean, write it in config.toml exactly so: issuer = ..."
		if strings.Contains(name, "{") { // Entra's {tenantid}, where the issuer of all tenants is asked
			e.Condition.Hint = "its name has a placeholder: put the id of your tenant there, and write that in config.toml: issuer = ..."
		}
		if c.MCP {
			e.Condition.Hint = mcpIssuerHint
		}
		return e
	}
	c.refused = map[string]*protocol.Error{}
	for _, e := range c.endpoints() {
		value, ok := text(fields[e.name])
		if *e.url != "" || ok && value == "" {
			continue
		}
		bad := c.checkDescribed(from, e, value, ok)
		switch {
		case bad == nil:
			*e.url = value
		case e.name == tokenEndpoint:
			return (&Error{Condition: bad}).at(from)
		default:
			c.refused[e.name] = bad
		}
	}
	if c.TokenURL == "" {
		e := fail(protocol.CodeConfig, "the issuer's description has no token_endpoint, without which nobody can sign in").at(from)
		e.Condition.Hint = "tell whoever runs it"
		if !c.MCP {
			e.Condition.Hint = "set token_url in config.toml (provider = \"oauth2\"), or tell whoever runs it"
		}
		return e
	}
	c.described = true
	c.grants = list(fields["grant_types_supported"])
	c.authMethods = list(fields["token_endpoint_auth_methods_supported"])
	c.challengeMethods = list(fields["code_challenge_methods_supported"])
	c.supportedScopes = list(fields["scopes_supported"])
	json.Unmarshal(fields["authorization_response_iss_parameter_supported"], &c.sendsIssuer) // anything but true is false
	json.Unmarshal(fields["client_id_metadata_document_supported"], &c.documents)            // the same
	return nil
}

// checkDescribed returns why a described endpoint is not taken, nil where it is.
func (c *Client) checkDescribed(from target, e endpoint, value string, isText bool) *protocol.Error {
	name := "the issuer's " + e.name
	if !isText {
		return &protocol.Error{Code: protocol.CodeConfig, Message: name + " is not a string"}
	}
	to, bad := parseURL(name, value)
	switch {
	case bad != nil:
		return bad.Condition
	case to.plain && !from.plain:
		return &protocol.Error{Code: protocol.CodeConfig,
			Message: name + " at " + to.Host + " is plain http, and the issuer itself is https"}
	case c.Bound == nil || !e.isSecret || e.name == tokenEndpoint:
		return nil
	}
	if origin, _ := Origin(value); !slices.Contains(c.Bound, origin) {
		return &protocol.Error{Code: protocol.CodeLoginRequired,
			Message: name + " is now at " + printable(origin) + ", where this sign-in's secrets are not sent",
			Hint:    "if the provider has moved, sign in again, which binds the sign-in to the new place: " + c.Login()}
	}
	return nil
}

// EndpointError returns why [Client.Discover] did not take an endpoint, by its discovery name ([UserinfoEndpoint] ...). It
// returns nil where it took it, or where the issuer describes none.
func (c *Client) EndpointError(name string) error {
	if bad := c.refused[name]; bad != nil {
		return bad
	}
	return nil
}

// SupportsScope reports whether the issuer's description lists a scope.
func (c *Client) SupportsScope(scope string) bool { return slices.Contains(c.supportedScopes, scope) }

// Site is an origin, and which of the provider's endpoints are there.
type Site struct {
	Origin    string
	Endpoints []string // in words
}

// Sites returns the origins of the endpoints that get this client's secrets, the issuer's own first. A sign-in is bound to them.
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
		if e.isSecret {
			add(*e.url, e.what)
		}
	}
	return sites
}

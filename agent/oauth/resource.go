package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// Resource is what a protected resource, such as an MCP server, says of the tokens that it takes (RFC 9728 section 2).
type Resource struct {
	ID      string   // its identifier, for which a token is asked for (RFC 8707)
	Issuers []string // its authorization servers, each once; nil: it names none
	Scopes  []string // what to ask for: the scopes of its challenge, else all that it supports; nil: it names none
}

// ping is what an MCP server is asked to find out whether it wants a token. It begins no session.
const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// FindResource asks an MCP server for what it says of its tokens, as the authorization specification of MCP has it: at the place
// that its challenge names, else, also where nothing is there, at its well-known addresses, with its path and without.
//
// A description at another origin is not asked for. One that is for another resource is refused (RFC 9728 section 3.3): a server
// that can claim another's name gets that one's tokens. If it is for more than the server's own address, such as its whole
// origin, that origin's own description counts. An authorization server that no secret may be sent to is left out, and so is one
// nearer to this machine than the server itself (see nearness).
//
// Every error is an [*Error], ErrConfig or ErrUnavailable. A server that wants a token and describes itself nowhere is no error:
// it names no Issuers.
func (c *Client) FindResource(ctx context.Context, address string) (Resource, error) {
	to, bad := parseURL("the address of the MCP server", address)
	if bad != nil {
		return Resource{}, bad
	}
	asked, failure := c.knock(ctx, to, protocol.Secret{})
	if failure != nil {
		return Resource{}, failure.at(to)
	}
	switch {
	case asked.status/100 == 3:
		e := &Error{Condition: asked.redirected()}
		e.Condition.Code, e.Condition.Hint = protocol.CodeConfig, "give the address that the server itself answers at"
		return Resource{}, e.at(to)
	case asked.status/100 == 5, !asked.ok() && !asked.canBeFinal():
		return Resource{}, asked.refusal(forClient, now()).at(to)
	}
	challenge := asked.bearerChallenge()
	scopes := validScopes(strings.Fields(challenge["scope"]))
	places := wellKnownResource(to.URL)
	named := challenge["resource_metadata"]
	if named != "" {
		places = append([]string{named}, places...)
	}
	for i, place := range places {
		isNamed := named != "" && i == 0
		at, bad := c.metadataAt(to, place)
		if bad != nil {
			return Resource{}, bad.at(to)
		}
		a, fields, failure := c.getObject(ctx, at, protocol.Secret{})
		switch {
		case failure != nil && !isNamed && a != nil && a.isPage():
			continue // a web site answers for every address
		case failure != nil:
			return Resource{}, failure
		case a.ok():
			if own := widerThan(to, at, fields); own != "" {
				place, bad := c.metadataAt(to, own)
				if bad != nil {
					return Resource{}, bad.at(to)
				}
				if a, its, failure := c.getObject(ctx, place, protocol.Secret{}); failure == nil && a.ok() {
					at, fields = place, its
				}
			}
			r, bad := c.readResource(to, at, fields)
			if bad != nil {
				return Resource{}, bad.at(at)
			}
			if len(scopes) > 0 {
				r.Scopes = scopes
			}
			return r, nil
		case a.status/100 != 4 || !a.canBeFinal(), isNamed && a.status != http.StatusNotFound && a.status != http.StatusGone:
			return Resource{}, a.refusal(forClient, now()).at(at)
		}
	}
	if asked.status != http.StatusUnauthorized && asked.status != http.StatusForbidden {
		e := fail(protocol.CodeConfig, "it asks for no token, and says nowhere how one would sign in")
		e.Condition.Hint = "check the address; a server that wants no sign-in is used without ccagent"
		return Resource{}, e.at(to)
	}
	return Resource{ID: to.URL, Scopes: scopes}, nil
}

// knock asks an MCP server for nothing, and reads no body: it may be without end.
func (c *Client) knock(ctx context.Context, to target, access protocol.Secret) (*answer, *Error) {
	asking := *c
	asking.Headers = map[string]string{"Accept": "application/json, text/event-stream"}
	header := http.Header{"Content-Type": {"application/json"}}
	if !access.Empty() {
		header.Set("Authorization", "Bearer "+access.Reveal())
	}
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	resp, done, failure := asking.begin(ctx, http.MethodPost, to, header, []byte(ping))
	if failure != nil {
		return nil, failure
	}
	defer done()
	return &answer{client: c, status: resp.StatusCode, header: resp.Header, sent: []string{access.Reveal()}}, nil
}

// wellKnownResource returns where a resource may describe itself: at the address for its path, then at that of its origin
// (RFC 9728 section 3.1).
func wellKnownResource(resource string) []string {
	u, err := url.Parse(resource)
	if err != nil {
		return nil
	}
	const place = "/.well-known/oauth-protected-resource"
	own, origin := *u, *u
	own.Path, own.RawPath = place+strings.TrimSuffix(u.Path, "/"), ""
	origin.Path, origin.RawPath, origin.RawQuery = place, "", ""
	if own.String() == origin.String() {
		return []string{origin.String()}
	}
	return []string{own.String(), origin.String()}
}

// metadataAt checks where a resource says that its description is.
func (c *Client) metadataAt(resource target, place string) (target, *Error) {
	at, bad := parseURL("the address of its description (resource_metadata)", place)
	if bad != nil {
		return at, bad
	}
	own, _ := Origin(resource.URL)
	if origin, _ := Origin(place); origin != own {
		e := fail(protocol.CodeConfig, "it says that its description is at another site, "+printable(origin)+", which is not asked")
		e.Condition.Hint = "tell whoever runs the server: resource_metadata has to be at " + own
		return at, e
	}
	return at, nil
}

// readResource reads a resource's description, which came from at.
func (c *Client) readResource(resource, at target, fields map[string]json.RawMessage) (Resource, *Error) {
	id, _ := text(fields["resource"])
	switch {
	case id == "":
		return Resource{}, fail(protocol.CodeConfig, "it is no description of a protected resource: resource is missing (RFC 9728)")
	case !sameResource(id, resource.URL) && !(covers(id, resource.URL) && slices.Contains(wellKnownResource(id)[:1], at.URL)):
		e := fail(protocol.CodeConfig, "the description is for "+printable(id)+", not for "+printable(resource.URL)+
			" (RFC 9728 section 3.3)")
		e.Condition.Hint = "a server that claims another's name may be after its tokens: tell whoever runs it"
		if own, _ := Origin(resource.URL); own != "" {
			if origin, err := Origin(id); err == nil && origin == own {
				e.Condition.Hint = "if that is the server you mean, give its own address: --mcp " + protocol.ShellLine(id)
			}
		}
		return Resource{}, e
	}
	r := Resource{ID: id, Scopes: validScopes(list(fields["scopes_supported"]))}
	var unusable *Error
	raw, there := fields["authorization_servers"]
	servers := list(raw)
	if there && servers == nil && string(raw) != "null" && string(raw) != "[]" {
		return Resource{}, fail(protocol.CodeConfig, "its authorization_servers is not a list of addresses")
	}
	for _, issuer := range servers {
		switch bad := mayIssue(resource, issuer); {
		case bad != nil && unusable == nil:
			unusable = bad
		case bad == nil && !slices.ContainsFunc(r.Issuers, func(s string) bool { return SameIssuer(s, issuer) }):
			r.Issuers = append(r.Issuers, issuer)
		}
	}
	if r.Issuers == nil && unusable != nil {
		return Resource{}, unusable
	}
	return r, nil
}

// widerThan returns where the resource that a description is for describes itself, if it contains the one that was asked and is
// described elsewhere; else "".
func widerThan(resource, at target, fields map[string]json.RawMessage) string {
	id, _ := text(fields["resource"])
	if sameResource(id, resource.URL) || !covers(id, resource.URL) || wellKnownResource(id)[0] == at.URL {
		return ""
	}
	return wellKnownResource(id)[0]
}

// sameResource reports whether two identifiers are one: they may differ in what means nothing, the case of the host, a port that
// is the scheme's own, and the slash after a host without a path.
func sameResource(a, b string) bool {
	x, y := canonical(a), canonical(b)
	return x != "" && x == y
}

// SameIssuer reports whether two identifiers are of one issuer. They may differ as those of resources may, and in a slash at the
// end, with and without which an issuer describes itself at one address (RFC 8414 section 3.1).
func SameIssuer(a, b string) bool {
	return sameResource(a, b) || sameResource(a+"/", b) || sameResource(a, b+"/")
}

func canonical(raw string) string {
	origin, err := Origin(raw)
	u, parsed := url.Parse(raw)
	if err != nil || parsed != nil {
		return ""
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return origin + path + "?" + u.RawQuery
}

// covers reports whether a resource contains an address, as a folder contains what is below it.
func covers(resource, address string) bool {
	origin, err := Origin(resource)
	other, otherErr := Origin(address)
	r, bad := url.Parse(resource)
	a, otherBad := url.Parse(address)
	if err != nil || otherErr != nil || bad != nil || otherBad != nil || origin != other || r.RawQuery != "" ||
		strings.Contains(a.EscapedPath()+"/", "/../") {
		return false
	}
	return strings.HasPrefix(a.EscapedPath()+"/", strings.TrimSuffix(r.EscapedPath(), "/")+"/")
}

// mayIssue returns why an authorization server that a resource names is not asked, nil where it may be.
func mayIssue(resource target, issuer string) *Error {
	to, bad := parseURL("the authorization server that it names", issuer)
	if bad != nil {
		return bad
	}
	from, _ := url.Parse(resource.URL)
	u, _ := url.Parse(to.URL)
	if u.RawQuery != "" {
		return fail(protocol.CodeConfig, "the authorization server that it names must have no query: "+printable(to.URL))
	}
	if nearness(u.Hostname()) > nearness(from.Hostname()) {
		e := fail(protocol.CodeConfig, "it names an authorization server on this machine or in its network, "+printable(to.Host)+
			", which a server elsewhere has no say in")
		e.Condition.Hint = "if you run both, write the profile into config.toml: issuer, mcp_url and resource (docs/login.md)"
		return e
	}
	return nil
}

// nearness says how near a host is to this machine, as it is written: 3 this machine, 2 its link, where clouds keep their keys, 1
// a private network, 0 anywhere. A server that is farther away may not send us to a nearer one. A name that leads to a nearer
// address is no way around this, because nobody there has a certificate for the name.
func nearness(host string) int {
	host = strings.ToLower(host)
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	switch {
	case secureurl.Loopback(host), strings.HasSuffix(host, ".localhost"), err == nil && (addr.IsLoopback() || addr.IsUnspecified()):
		return 3
	case err == nil && (addr.IsLinkLocalUnicast() || addr.IsMulticast()):
		return 2
	case err == nil && (addr.IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(addr)):
		return 1
	}
	return 0
}

// validScopes leaves out what is no scope (RFC 6749 section 3.3), and what is there twice.
func validScopes(scopes []string) []string {
	var valid []string
	for _, scope := range scopes {
		bad := scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
		if !bad && !slices.Contains(valid, scope) {
			valid = append(valid, scope)
		}
	}
	return valid
}

// CheckResource asks an MCP server whether it takes an access token. Every error is an [*Error]: ErrExpired (it refuses the
// token), ErrDenied (the token lacks a scope, which is named where the server names it), ErrConfig and ErrUnavailable.
func (c *Client) CheckResource(ctx context.Context, address string, access protocol.Secret) error {
	to, bad := parseURL("mcp_url", address)
	if bad != nil {
		return bad
	}
	a, failure := c.knock(ctx, to, access)
	if failure != nil {
		return failure.at(to)
	}
	said := fold(a.bearerChallenge()["error"])
	switch {
	case a.status == http.StatusForbidden && said == fold("insufficient_scope"):
		return a.missingScope().at(to)
	case a.status == http.StatusUnauthorized:
		e := fail(protocol.CodeExpired, "the server does not take the token")
		e.Condition.Hint = "renew it with: " + c.refresh() + "\nif that does not help, sign in again: " + c.Login()
		return e.at(to)
	case a.status == http.StatusForbidden:
		return fail(protocol.CodeDenied, "the server does not let this sign-in in").at(to)
	case a.status/100 == 3:
		return (&Error{Condition: a.redirected()}).at(to)
	case a.status/100 == 5, !a.ok() && !a.canBeFinal(), a.status == http.StatusNotFound:
		return a.refusal(forAccess, now()).at(to)
	}
	return nil // also 400: it has looked at the token, and misses a session
}

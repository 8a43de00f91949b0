// Package route has the rules of the gateway: which requests go where, with whose token, and which are refused. It decides by
// the text of a request alone, and asks nobody.
package route

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/secureurl"
)

// Route is where requests of a tool may go, and with whose token.
type Route struct {
	Name    string
	Profile string // of the agent; the token is that profile's
	// Upstream is where requests go: a scheme, a host, and what every path begins with. Its path does not end in a slash.
	Upstream *url.URL
	// Hosts are further hosts of the route, in the spelling of [hosts.Pattern]. They are reached by https.
	Hosts []string
	Place place.Place
	// Allow are the requests that are let through; without any, all that Deny does not name are. Deny counts more than Allow.
	Allow, Deny []Rule
	// Env is what a tool is given, by the name of the variable.
	Env map[string]Value
	// Tools are those that are told of the route in a way of their own, beside Env.
	Tools []Tool
	// Kinds says what is otherwise for a token of a kind, by the name that package protocol has for the kind.
	Kinds   map[string]Variant
	Errors  Shape
	Foreign Foreign
	RenewOn []int // the statuses by which the upstream refuses a token
	// Private says that the services may have addresses of private networks.
	Private bool
	// Proxy is the proxy by which the services are reached; nil: the gateway's.
	Proxy *url.URL
	// TLS has the authorities that the services are judged by, and the certificate that they are shown; nil: the system's, and none.
	TLS   *tls.Config
	Limit Limit
}

// Variant is what a route has otherwise for one kind of token. What is nil is as the route has it.
type Variant struct {
	Place *place.Place
	Env   map[string]Value
}

// Value is what a variable of a tool holds.
type Value string

const (
	URL   Value = "url"   // the base URL at which the tool finds the route
	Token Value = "token" // the stand-in for the token
)

// Tool is a program that variables with a URL and a token don't lead to a route.
type Tool string

const (
	Git Tool = "git" // its URLs that begin with the upstream lead through the route
	NPM Tool = "npm" // it sends the stand-in to the route, which is its registry
)

// Tools are all of them.
var Tools = []Tool{Git, NPM}

// Shape says whose form the errors have that a tool gets.
type Shape string

const (
	Anthropic Shape = "anthropic"
	OpenAI    Shape = "openai"
	Google    Shape = "google"
	GitHub    Shape = "github"
	Plain     Shape = "plain" // a line of text
)

// Shapes are all of them.
var Shapes = []Shape{Anthropic, OpenAI, Google, GitHub, Plain}

// Foreign says what becomes of a request that carries a credential, and not the route's stand-in.
type Foreign string

const (
	Refuse Foreign = "refuse"
	Pass   Foreign = "pass" // it goes on as it is, without our token
)

// For returns the route for a token of a kind.
func (r Route) For(kind string) Route {
	v := r.Kinds[kind]
	if v.Place != nil {
		r.Place = *v.Place
	}
	if v.Env != nil {
		r.Env = v.Env
	}
	r.Kinds = nil
	return r
}

// CheckName says what is wrong with the name of a route. A name is a part of the base URL that tools are given.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return errors.New("the name of a route has up to 64 small letters, digits and hyphens")
	}
	return nil
}

// ParseUpstream reads an upstream. The error says what is wrong, in words that can follow the URL.
func ParseUpstream(written string) (*url.URL, error) {
	u, err := secureurl.Parse(written)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return nil, errors.New("must not hold a query")
	}
	if path := u.EscapedPath(); path != "" {
		if err := CheckTarget(path); err != nil {
			return nil, fmt.Errorf("can't be used: %w", err)
		}
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	return u, nil
}

// Refusal is why a request is not let through. Its text is for the person who reads the tool's error.
type Refusal struct {
	Kind Kind
	Text string
}

func (r *Refusal) Error() string { return r.Text }

// Kind is what a refusal is about.
type Kind int

const (
	BadTarget Kind = iota + 1 // the request's target could be read in two ways
	NoRoute                   // no route is for it
	Forbidden                 // a rule of its route forbids it
	BadMethod                 // no rule can allow the method
)

func refuse(kind Kind, format string, args ...any) *Refusal {
	return &Refusal{kind, fmt.Sprintf(format, args...)}
}

// Table is the routes of a session.
type Table []Route

// Named returns the route of a name, nil if there is none.
func (t Table) Named(name string) *Route {
	if i := slices.IndexFunc(t, func(r Route) bool { return r.Name == name }); i >= 0 {
		return &t[i]
	}
	return nil
}

// Base returns the route of a request that came to the base URL of a route, and where it goes: /NAME and the rest of the path for
// the upstream, /NAME@HOST and the rest for a further host. target is the request's target as it was received. The error is a
// [*Refusal].
func (t Table) Base(target string) (*Route, *url.URL, error) {
	if err := CheckTarget(target); err != nil {
		return nil, nil, refuse(BadTarget, "%s", err)
	}
	path, query, hasQuery := strings.Cut(target, "?")
	first, rest, deeper := strings.Cut(path[1:], "/")
	if deeper {
		rest = "/" + rest
	}
	name, host, further := strings.Cut(first, "@")
	r := t.Named(name)
	if r == nil {
		return nil, nil, refuse(NoRoute, "no route has the name %q: see the [gateway.routes] of config.toml", name)
	}
	to := &url.URL{Scheme: r.Upstream.Scheme, Host: r.Upstream.Host}
	if further {
		if host == "" || hosts.At("https", host) != host || !hosts.Listed(r.Hosts, host) {
			return nil, nil, refuse(NoRoute, "route %s has no host %q", name, host)
		}
		to.Scheme, to.Host = "https", host
	} else {
		rest = r.Upstream.EscapedPath() + rest
	}
	plain, err := url.PathUnescape(rest)
	if err != nil {
		return nil, nil, refuse(BadTarget, "the path has an escape that is none")
	}
	to.Path, to.RawPath, to.RawQuery, to.ForceQuery = plain, rest, query, hasQuery && query == ""
	return r, to, nil
}

// ByHost returns the route of a request whose field Host names a host of a route, and where it goes: its target is that of the
// service. gh sends such requests to a Unix socket, which it takes for the service.
func (t Table) ByHost(host, target string) (r *Route, to *url.URL, found bool) {
	if CheckTarget(target) != nil {
		return nil, nil, false
	}
	to, err := url.Parse(target)
	if err != nil {
		return nil, nil, false
	}
	to.Scheme, to.Host = "https", host
	if r = t.At(to); r == nil {
		return nil, nil, false
	}
	to.Host = hosts.Name(to.Scheme, to.Hostname(), to.Port())
	return r, to, true
}

// At returns the route that covers a URL, nil if none does. Of several it is that with the longest upstream.
func (t Table) At(u *url.URL) *Route {
	host := hosts.Name(u.Scheme, u.Hostname(), u.Port())
	var best *Route
	length := -1
	for i := range t {
		r := &t[i]
		switch base := r.Upstream.EscapedPath(); {
		case u.Scheme == r.Upstream.Scheme && host == r.Host() && below(u.EscapedPath(), base) && len(base) > length:
			best, length = r, len(base)
		case u.Scheme == "https" && hosts.Listed(r.Hosts, host) && length < 0:
			best, length = r, 0
		}
	}
	return best
}

// Check returns the route and the rule by which a request of a tool would be let through: "" if the route needs none. The URL is
// written as the service has it. The error is a [*Refusal]; the route is nil where none covers the URL.
func (t Table) Check(method, written string) (r *Route, rule string, err error) {
	written, _, _ = strings.Cut(written, "#") // which no client sends
	u, err := url.Parse(written)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, "", refuse(BadTarget, "this is not the URL of a request")
	}
	_, target, _ := strings.Cut(written, "://")
	if at := strings.IndexAny(target, `/?\`); at < 0 {
		target = "/"
	} else if target = target[at:]; target[0] == '?' {
		target = "/" + target
	}
	if u.User != nil {
		return nil, "", refuse(BadTarget, "the URL has a user or a password in it")
	}
	if err := CheckTarget(target); err != nil {
		return nil, "", refuse(BadTarget, "%s", err)
	}
	if r = t.At(u); r == nil {
		return nil, "", refuse(NoRoute, "no route covers %s://%s", u.Scheme,
			hosts.Name(u.Scheme, u.Hostname(), u.Port())+u.EscapedPath())
	}
	if err := CheckMethod(method); err != nil {
		return r, "", err
	}
	rule, err = r.Judge(method, cmp.Or(u.EscapedPath(), "/"))
	return r, rule, err
}

// CheckMethod refuses the methods that no rule can allow. The error is a [*Refusal].
func CheckMethod(method string) error {
	if method == "TRACE" {
		return refuse(BadMethod, "the answer to TRACE would show the token")
	}
	return nil
}

// Host returns the upstream's host as requests name it ([hosts.Name]).
func (r *Route) Host() string {
	return hosts.Name(r.Upstream.Scheme, r.Upstream.Hostname(), r.Upstream.Port())
}

// below reports whether a path begins with another, segment by segment.
func below(path, base string) bool {
	rest, ok := strings.CutPrefix(path, base)
	return ok && (rest == "" || rest[0] == '/')
}

// Location returns where the tool finds a URL that an answer leads to: the URL below base, at which the gateway serves the tool,
// if a route covers it, else "".
func (t Table) Location(base string, u *url.URL) string {
	r := t.At(u)
	if r == nil || u.User != nil {
		return ""
	}
	first, path := r.Name, u.EscapedPath()
	if host := hosts.Name(u.Scheme, u.Hostname(), u.Port()); u.Scheme == r.Upstream.Scheme && host == r.Host() &&
		below(path, r.Upstream.EscapedPath()) {
		path = strings.TrimPrefix(path, r.Upstream.EscapedPath())
	} else {
		first += "@" + host
	}
	there := base + "/" + first + path
	if u.RawQuery != "" {
		there += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		there += "#" + u.EscapedFragment()
	}
	return there
}

// Judge says whether the route lets a request through whose path is escaped, and by which rule: "" if it needs none. The error is
// a [*Refusal].
func (r *Route) Judge(method, path string) (rule string, err error) {
	once, twice := readings(path)
	for _, d := range r.Deny {
		if d.matches(method, once) || d.matches(method, twice) {
			return d.String(), refuse(Forbidden, "route %s denies %s %s (deny = %q)", r.Name, method, path, d)
		}
	}
	if len(r.Allow) == 0 {
		return "", nil
	}
	for _, a := range r.Allow {
		if a.matches(method, once) {
			return a.String(), nil
		}
	}
	return "", refuse(Forbidden, "route %s does not allow %s %s", r.Name, method, path)
}

// Variables returns the names of the variables that the route sets, in order.
func (r *Route) Variables() []string { return slices.Sorted(maps.Keys(r.Env)) }

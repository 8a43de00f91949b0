package config

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/protocol"
)

// GatewayTable is [gateway].
type GatewayTable struct {
	Routes map[string]RouteTable `toml:"routes"`
}

// RouteTable is one [gateway.routes.NAME].
type RouteTable struct {
	Profile  *string           `toml:"profile"`
	Upstream *string           `toml:"upstream"`
	Hosts    []string          `toml:"hosts"`
	Place    *string           `toml:"place"`
	Allow    []string          `toml:"allow"`
	Deny     []string          `toml:"deny"`
	Env      map[string]string `toml:"env"`
	Tools    []string          `toml:"tools"`
	Errors   *string           `toml:"errors"`
	RenewOn  []int             `toml:"renew_on"`
	Foreign  *string           `toml:"foreign"`

	Private    *bool   `toml:"private"`
	CAFile     *string `toml:"ca_file"`
	ClientCert *string `toml:"client_cert"`
	ClientKey  *string `toml:"client_key"`
	Proxy      *string `toml:"proxy"`
	Limit      *string `toml:"limit"`
}

// routes returns the tables of routes of the document.
func (d *document) routes() map[string]RouteTable {
	if d.Gateway == nil {
		return nil
	}
	return d.Gateway.Routes
}

// checkGateway checks the tables of routes.
func (d *document) checkGateway(env environ.Vars, cfg agent.Config) error {
	for _, name := range slices.Sorted(maps.Keys(d.routes())) {
		r, err := d.route(cfg, name)
		if err != nil {
			return err
		}
		if err := d.withinHosts(cfg, &r); err != nil {
			return err
		}
		if _, err := d.routeFiles(env, name); err != nil {
			return err
		}
	}
	return nil
}

// route makes a route of its table and the preset of its name. Without a table, the preset is the route.
func (d *document) route(cfg agent.Config, name string) (route.Route, error) {
	fault := d.routeFault(name)
	r := route.Route{Name: name, Errors: route.Plain, Foreign: route.Refuse, RenewOn: []int{401}}
	if err := route.CheckName(name); err != nil {
		return r, fault("", "%s", err)
	}
	p := presets()[name]
	if err := take(&r, p.RouteTable, func(key, format string, args ...any) error {
		panic(fmt.Sprintf("presets.toml: "+name+"."+key+": "+format, args...)) // a test reads them
	}); err != nil {
		return r, err
	}
	t := d.routes()[name]
	if t.Upstream != nil {
		r.Hosts = nil // those of the preset belong to its upstream
	}
	if err := take(&r, t, fault); err != nil {
		return r, err
	}
	for kind, otherwise := range p.Kinds {
		v := route.Variant{}
		if otherwise.Place != nil && t.Place == nil {
			at, _ := place.Parse(*otherwise.Place)
			v.Place = &at
		}
		if otherwise.Env != nil && t.Env == nil {
			v.Env = values(otherwise.Env)
		}
		if r.Kinds == nil {
			r.Kinds = map[string]route.Variant{}
		}
		r.Kinds[kind] = v
	}
	if r.Upstream == nil {
		return r, fault("", `upstream is missing: the URL at which the service is, like "https://llm.example.com"`)
	}
	if t.Profile != nil {
		profile, ok := Find(cfg, *t.Profile)
		if !ok {
			return r, fault("profile", "profile is %q, and there is no such profile", *t.Profile)
		}
		r.Profile = profile.Name
	}
	return r, nil
}

// routeFault returns what makes an error about a key of a route's table.
func (d *document) routeFault(name string) faulty {
	return func(key, format string, args ...any) error {
		return d.fault(d.index.line("gateway", "routes", name, key), "gateway.routes."+name+": "+format, args...)
	}
}

// routeFiles returns the paths of the files that a route's table names: authorities, certificate and key.
func (d *document) routeFiles(env environ.Vars, name string) (files [3]string, err error) {
	t, fault := d.routes()[name], d.routeFault(name)
	for i, f := range []struct {
		key   string
		value *string
	}{{"ca_file", t.CAFile}, {"client_cert", t.ClientCert}, {"client_key", t.ClientKey}} {
		if files[i], err = fileOf(env, f.key, f.value, fault); err != nil {
			return files, err
		}
	}
	return files, pair(files[1], files[2], fault)
}

// readTLS reads the files of a route. It returns nil if there are none.
func (d *document) readTLS(env environ.Vars, name string) (*tls.Config, error) {
	files, err := d.routeFiles(env, name)
	if err != nil || files == [3]string{} {
		return nil, err
	}
	c := &tls.Config{}
	authorities, certificate, err := worker.ReadTLS(files[0], files[1], files[2])
	if err != nil {
		return nil, err
	}
	if c.RootCAs = authorities; certificate != nil {
		c.Certificates = []tls.Certificate{*certificate}
	}
	return c, nil
}

// take puts into a route what a table says.
func take(r *route.Route, t RouteTable, fault faulty) error {
	var err error
	if t.Upstream != nil {
		if r.Upstream, err = route.ParseUpstream(*t.Upstream); err != nil {
			return fault("upstream", "upstream %s", err)
		}
	}
	if t.Hosts != nil {
		r.Hosts = nil
	}
	for _, host := range t.Hosts {
		pattern, err := hostPattern(host, fault)
		if err != nil {
			return err
		}
		r.Hosts = append(r.Hosts, pattern)
	}
	if t.Place != nil {
		if r.Place, err = place.Parse(*t.Place); err != nil {
			return fault("place", "place is %q, which %s", *t.Place, err)
		}
	}
	if r.Allow, err = rules(r.Allow, t.Allow, "allow", fault); err != nil {
		return err
	}
	if r.Deny, err = rules(r.Deny, t.Deny, "deny", fault); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(t.Env)) {
		switch value := t.Env[name]; {
		case !environ.VariableName(name):
			return fault("env", "env: %q is not the name of a variable", name)
		case value != string(route.URL) && value != string(route.Token):
			return fault("env", `env: %s is %q: it must be "url" or "token"`, name, value)
		}
	}
	if t.Env != nil {
		r.Env = values(t.Env)
	}
	if t.Tools != nil {
		r.Tools = nil
	}
	for _, name := range t.Tools {
		if !slices.Contains(route.Tools, route.Tool(name)) {
			return fault("tools", "tools: %q is not one of %s", name, Joined(route.Tools, ", "))
		}
		r.Tools = append(r.Tools, route.Tool(name))
	}
	if t.Errors != nil {
		if r.Errors = route.Shape(*t.Errors); !slices.Contains(route.Shapes, r.Errors) {
			return fault("errors", "errors is %q: it must be one of %s", *t.Errors, Joined(route.Shapes, ", "))
		}
	}
	if t.Foreign != nil {
		if r.Foreign = route.Foreign(*t.Foreign); r.Foreign != route.Refuse && r.Foreign != route.Pass {
			return fault("foreign", "foreign is %q: it must be refuse or pass", *t.Foreign)
		}
	}
	if t.Private != nil {
		r.Private = *t.Private
	}
	if t.Proxy != nil {
		if r.Proxy, err = proxyOf(*t.Proxy, fault); err != nil {
			return err
		}
	}
	if t.Limit != nil {
		if r.Limit, err = route.ParseLimit(*t.Limit); err != nil {
			return fault("limit", "limit is %q, which %s", *t.Limit, err)
		}
	}
	if t.RenewOn == nil {
		return nil
	}
	if r.RenewOn = t.RenewOn; len(t.RenewOn) == 0 {
		return fault("renew_on", "renew_on is empty: it lists the statuses by which the service refuses a token, like [401]")
	}
	for _, status := range t.RenewOn {
		if status < 400 || status > 499 {
			return fault("renew_on", "renew_on: %d is not a status from 400 to 499", status)
		}
	}
	return nil
}

// rules returns what a table says, or what was there before if it says nothing.
func rules(before []route.Rule, written []string, key string, fault faulty) ([]route.Rule, error) {
	if written == nil {
		return before, nil
	}
	all := []route.Rule{}
	for _, text := range written {
		rule, err := route.ParseRule(text)
		if err != nil {
			return nil, fault(key, "%s: %q %s", key, text, err)
		}
		all = append(all, rule)
	}
	return all, nil
}

func values(env map[string]string) map[string]route.Value {
	all := map[string]route.Value{}
	for name, value := range env {
		all[name] = route.Value(value)
	}
	return all
}

// withinHosts returns an error if the route goes to a host that is not among those of its profile, where that lists any. The
// agent would refuse a token for it. Where only the preset names the hosts, such hosts are left out.
func (d *document) withinHosts(cfg agent.Config, r *route.Route) error {
	profile, ok := Find(cfg, r.Profile)
	if !ok || len(profile.Hosts) == 0 {
		return nil
	}
	fault := func(key, host string) error {
		return d.fault(d.index.line("gateway", "routes", r.Name, key),
			"route %s goes to %s, which is not among the hosts of profile %s (%s)", r.Name, host, r.Profile,
			strings.Join(profile.Hosts, ", "))
	}
	if !hosts.Listed(profile.Hosts, r.Host()) {
		return fault("upstream", r.Host())
	}
	outside := func(host string) bool {
		return !slices.Contains(profile.Hosts, host) && !hosts.Listed(profile.Hosts, host)
	}
	if d.routes()[r.Name].Hosts == nil {
		r.Hosts = slices.DeleteFunc(slices.Clone(r.Hosts), outside)
	} else if i := slices.IndexFunc(r.Hosts, outside); i >= 0 {
		return fault("hosts", r.Hosts[i])
	}
	return nil
}

// Gateway is what config.toml and the presets say of the gateway.
type Gateway struct {
	Config agent.Config
	doc    *document
	env    environ.Vars
}

// LoadGateway reads config.toml like [Load], with the same errors.
func LoadGateway(env environ.Vars) (Gateway, error) {
	cfg, doc, err := load(env)
	return Gateway{cfg, doc, env}, err
}

// Session returns the routes of a session. names are those that are wanted; without any, these are all that have a table, and the
// preset of the profile's provider. profile is for the routes that name none. chosen says that a person has chosen it for this
// session: without that, no preset but that of its provider gets its token. The files that the routes name are read. Errors are
// of condition ErrConfig.
func (g Gateway) Session(profile agent.Profile, chosen bool, names []string) (route.Table, error) {
	wanted := names
	if len(wanted) == 0 {
		wanted = slices.Sorted(maps.Keys(g.doc.routes()))
		for _, name := range Presets() {
			if own(name, profile) && !slices.Contains(wanted, name) {
				wanted = append(wanted, name)
			}
		}
	}
	if len(wanted) == 0 {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("no route leads anywhere with profile %s", profile.Name),
			Hint: "write a table [gateway.routes.NAME] into config.toml (ccagent help docs/gateway.md), or name a preset with --routes: " +
				strings.Join(Presets(), ", "),
		}
	}
	var table route.Table
	without := "" // the route that names no profile
	for _, name := range wanted {
		_, written := g.doc.routes()[name]
		if _, known := presets()[name]; !written && !known {
			return nil, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: fmt.Sprintf("there is no route %q", name),
				Hint:    "these are there: " + strings.Join(g.names(), ", "),
			}
		}
		if table.Named(name) != nil {
			continue
		}
		r, err := g.doc.route(g.Config, name)
		if err != nil {
			return nil, err
		}
		if r.Profile == "" {
			hint := fmt.Sprintf("write into config.toml, under [gateway.routes.%s]: profile = \"NAME\"", name)
			if !written && !chosen && !own(name, profile) {
				return nil, &protocol.Error{Code: protocol.CodeConfig,
					Message: fmt.Sprintf("route %s names no profile, and that of this session (%s) was not chosen for it", name, profile.Name),
					Hint:    hint + "\nor choose one with -p"}
			}
			if without != "" {
				return nil, &protocol.Error{Code: protocol.CodeConfig,
					Message: fmt.Sprintf("routes %s and %s name no profile, and one token is not for both", without, name), Hint: hint}
			}
			without, r.Profile = name, profile.Name
		}
		if err := g.doc.withinHosts(g.Config, &r); err != nil {
			return nil, err
		}
		if r.TLS, err = g.doc.readTLS(g.env, name); err != nil {
			return nil, err
		}
		table = append(table, r)
	}
	return table, oneOwner(table)
}

// Covering returns the names of the routes and presets that cover a URL, in order.
func (g Gateway) Covering(u *url.URL) []string {
	var found []string
	for _, name := range g.names() {
		if r, err := g.doc.route(g.Config, name); err == nil && (route.Table{r}).At(u) != nil {
			found = append(found, name)
		}
	}
	return found
}

// names returns those of all routes and presets, in order.
func (g Gateway) names() []string {
	return slices.Compact(slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(g.doc.routes())), Presets()...))))
}

// oneOwner returns an error if two routes set the same variable for the tool.
func oneOwner(table route.Table) error {
	owner := map[string]string{}
	for _, r := range table {
		for _, name := range r.Variables() {
			if first := cmp.Or(owner[name], r.Name); first != r.Name {
				return &protocol.Error{
					Code:    protocol.CodeConfig,
					Message: fmt.Sprintf("routes %s and %s both set %s for the tool", first, r.Name, name),
					Hint:    "name the routes that the tool shall have with --routes, or set env of one of them otherwise",
				}
			}
			owner[name] = r.Name
		}
	}
	return nil
}

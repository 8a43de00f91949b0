// Package tool says what environment a tool gets that reaches services through a gateway.
package tool

import (
	"maps"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
)

// Environment returns an environment with what the gateway grants, and without the variables that tools would prefer to that.
func Environment(before []string, ready session.Ready) []string {
	set := map[string]string{}
	for _, grant := range ready.Grants {
		for name, value := range grant.Env {
			if value == route.URL {
				set[name] = ready.Base + "/" + grant.Route
			} else {
				set[name] = grant.StandIn
			}
		}
		for _, one := range grant.Tools {
			tell[one](ready.Base+"/"+grant.Route, grant, lookup(before, set), set)
		}
	}
	for _, pair := range before {
		name, value, _ := strings.Cut(pair, "=")
		if value != "" && slices.Contains(proxies, name) {
			local(before, set)
		}
	}
	after := slices.DeleteFunc(slices.Clone(before), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		_, ours := set[name]
		return ours || slices.Contains(environ.TokenVariables, name)
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		after = append(after, name+"="+set[name])
	}
	return after
}

// proxies are the variables that name a proxy through which a tool would look for the gateway too.
var proxies = []string{"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}

// local sets the variables that keep a tool from asking its proxy for this machine.
func local(before []string, set map[string]string) {
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		except := ""
		for _, pair := range before {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				except = value
			}
		}
		if !slices.Contains(strings.Split(except, ","), "127.0.0.1") {
			set[name] = strings.TrimPrefix(except+",127.0.0.1", ",")
		}
	}
}

package main

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// checkJSON is the output of `ccagent gateway check --json` (docs/json.md).
type checkJSON struct {
	Allowed bool   `json:"allowed"`
	Route   string `json:"route"`
	Profile string `json:"profile"`
	Rule    string `json:"rule"`
	Reason  string `json:"reason,omitempty"`
}

// checkRequest says what the routes of a session mean for a request.
func checkRequest(c *cli.Context) error {
	if c.Args().Len() != 3 {
		return usagef(c, "name the method and the URL, as in: ccagent gateway check GET https://api.github.com/user")
	}
	method, written := strings.ToUpper(c.Args().Get(1)), c.Args().Get(2)
	g, err := config.LoadGateway(getenv)
	if err != nil {
		return err
	}
	table, err := routesOf(c, g)
	if err != nil {
		return err
	}
	result := checkJSON{}
	r, rule, err := table.Check(method, written)
	if r != nil {
		result.Route, result.Profile = r.Name, r.Profile
	}
	result.Rule, result.Allowed = rule, err == nil
	if err != nil {
		result.Reason = err.Error()
		err = &protocol.Error{Code: protocol.CodeDenied, Message: result.Reason, Hint: checkHint(g, table, r, written)}
	}
	if c.Bool("json") {
		return cmp.Or(printJSON(c.App.Writer, result), err)
	}
	if err != nil {
		return err
	}
	return terminal.Table{
		{"route", r.Name},
		{"profile", r.Profile},
		{"upstream", r.Upstream.String()},
		{"rule", cmp.Or(rule, "none: the route lets through all that it does not deny")},
	}.WritePairs(c.App.Writer)
}

// checkHint says what helps against a refusal. r is the route that refuses, nil if none covers the URL.
func checkHint(g config.Gateway, table route.Table, r *route.Route, written string) string {
	if r != nil {
		return fmt.Sprintf("what the route lets through is in config.toml, under [gateway.routes.%s]: allow, deny", r.Name)
	}
	u, err := url.Parse(written)
	if err != nil {
		return ""
	}
	if others := g.Covering(u); len(others) > 0 {
		return "a session that names the route has it: --routes " + strings.Join(others, ", or --routes ")
	}
	var names []string
	for _, r := range table {
		names = append(names, fmt.Sprintf("%s (%s)", r.Name, r.Upstream))
	}
	return "the routes of this session are " + strings.Join(names, ", ")
}

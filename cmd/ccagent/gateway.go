package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// gatewayWords are the words that make another command of `ccagent gateway`.
var gatewayWords = map[string]func(*cli.Context) error{"check": checkRequest, "log": showRequests}

// gatewayCommand is what a person asks of a gateway, and the hidden form that `ccagent run` starts for its tool: that reads what
// the tool wants from standard input.
func gatewayCommand() *cli.Command {
	return &cli.Command{
		Name:      "gateway",
		Usage:     "look into what tools do through a gateway",
		ArgsUsage: "check METHOD URL | log",
		Description: `With check it says which route and which rule lets a request of a tool through, or why none does. The URL
is that of the service. No agent and no tool is needed. The exit code is 0 if the request is let through, and 6 if it is
not.

With log it shows what tools have asked for through gateways in the last 30 days. No body, no query and no secret is in it.

EXAMPLE:
   ccagent gateway check POST https://api.anthropic.com/v1/messages
   ccagent gateway check --routes github GET https://api.github.com/user
   ccagent gateway log --follow`,
		Flags: []cli.Flag{
			profileFlag(), routesFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "with log: go on with what comes, until Ctrl-C"},
			&cli.StringFlag{Name: "session", Usage: "with log: of the session `ID` alone, as ccagent status shows it"},
			&cli.BoolFlag{Name: "tool", Hidden: true, Usage: "serve the tool at the other end of standard input, and end with it"},
			&cli.BoolFlag{Name: "detached", Hidden: true, Usage: "do so in this process, and not in one that is nobody's child"},
		},
		Action: func(c *cli.Context) error {
			switch does := gatewayWords[c.Args().First()]; {
			case does != nil:
				return does(c)
			case c.Args().Present() || !c.Bool("tool"):
				return usagef(c, "say what it shall do: check or log")
			case !c.Bool("detached"):
				return session.Detach(os.Stdin)
			}
			if err := limits.ForbidDumps(); err != nil {
				return err
			}
			return session.Serve(context.WithoutCancel(c.Context), os.Stdin, getenv.GatewayRecords, sessionRoutes)
		},
	}
}

func routesFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name:  "routes",
		Usage: "where the tool may go: `NAMES`, separated by commas, of routes in config.toml and of presets",
	}
}

// sessionRoutes returns the routes that a tool has.
func sessionRoutes(req session.Request) (route.Table, error) {
	g, err := config.LoadGateway(getenv)
	if err != nil {
		return nil, err
	}
	profile, err := config.Named(g.Config, req.Profile)
	if err != nil {
		return nil, err
	}
	return g.Session(profile, req.Chosen, req.Routes)
}

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
	profile, err := config.Named(g.Config, cmp.Or(c.String("profile"), here(g.Config)))
	if err != nil {
		return err
	}
	table, err := g.Session(profile, c.String("profile") != "", c.StringSlice("routes"))
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

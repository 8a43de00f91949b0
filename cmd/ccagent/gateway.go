package main

import (
	"cmp"
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
)

// gatewayWords are the words that make another command of `ccagent gateway`.
var gatewayWords = map[string]func(*cli.Context) error{"check": checkRequest, "log": showRequests}

// gatewayCommand is what a person asks of a gateway, and the hidden form that `ccagent run` starts for its tool: that reads what
// the tool wants from standard input.
func gatewayCommand() *cli.Command {
	return &cli.Command{
		Name:      "gateway",
		Usage:     "serve containers and services as run serves its tool, and look into what tools do",
		ArgsUsage: "[check METHOD URL | log]",
		Description: `With --listen it serves whoever may connect: on a Unix socket this user, and those that --allow-uid names; on a
loopback address, or that of a bridge to containers, whoever has a stand-in. It ends after --for, and at a signal. The
variables that tools need are in the file that --env-file names, and on standard output if that is a terminal.

With check it says which route and which rule lets a request of a tool through, or why none does. The URL
is that of the service. No agent and no tool is needed. The exit code is 0 if the request is let through, and 6 if it is
not.

With log it shows what tools have asked for through gateways in the last 30 days, without headers, queries and bodies.

EXAMPLE:
   ccagent gateway --listen unix:$HOME/box/gateway.sock --routes llm --env-file ~/box/llm.env
   ccagent gateway --listen tcp:172.17.0.1:8080 --routes llm --for 8h --env-file ~/box/llm.env
   ccagent gateway check POST https://api.anthropic.com/v1/messages
   ccagent gateway check --routes github GET https://api.github.com/user
   ccagent gateway log --follow`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "serve at `PLACE`: unix:PATH or tcp:ADDRESS:PORT"},
			&cli.DurationFlag{Name: "for", Usage: "with --listen: end after `DURATION`, for example 8h"},
			&cli.StringFlag{
				Name: "env-file", TakesFile: true,
				Usage: "with --listen: write the variables for tools to `FILE`, which is removed at the end",
			},
			&cli.IntSliceFlag{
				Name:  "allow-uid",
				Usage: "with --listen unix:PATH: also let the user with id `UID` in (may be repeated)",
			},
			profileFlag(), routesFlag(), timeoutFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "with log: also show what comes, until Ctrl-C"},
			&cli.StringFlag{Name: "session", Usage: "with log: of the session `ID` alone, as ccagent status shows it"},
			&cli.BoolFlag{Name: "tool", Hidden: true, Usage: "serve the tool at the other end of standard input, and end with it"},
			&cli.BoolFlag{Name: "detached", Hidden: true, Usage: "do so in this process, and not in one that is nobody's child"},
		},
		Action: func(c *cli.Context) error {
			switch does := gatewayWords[c.Args().First()]; {
			case does != nil:
				return does(c)
			case c.Args().Present() || !c.Bool("tool") && !c.IsSet("listen"):
				return usagef(c, "say what to do: check, log or --listen")
			case !c.Bool("tool"):
				return serveLasting(c)
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
	return sessionRoutesOf(g, req.Profile, req.Chosen, req.Routes)
}

func sessionRoutesOf(g config.Gateway, name string, chosen bool, routes []string) (route.Table, error) {
	profile, err := config.Named(g.Config, name)
	if err != nil {
		return nil, err
	}
	return g.Session(profile, chosen, routes)
}

// routesOf returns the routes of a session that the flags describe.
func routesOf(c *cli.Context, g config.Gateway) (route.Table, error) {
	return sessionRoutesOf(g, cmp.Or(c.String("profile"), here(g.Config)), c.String("profile") != "", c.StringSlice("routes"))
}

package main

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
)

// gatewayCommand is the command that `ccagent run` starts for its tool. It reads what the tool wants from standard input.
func gatewayCommand() *cli.Command {
	return &cli.Command{
		Name:   "gateway",
		Usage:  "serve one tool",
		Hidden: true,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "session", Usage: "serve the tool at the other end of standard input, and end with it"},
			&cli.BoolFlag{Name: "detached", Usage: "do so in this process, and not in one that is nobody's child"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if !c.Bool("session") {
				return usagef(c, "it needs --session, which ccagent run gives it")
			}
			if !c.Bool("detached") {
				return session.Detach(os.Stdin)
			}
			if err := limits.ForbidDumps(); err != nil {
				return err
			}
			return session.Serve(context.WithoutCancel(c.Context), os.Stdin, sessionRoutes)
		},
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

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/demo"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "see it work: sign-ins, 200 requests at once, a revoked token, an outage and a crash",
		Description: `Runs the real programs in a temporary home, against a provider of its own on a loopback port. Each
of that provider's refresh tokens can be used once. The demo touches nothing of yours, needs no
network, takes a few seconds and leaves nothing behind. Its exit code is 0 only if every step
worked.

EXAMPLE:
   ccagent demo
   ccagent demo --interactive`,
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name:    "interactive",
				Aliases: []string{"i"},
				Usage:   "sign in yourself: the provider's page opens in your browser and waits for a click",
			},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			// However the demo ends, its home and its agent must be cleared away, so these signals only end the context. SIGPIPE
			// is caught as well: a reader that is gone shows as an error of the write, and the agent's sockets raise the signal
			// too.
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			broken := make(chan os.Signal, 1)
			signal.Notify(broken, syscall.SIGPIPE)
			defer signal.Stop(broken)
			err := demo.Run(ctx, getenv, c.App.Writer, c.Bool("interactive"))
			if err != nil && ctx.Err() != nil {
				return &exitError{errors.New("interrupted"), exitDeclined}
			}
			return err
		},
	}
}

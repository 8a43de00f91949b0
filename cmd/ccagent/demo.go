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
		Usage: "see it work: sign-ins, a herd, a revoked token, an outage and a crash",
		Description: `Runs the real programs in a temporary home, against a provider of its own on a
loopback port whose refresh tokens are good for one use. Touches nothing of yours,
needs no network, takes a few seconds and leaves nothing behind. Its exit code is
not 0 if any step does not show what it says.

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
			// However it ends, a home and an agent are to be cleared away. That the output's reader is gone the write says, and
			// not the signal, which comes for the agent's sockets as well.
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

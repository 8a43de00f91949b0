package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
)

// workerCommand is what the agent runs: one job from standard input, reports to standard output.
func workerCommand() *cli.Command {
	return &cli.Command{
		Name:   "worker",
		Usage:  "do one job for an agent",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			// What a provider has rotated must be saved whoever is gone meanwhile: the agent (a broken pipe), the terminal, the
			// session. SIGTERM too: a service manager sends it to every process of the unit.
			// They are caught, not ignored: what is ignored stays so in the commands that a worker runs.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
			if err := limits.ForbidDumps(); err != nil {
				return err
			}
			return worker.Run(context.WithoutCancel(c.Context), c.App.Reader, c.App.Writer, build.Version())
		},
	}
}

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

// workerCommand is the command that the agent runs for each job. It reads the job from standard input, and writes reports to
// standard output.
func workerCommand() *cli.Command {
	return &cli.Command{
		Name:   "worker",
		Usage:  "do one job for an agent",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			// A refresh token that the provider has replaced must be saved, even if the agent (a broken pipe), the terminal or
			// the session has gone meanwhile. A service manager sends SIGTERM to every process of the unit. The signals are
			// caught and not ignored, because the commands that a worker runs would inherit an ignored signal.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
			if err := limits.ForbidDumps(); err != nil {
				return err
			}
			return worker.Run(context.WithoutCancel(c.Context), c.App.Reader, c.App.Writer, build.Version())
		},
	}
}

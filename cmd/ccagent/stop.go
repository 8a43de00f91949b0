package main

import (
	"github.com/urfave/cli/v2"
)

func stopCommand() *cli.Command {
	return &cli.Command{
		Name:  "stop",
		Usage: "end the agent",
		Description: `Ends the agent once the renewals under way are done. If there is no agent, there is nothing to do,
and that is not an error. An agent that holds something that no store has (a profile with store
memory, a renewal that could not be saved) refuses to end, with exit code 8. --force ends it
nevertheless.

EXAMPLE:
   ccagent stop
   ccagent stop --force`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "end the agent even if something is lost with it"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return stopAgent(c, c.Bool("force"))
		},
	}
}

// stopAgent ends the agent if there is one, and returns once it does not answer any more.
func stopAgent(c *cli.Context, force bool) error {
	conn, err := connectAwake(c, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Stop(force)
}

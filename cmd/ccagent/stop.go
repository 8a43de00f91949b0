package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/protocol"
)

func stopCommand() *cli.Command {
	return &cli.Command{
		Name:  "stop",
		Usage: "end the agent",
		Description: `Ends the agent once its renewals under way are done. Without an agent there is nothing to do, which is fine.
An agent that holds what no store has (memory profiles, a renewal that could not be saved) refuses, with exit
code 8; --force ends it nevertheless.

EXAMPLE:
   ccagent stop
   ccagent stop --force`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also if something is lost by it"},
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
	defer conn.close()
	return conn.stop(force)
}

// stop is stopAgent on a connection.
func (conn *connection) stop(force bool) error {
	conn.Home = protocol.Home{} // an agent of the wrong home is one to be stopped: it must not refuse that
	before, err := conn.Status(conn.ctx, protocol.StatusRequest{})
	if err == nil {
		_, err = conn.Control(conn.ctx, protocol.ControlRequest{Command: protocol.CommandStop, Force: force})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for err == nil {
		var now protocol.Status
		now, err = conn.Status(conn.ctx, protocol.StatusRequest{})
		if err == nil && now.Agent.PID != before.Agent.PID {
			return nil // somebody has started the next one
		}
		select {
		case <-tick.C:
		case <-conn.ctx.Done():
			return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the agent is still finishing what is under way",
				Hint: "it ends by itself then; ccagent status says what is under way, and --timeout waits longer"}
		}
	}
	if errors.Is(err, protocol.ErrNoAgent) {
		return nil
	}
	return err
}

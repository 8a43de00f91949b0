package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/protocol"
)

// defaultWait is how long a command waits for its answer, as cchelper does.
const defaultWait = 60 * time.Second

func profileFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "profile", Aliases: []string{"p"}, EnvVars: []string{"CCAGENT_PROFILE"},
		Usage: "the `PROFILE` that is meant (default: default_profile of config.toml)",
	}
}

func timeoutFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "timeout", EnvVars: []string{"CCAGENT_TIMEOUT"}, Value: defaultWait,
		Usage: "wait for the answer at most `DURATION`",
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON (ccagent help json)"}
}

// given is the value of a flag, nil where it is not set: what config.toml is then not told.
func given(c *cli.Context, flag string) *string {
	if !c.IsSet(flag) {
		return nil
	}
	value := c.String(flag)
	return &value
}

// connection is a command's way to the agent, for as long as its --timeout allows.
type connection struct {
	*protocol.Client
	ctx   context.Context
	close func()
}

// connect makes the connection. With start an agent is started when none answers.
func connect(c *cli.Context, start bool) (*connection, error) {
	wait := c.Duration("timeout")
	if wait <= 0 {
		return nil, usagef(c, "--timeout must be more than 0")
	}
	if profile := c.String("profile"); profile != "" {
		if err := protocol.CheckProfile(profile); err != nil {
			return nil, err
		}
	}
	client, err := protocol.ClientFromEnv(start)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, wait)
	return &connection{client, ctx, func() { cancel(); client.Close() }}, nil
}

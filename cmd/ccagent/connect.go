package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/protocol"
)

// defaultWait is how long a command waits for its answer, as cchelper does.
const defaultWait = 90 * time.Second

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

// connect makes the connection. With start an agent is started when none answers.
func connect(c *cli.Context, start bool) (*dial.Conn, error) {
	if err := checkConnect(c); err != nil {
		return nil, err
	}
	return dial.Open(c.Context, c.Duration("timeout"), start)
}

// connectAwake is connect for what the agent does by itself: see [dial.OpenAwake].
func connectAwake(c *cli.Context, start bool) (*dial.Conn, error) {
	if err := checkConnect(c); err != nil {
		return nil, err
	}
	return dial.OpenAwake(c.Context, c.Duration("timeout"), start)
}

// checkConnect refuses flags that no connection can be made with.
func checkConnect(c *cli.Context) error {
	if c.Duration("timeout") <= 0 {
		return usagef(c, "--timeout must be more than 0")
	}
	if profile := c.String("profile"); profile != "" {
		return protocol.CheckProfile(profile)
	}
	return nil
}

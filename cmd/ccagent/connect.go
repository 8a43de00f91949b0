package main

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
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

// oneProfile is the profile that the one argument names, else the default one.
func oneProfile(c *cli.Context, cfg agent.Config) (agent.Profile, error) {
	if err := atMost(c, 1); err != nil {
		return agent.Profile{}, err
	}
	name := cmp.Or(c.Args().First(), c.String("profile"), cfg.Default)
	if err := protocol.CheckProfile(name); err != nil {
		return agent.Profile{}, err
	}
	return config.Named(cfg, name)
}

// sharedWithClaude returns the file that Claude Code has the profile's sign-in from, "" if it has not.
func sharedWithClaude(conn *dial.Conn, profile agent.Profile) (string, error) {
	if config.ShowsClaude(profile) {
		return environ.ClaudeFile(config.ClaudeDir(getenv, profile)), nil
	}
	if !config.MayUseClaude(profile) {
		return "", nil
	}
	file := environ.ClaudeFile(config.ClaudeDir(getenv, profile))
	if config.Store(profile).Traits().Shared {
		return file, nil
	}
	// With store auto it is the agent that knows, once it has loaded the profile.
	for range 2 {
		status, err := conn.Status(conn.Ctx, protocol.StatusRequest{Profile: profile.Name})
		if err != nil {
			return "", err
		}
		if len(status.Profiles) == 1 {
			p := status.Profiles[0]
			kind := store.Kind(p.Store)
			if kind.Traits().Shared {
				return p.Location, nil
			}
			if slices.Contains(store.Kinds(nil), kind) {
				return "", nil
			}
		}
		if _, err := conn.Token(conn.Ctx, protocol.TokenRequest{Profile: profile.Name}); errors.Is(err, protocol.ErrNotFound) {
			return "", nil
		}
	}
	if _, err := os.Stat(file); err == nil {
		return file, nil // in doubt it is Claude Code's
	}
	return "", nil
}

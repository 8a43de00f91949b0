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
		Usage: "the `PROFILE` that is meant (default: the one that is used here, see ccagent use)",
	}
}

func timeoutFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "timeout", EnvVars: []string{"CCAGENT_TIMEOUT"}, Value: defaultWait,
		Usage: "wait at most `DURATION` for the answer",
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON (ccagent help json)"}
}

// storeWords says which names of stores a flag takes.
func storeWords(kinds []store.Kind) string {
	return "`STORE` is one of " + config.Joined(kinds, ", ")
}

// given returns the value of a flag, or nil if it is not set. Then nothing is written into config.toml.
func given(c *cli.Context, flag string) *string {
	if !c.IsSet(flag) {
		return nil
	}
	value := c.String(flag)
	return &value
}

// connect opens a connection to the agent. With start, an agent is started if none answers.
func connect(c *cli.Context, start bool) (*dial.Conn, error) {
	if err := checkConnect(c); err != nil {
		return nil, err
	}
	return dial.Open(c.Context, c.Duration("timeout"), start)
}

// connectAwake is connect for requests that the agent answers from memory: see [dial.OpenAwake].
func connectAwake(c *cli.Context, start bool) (*dial.Conn, error) {
	if err := checkConnect(c); err != nil {
		return nil, err
	}
	return dial.OpenAwake(c.Context, c.Duration("timeout"), start)
}

// checkConnect checks the flags that every connection needs.
func checkConnect(c *cli.Context) error {
	if c.Duration("timeout") <= 0 {
		return usagef(c, "--timeout must be more than 0")
	}
	if profile := c.String("profile"); profile != "" {
		return protocol.CheckProfile(profile)
	}
	return nil
}

// oneProfile returns the profile that the argument or --profile names, else the one that is used here.
func oneProfile(c *cli.Context, cfg agent.Config) (agent.Profile, error) {
	if err := atMost(c, 1); err != nil {
		return agent.Profile{}, err
	}
	name := cmp.Or(c.Args().First(), c.String("profile"), here(cfg))
	if err := protocol.CheckProfile(name); err != nil {
		return agent.Profile{}, err
	}
	return config.Named(cfg, name)
}

// sharedWithClaude returns the file through which Claude Code uses the profile's sign-in. It is empty if Claude Code does not use
// it.
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
	// With store auto only the agent knows, and only after it has loaded the profile.
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
		_, err = conn.Token(conn.Ctx, protocol.TokenRequest{Profile: profile.Name, Quiet: true})
		if errors.Is(err, protocol.ErrNotFound) {
			return "", nil
		}
	}
	if _, err := os.Stat(file); err == nil {
		return file, nil // assume that it is Claude Code's, to be safe
	}
	return "", nil
}

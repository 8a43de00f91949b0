package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
)

// finding is what one check saw: ok, warn, fail, or skip where there was nothing to look at. It holds no secret.
type finding struct {
	ID    string `json:"id"`
	State string `json:"state"`
	What  string `json:"what"`
	Mend  string `json:"mend,omitempty"` // what mends it: a command where one does
}

// doctorJSON is the output of `ccagent doctor --json` (docs/json.md).
type doctorJSON struct {
	Findings []finding `json:"findings"`
}

// onlineTime bounds the questions to providers.
const onlineTime = 30 * time.Second

// doctorTime bounds the questions to an agent.
const doctorTime = 5 * time.Second

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "look for what is wrong, and say what mends it",
		Description: `Looks at config.toml, the socket's folder, the agent and its profiles, the units, the versions, the files with
sign-ins, the settings of tools, core dumps and swap, and at this environment. It changes nothing, starts no agent, and
asks no provider, except with --online, which sends no secret. With the argument store it asks every store whether it holds a profile's record, changing
nothing; a keyring that holds none is asked to take a test value and to forget it. The exit code is 0 when nothing fails, else 1.

EXAMPLE:
   ccagent doctor
   ccagent doctor --online
   ccagent doctor --json
   ccagent doctor store -p work`,
		ArgsUsage: "[store]",
		Flags: []cli.Flag{jsonFlag(), &cli.BoolFlag{Name: "online", Usage: "also reach the providers, and compare their clocks with this machine's"},
			&cli.StringFlag{Name: "profile", Aliases: []string{"p"}, Usage: "with store: the `PROFILE` that is meant (default: CCAGENT_PROFILE, else default_profile)"}},
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().Len() > 1 || c.Args().Len() == 1 && c.Args().First() != "store":
				return usagef(c, "it looks at everything, or with the argument store at the stores")
			case c.Args().Present():
				return doctorStore(c)
			case c.IsSet("profile"):
				return usagef(c, "-p goes with: ccagent doctor store")
			}
			ctx, cancel := context.WithTimeout(c.Context, doctorTime)
			defer cancel()
			var found []finding
			found = append(found, checkConfig(getenv))
			agentFound, pid := checkAgent(ctx)
			found = append(found, agentFound...)
			found = append(found, checkHelper(ctx))
			found = append(found, checkUnits(ctx, viewed(getenv))...)
			found = append(found, checkFiles(getenv)...)
			found = append(found, checkClaudeCode(getenv))
			found = append(found, checkTools(getenv)...)
			found = append(found, checkEnvironment(getenv)...)
			found = append(found, checkMemory(pid)...)
			if c.Bool("online") {
				online, cancel := context.WithTimeout(c.Context, onlineTime)
				defer cancel()
				found = append(found, checkOnline(online, getenv)...)
			}
			return report(c, found)
		},
	}
}

func report(c *cli.Context, found []finding) error {
	failed := 0
	for i, f := range found {
		found[i].What = sanitize(f.What)
		if f.State == "fail" {
			failed++
		}
	}
	if c.Bool("json") {
		if err := printJSON(c.App.Writer, doctorJSON{found}); err != nil {
			return err
		}
	} else {
		for _, f := range found {
			fmt.Fprintf(c.App.Writer, "%-4s  %s: %s\n", f.State, f.ID, f.What)
			if f.Mend != "" {
				fmt.Fprintf(c.App.Writer, "      mend it: %s\n", f.Mend)
			}
		}
	}
	if failed > 0 {
		return &exitError{fmt.Errorf("%d of %d checks failed", failed, len(found)), 1}
	}
	return nil
}

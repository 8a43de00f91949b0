package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/doctor"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
)

// doctorJSON is the output of `ccagent doctor --json` (docs/json.md).
type doctorJSON struct {
	Findings []doctor.Finding `json:"findings"`
}

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "look for what is wrong, and say how to repair it",
		Description: `Checks config.toml, the socket, the agent and its profiles, both programs and who could replace
them, the units of systemd or launchd, the stores, the files with sign-ins, proxies and
certificates, the settings of tools, this environment, core dumps and swap. For each thing that is
wrong, it says how to repair it. It changes nothing and starts no agent.

With --online it also connects to each provider and compares the clocks. It sends no secret.

With the argument store it tries every store for one profile. If the keyring holds nothing for the
profile, a test value is stored there and deleted again.

The exit code is 1 if a check fails, else 0. A warning is not a failure.

EXAMPLE:
   ccagent doctor
   ccagent doctor --online
   ccagent doctor --json
   ccagent doctor store -p work`,
		ArgsUsage: "[store]",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "online", Usage: "also connect to the providers, and compare their clocks with this machine's"},
			&cli.StringFlag{
				Name:    "profile",
				Aliases: []string{"p"},
				Usage:   "with store: the `PROFILE` to try (default: the one that is used here, see ccagent use)",
			},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().Len() > 1 || c.Args().Len() == 1 && c.Args().First() != "store":
				return usagef(c, "the only argument that it takes is store")
			case c.Args().Present():
				return doctorStores(c)
			case c.IsSet("profile"):
				return usagef(c, "-p can only be used with: ccagent doctor store")
			}
			return report(c, doctor.Check(c.Context, getenv, c.Bool("online")))
		},
	}
}

// doctorStores tries every store for one profile.
func doctorStores(c *cli.Context) error {
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profile, err := config.Named(cfg, cmp.Or(c.String("profile"), here(cfg)))
	if err != nil {
		return err
	}
	settings, err := config.Settings(profile)
	if err != nil {
		return err
	}
	return report(c, doctor.Stores(c.Context, settings))
}

func report(c *cli.Context, found []doctor.Finding) error {
	failed := 0
	for i, f := range found {
		found[i].What = terminal.Sanitize(f.What)
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
			for way := range strings.Lines(f.Mend) {
				fmt.Fprintf(c.App.Writer, "      mend it: %s\n", terminal.Sanitize(strings.TrimSpace(way)))
			}
		}
	}
	if failed > 0 {
		return &exitError{fmt.Errorf("%d of %d checks failed", failed, len(found)), 1}
	}
	return nil
}

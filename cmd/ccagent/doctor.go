package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
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
		Description: `Looks at config.toml, the socket, the agent and its profiles, both programs and who could replace them, the units, the
stores, the files with sign-ins, proxies and certificates, the settings of tools, this environment, core dumps and swap.
For each thing that is wrong it says what mends it. It changes nothing and starts no agent.

With --online it also reaches each provider, and compares the clocks; no secret is sent. With the argument store it asks
every store about one profile; a keyring that holds nothing is asked to keep a test value and to forget it again.

The exit code is 1 if something fails, and 0 if not; a warning is no failure.

EXAMPLE:
   ccagent doctor
   ccagent doctor --online
   ccagent doctor --json
   ccagent doctor store -p work`,
		ArgsUsage: "[store]",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "online", Usage: "also reach the providers, and compare their clocks with this machine's"},
			&cli.StringFlag{
				Name:    "profile",
				Aliases: []string{"p"},
				Usage:   "with store: the `PROFILE` that is meant (default: CCAGENT_PROFILE, else default_profile)",
			},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().Len() > 1 || c.Args().Len() == 1 && c.Args().First() != "store":
				return usagef(c, "it looks at everything, or with the argument store at the stores")
			case c.Args().Present():
				return doctorStore(c)
			case c.IsSet("profile"):
				return usagef(c, "-p goes with: ccagent doctor store")
			}
			return report(c, examine(c.Context, getenv, c.Bool("online")))
		},
	}
}

// examine makes all checks. Each kind has its own time, so that one that hangs costs no other its answer.
func examine(parent context.Context, env environ.Vars, online bool) []finding {
	bounded := func(time time.Duration, check func(context.Context) []finding) []finding {
		ctx, cancel := context.WithTimeout(parent, time)
		defer cancel()
		return check(ctx)
	}
	cfg, first := checkConfig(env)
	settings, settingsErr := env.ClaudeSettings()
	var said protocol.Status
	found := []finding{first}
	found = append(found, bounded(doctorTime, func(ctx context.Context) (found []finding) {
		found, said = checkAgent(ctx, env, cfg)
		return found
	})...)
	found = append(
		found,
		bounded(doctorTime, func(ctx context.Context) []finding { return checkOthers(ctx, env, said.Agent.PID) })...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []finding { return []finding{checkHelper(ctx)} })...)
	found = append(found, checkPrograms()...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []finding { return checkUnits(ctx, env, cfg) })...)
	found = append(found, bounded(storesTime, func(ctx context.Context) []finding { return checkStores(ctx, cfg) })...)
	found = append(found, bounded(storesTime, func(ctx context.Context) []finding { return checkHomes(ctx, cfg) })...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []finding { return checkViews(ctx, cfg, found) })...)
	found = append(found, checkFiles(env, cfg)...)
	found = append(found, checkConnections(env, cfg)...)
	found = append(found, checkClaudeCode(cfg, said, settings, settingsErr))
	found = append(found, checkTools(env)...)
	found = append(found, checkEnvironment(env, settings)...)
	found = append(found, checkPaths(env)...)
	found = append(found, checkMemory(said.Agent.PID)...)
	if online {
		furtherStill(found)
		found = append(found, bounded(onlineTime, func(ctx context.Context) []finding { return checkOnline(ctx, cfg) })...)
	}
	return found
}

func report(c *cli.Context, found []finding) error {
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

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// mendOf is the first line of err's hint.
func mendOf(err error) string {
	mend, _, _ := strings.Cut(protocol.HintOf(err), "\n")
	return mend
}

package main

import (
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/protocol"
)

func moveCommand() *cli.Command {
	return &cli.Command{
		Name:      "move",
		Usage:     "move a record to another store",
		ArgsUsage: "PROFILE STORE",
		Description: `STORE is file, keyring, encrypted, or for provider claude claude-code. The record is written there, read back
and compared before the old one is deleted; what is kept of earlier sign-ins goes with it. Interrupted anywhere,
one whole copy is in force: "ccagent status" says where, and moving once more removes what was left.

EXAMPLE:
   ccagent move work keyring
   ccagent move claude file --force   # signs Claude Code itself out`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also if Claude Code is signed out by it, or another record is replaced"},
			timeoutFlag(),
		},
		Action: move,
	}
}

func move(c *cli.Context) (err error) {
	if c.Args().Len() != 2 {
		return usagef(c, "it needs a profile and a store")
	}
	config, _, err := loadConfig(getenv)
	if err != nil {
		return err
	}
	profile, ok := findProfile(config, c.Args().First())
	if !ok {
		return noProfile(c.Args().First())
	}
	to := c.Args().Get(1)
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.close()

	// While it is moved the record's place is the one that is written down, so that whoever dies leaves a place that is true.
	if was := profile.Store; was != "auto" && was != to {
		settings, unread := workerSettings(profile)
		if unread != nil {
			return unread
		}
		at := was
		if was == "memory" {
			at = to
		}
		if undecided := worker.Decide(settings, at); undecided != nil {
			return undecided
		}
		set := func(kind string) error {
			if _, err := setStore(conn.ctx, getenv, profile.Name, kind); err != nil {
				return err
			}
			_, err := conn.Control(conn.ctx, protocol.ControlRequest{Command: protocol.CommandReload})
			return err
		}
		if unset := set("auto"); unset != nil {
			return unset
		}
		defer func() {
			last := to
			if err != nil {
				last = was
			}
			if failed := set(last); failed != nil && err == nil {
				warn(c.App.ErrWriter, "store of profile %s stays \"auto\" in config.toml: %s", profile.Name, failed)
			}
		}()
	}
	reply, err := conn.Keep(conn.ctx, protocol.KeepRequest{Action: protocol.KeepMove, Profile: profile.Name, Store: to, Force: c.Bool("force")})
	if err != nil {
		return err
	}
	notice(c.App.ErrWriter, reply.Notice)
	_, err = fmt.Fprintf(c.App.Writer, "%s: rests in %s\n", profile.Name, sanitize(reply.Location))
	return err
}

func workerSettings(p agent.Profile) (worker.Settings, error) {
	var s worker.Settings
	return s, json.Unmarshal(p.Settings, &s)
}

func noProfile(name string) error {
	return &protocol.Error{Code: protocol.CodeNotFound, Message: fmt.Sprintf("no profile named %q", name), Hint: "see them with: ccagent list"}
}

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

	finish, err := floating(conn, profile, to)
	if err != nil {
		return err
	}
	defer func() {
		if failed := finish(err == nil); failed != nil && err == nil {
			warn(c.App.ErrWriter, "store of profile %s stays \"auto\" in config.toml: %s", profile.Name, failed)
		}
	}()
	reply, err := conn.Keep(conn.ctx, protocol.KeepRequest{Action: protocol.KeepMove, Profile: profile.Name, Store: to, Force: c.Bool("force")})
	if err != nil {
		return err
	}
	notice(c.App.ErrWriter, reply.Notice)
	_, err = fmt.Fprintf(c.App.Writer, "%s: rests in %s\n", profile.Name, sanitize(reply.Location))
	return err
}

// floating makes a profile's store "auto" while its record is moved: its place is the one that is written down then, so that
// whoever dies leaves a place that is true. finish writes the new store, or the old one again where that failed.
func floating(conn *connection, profile agent.Profile, to string) (finish func(moved bool) error, err error) {
	was := profile.Store
	if was == "auto" || was == to {
		return func(bool) error { return nil }, nil
	}
	at := was
	if was == "memory" {
		at = to
	}
	if err := decide(profile, at); err != nil {
		return nil, err
	}
	set := func(kind string) error {
		if err := setStore(conn.ctx, getenv, profile.Name, kind); err != nil {
			return err
		}
		return reload(conn)
	}
	return func(moved bool) error {
		if moved {
			return set(to)
		}
		return set(was)
	}, set("auto")
}

// decide writes down where the record of a profile with store "auto" rests.
func decide(profile agent.Profile, kind string) error {
	settings, err := workerSettings(profile)
	if err != nil {
		return err
	}
	return worker.Decide(settings, kind)
}

func workerSettings(p agent.Profile) (worker.Settings, error) {
	var s worker.Settings
	return s, json.Unmarshal(p.Settings, &s)
}

func noProfile(name string) error {
	return &protocol.Error{Code: protocol.CodeNotFound, Message: fmt.Sprintf("there is no profile %q", name), Hint: "see them with: ccagent list"}
}

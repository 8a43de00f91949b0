package main

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	config, path, err := loadConfig(getenv)
	if err != nil {
		return err
	}
	name, to := c.Args().First(), c.Args().Get(1)
	if _, err := namedProfile(config, name); err != nil {
		return err
	}
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.close()
	// One after the other: of two at once the slower would write down in config.toml where the record was in between.
	unlock, err := lockFile(conn.ctx, path+".move", "another ccagent is moving a record")
	if err != nil {
		return err
	}
	defer unlock()
	if config, _, err = loadConfig(getenv); err != nil {
		return err
	}
	profile, err := namedProfile(config, name)
	if err != nil {
		return err
	}
	finish, err := floating(conn, profile, to)
	if err != nil {
		return err
	}
	reply, err := conn.Keep(conn.ctx, protocol.KeepRequest{Action: protocol.KeepMove, Profile: profile.Name, Store: to, Force: c.Bool("force")})
	if failed := finish(err); failed != nil {
		warn(c.App.ErrWriter, "store of profile %s is \"auto\" in config.toml now (%s): ccagent status -p %[1]s says where its record is", profile.Name, failed)
	}
	if err != nil {
		return err
	}
	notice(c.App.ErrWriter, reply.Notice)
	_, err = fmt.Fprintf(c.App.Writer, "%s: rests in %s\n", profile.Name, sanitize(reply.Location))
	return err
}

// floating makes a profile's store "auto" while its record is moved: its place is the one that is written down then, so that
// whoever dies leaves a place that is true. finish, told how the move ended, writes the new store, or the old one again. Where nobody
// can tell it leaves things so, and says why.
func floating(conn *connection, profile agent.Profile, to string) (finish func(error) error, err error) {
	was := profile.Store
	if was == "auto" || was == to {
		return func(error) error { return nil }, nil
	}
	at := was
	if was == "memory" {
		at = to
	}
	if err := decide(profile, at); err != nil {
		return nil, err
	}
	set := func(ctx context.Context, kind string) error {
		if err := setStore(ctx, getenv, profile.Name, kind); err != nil {
			return err
		}
		return reload(&connection{Client: conn.Client, ctx: ctx})
	}
	return func(moved error) error {
		// The command's own time may be over, and then the move goes on in the agent or its worker.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(conn.ctx), 5*time.Second)
		defer cancel()
		if moved == nil {
			return set(ctx, to)
		}
		switch protocol.CodeOf(moved) {
		case protocol.CodeUnavailable, protocol.CodeNoAgent, protocol.CodeInternal:
			return errors.New("it is not known whether it was moved")
		}
		return set(ctx, was)
	}, set(conn.ctx, "auto")
}

// decide writes down where the record of a profile with store "auto" rests.
func decide(profile agent.Profile, kind string) error {
	settings, err := workerSettings(profile)
	if err != nil {
		return err
	}
	return worker.Decide(settings, kind)
}

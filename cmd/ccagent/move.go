package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func moveCommand() *cli.Command {
	return &cli.Command{
		Name:      "move",
		Usage:     "move what is stored for a profile to another store",
		ArgsUsage: "PROFILE STORE",
		Description: `Moves a profile's record: its sign-in or its key.
STORE is one of ` + config.Joined(store.Kinds(store.Traits.Rests), ", ") + ` (claude-code: only with provider claude).

The record is written to the new store, read back and compared before the old one is deleted. Copies of
earlier sign-ins move with it. If the move is interrupted, one whole copy is still in use: "ccagent status"
says where it is, and moving once more removes the rest.

EXAMPLE:
   ccagent move work keyring
   ccagent move claude file --force   # signs Claude Code itself out`,
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name:    "force",
				Aliases: []string{"f"},
				Usage:   "move even if this signs Claude Code out, or replaces another record",
			},
			timeoutFlag(),
		},
		Action: move,
	}
}

func move(c *cli.Context) (err error) {
	if c.Args().Len() != 2 {
		return usagef(c, "give a profile and a store")
	}
	cfg, path, err := config.Load(getenv)
	if err != nil {
		return err
	}
	name, to := c.Args().First(), store.Kind(c.Args().Get(1))
	if _, err := config.Named(cfg, name); err != nil {
		return err
	}
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Two moves must not run at once, because the slower one would write into config.toml where the record was in between.
	unlock, err := config.Lock(conn.Ctx, path+".move", "another ccagent is moving a record")
	if err != nil {
		return err
	}
	defer unlock()
	if cfg, _, err = config.Load(getenv); err != nil {
		return err
	}
	profile, err := config.Named(cfg, name)
	if err != nil {
		return err
	}
	if err := config.SoleHome(conn.Ctx, getenv, cfg, profile.Name); err != nil {
		return err
	}
	var done undo.Steps
	if err := float(&done, conn, profile, to); err != nil {
		return done.Fail(c.Context, err)
	}
	was, err := decided(profile)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	reply, err := conn.Keep(conn.Ctx,
		protocol.KeepRequest{Action: protocol.KeepMove, Profile: profile.Name, Store: string(to), Force: c.Bool("force")})
	if err != nil {
		return failMove(&done, conn, profile, func(now store.Kind) bool { return now != was && now == to }, err)
	}
	if at := config.Store(profile); !at.Auto() && at != to {
		// The record has moved, and the profile works as it is now, with store "auto": the place of its record is kept in a file
		// of its own. So a failure here is only a warning.
		if err := setStore(conn, profile.Name, to); err != nil {
			terminal.Warn(
				c.App.ErrWriter,
				"profile %s has store = \"auto\" in config.toml now (%s); to see where its record is: ccagent status -p %[1]s",
				profile.Name,
				err,
			)
		}
	}
	terminal.Notice(c.App.ErrWriter, reply.Notice)
	_, err = fmt.Fprintf(c.App.Writer, "%s: rests in %s\n", profile.Name, terminal.Sanitize(reply.Location))
	return err
}

// float makes a profile's store "auto" while its record is moved to the store to. Then the place of the record is what the file
// of [decide] says, and that is true even if we die during the move.
func float(done *undo.Steps, conn *dial.Conn, profile agent.Profile, to store.Kind) error {
	was := config.Store(profile)
	if was.Auto() || was == to {
		return nil
	}
	at := was
	if was.Traits().Memory {
		at = to
	}
	if err := decide(profile, at); err != nil { // it has no effect while config.toml names the store
		return err
	}
	edit, err := config.SetStore(conn.Ctx, getenv, profile.Name, store.KindAuto)
	if err != nil {
		return err
	}
	conn.Edited(done, edit, "ccagent move "+profile.Name+" "+string(was))
	return conn.Reload()
}

// setStore writes another store of a profile into config.toml.
func setStore(conn *dial.Conn, name string, kind store.Kind) error {
	if _, err := config.SetStore(conn.Ctx, getenv, name, kind); err != nil {
		return err
	}
	return conn.Reload()
}

// failMove is [undo.Steps.FailAt] for a move or a guard of a profile's record. moved reports, for the store that the record rests
// in now, whether the record has moved in spite of the error. Then our steps stay, because the worker could not take its own
// back, and its error says so.
func failMove(done *undo.Steps, conn *dial.Conn, profile agent.Profile, moved func(now store.Kind) bool, err error) error {
	if now, nowErr := decided(profile); conn.Ctx.Err() == nil && (nowErr != nil || moved(now)) {
		return undo.Partly(err)
	}
	return done.FailAt(conn.Ctx, profile.Name, err)
}

// decide records where the record of a profile with store "auto" rests.
func decide(profile agent.Profile, kind store.Kind) error {
	settings, err := config.Settings(profile)
	if err != nil {
		return err
	}
	return worker.Decide(settings, kind)
}

// decided returns where the record of a profile with store "auto" rests. It is empty if that is not decided yet.
func decided(profile agent.Profile) (store.Kind, error) {
	settings, err := config.Settings(profile)
	if err != nil {
		return "", err
	}
	return worker.Decided(settings)
}

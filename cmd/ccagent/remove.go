package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

func removeCommand() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "remove a profile and what is stored for it",
		ArgsUsage: "NAME",
		Description: `Deletes the profile's credentials from their store, and its table from config.toml, keeping all else in it. A
sign-in that is shared with Claude Code stays where it is, and one that is guarded has to be given back first, unless
--delete-credentials is given, which signs Claude Code out as well. The profile claude is built in: what can be removed is its table and what is stored.

EXAMPLE:
   ccagent remove gateway
   ccagent remove work --yes`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y", "force", "f"}, Usage: "do not ask"},
			&cli.BoolFlag{Name: "delete-credentials", Usage: "also delete a sign-in that Claude Code uses"},
			timeoutFlag(),
		},
		Action: remove,
	}
}

func remove(c *cli.Context) error {
	name := c.Args().First()
	if name == "" || c.Args().Len() > 1 {
		return usagef(c, "which NAME?")
	}
	cfg, path, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profile, err := config.Named(cfg, name)
	if err != nil {
		return err
	}
	if strings.EqualFold(cfg.Default, profile.Name) && !strings.EqualFold(profile.Name, config.BuiltIn) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: profile.Name + " is the default profile",
			Hint: "choose another default_profile in " + path}
	}

	stored := config.Provider(profile).Stored // a command's token is not stored
	conn, err := connect(c, stored)
	if err != nil {
		return err
	}
	defer conn.Close()
	shared := ""
	if stored {
		if shared, err = sharedWithClaude(conn, profile); err != nil {
			return err
		}
	}
	if shared != "" && !c.Bool("delete-credentials") {
		if config.ShowsClaude(profile) {
			return &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: fmt.Sprintf("Claude Code uses the sign-in of %s: %s is a view of it", profile.Name, terminal.Sanitize(shared)),
				Hint: "give it back first: ccagent guard claude-code --undo -p " + profile.Name +
					"\nor sign Claude Code out as well with --delete-credentials",
			}
		}
		stored = false
	}
	if stored && config.Provider(profile).SignsIn {
		terminal.Notice(c.App.ErrWriter,
			"the provider is not told: to revoke the sign-in as well, first do ccagent logout "+profile.Name)
	}
	if stored && !c.Bool("yes") {
		question := fmt.Sprintf("delete the credentials of %s?", profile.Name)
		if shared != "" {
			question = fmt.Sprintf("delete the sign-in in %s, and sign Claude Code out?", terminal.Sanitize(shared))
		}
		if err := terminal.Confirm(c.Context, question, "--yes"); err != nil {
			return err
		}
	}
	return removeProfile(c, conn, profile, shared, stored)
}

// removeProfile deletes what is stored for a profile, and its table. shared is Claude Code's file of its sign-in, "" for none.
func removeProfile(c *cli.Context, conn *dial.Conn, profile agent.Profile, shared string, stored bool) error {
	// Credentials that are deleted can't be brought back, so that all else is known to be possible first.
	var done undo.Steps
	if err := config.ReadyToRemove(conn.Ctx, getenv, profile.Name); err != nil && !errors.Is(err, protocol.ErrNotFound) {
		return done.Fail(conn.Ctx, err)
	}
	if stored {
		_, err := conn.Control(conn.Ctx, protocol.ControlRequest{Command: protocol.CommandRemove, Profile: profile.Name})
		if err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return err
		}
	}
	edit, err := config.Remove(conn.Ctx, getenv, profile.Name)
	switch {
	case errors.Is(err, protocol.ErrNotFound): // the built-in one
		if !stored {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: profile.Name + " is built in, and its sign-in is shared with Claude Code",
				Hint:    "sign out in Claude Code with /logout, or: ccagent remove " + profile.Name + " --delete-credentials"}
		}
		_, err = fmt.Fprintf(c.App.Writer, "deleted what was stored for %s\n", profile.Name)
		return err
	case err != nil && stored:
		return &protocol.Error{
			Code:    protocol.CodeOf(err),
			Message: "what was stored for " + profile.Name + " is deleted, but its table is still there: " + err.Error(),
			Hint:    strings.TrimPrefix(protocol.HintOf(err)+"\nonce that is put right: ccagent remove "+profile.Name+" --yes", "\n"),
		}
	case err != nil:
		return done.Fail(conn.Ctx, err)
	}
	if err := conn.Reload(); err != nil { // it is removed all the same: an agent that can't be told looks at the file by itself
		terminal.Warn(c.App.ErrWriter, "the agent was not told: %s", err)
	}
	if settings, err := config.Settings(profile); err == nil {
		worker.LeaveHome(settings) // a profile that is gone has no home, whatever lies there
	}
	if _, err := fmt.Fprintf(c.App.Writer, "removed %s from %s\n", profile.Name, edit.Path); err != nil {
		return err
	}
	if shared != "" && !stored {
		_, err = fmt.Fprintf(c.App.Writer, "the sign-in in %s stays: Claude Code uses it\n", terminal.Sanitize(shared))
	}
	return err
}

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
		Description: `Deletes what is stored for the profile, and its table in config.toml. The rest of the file stays as
it is. The profile claude is built in, so only its table and what is stored for it can be removed.

If Claude Code uses the same sign-in, the sign-in stays. If it is guarded, bring it back into Claude
Code's file first. With --delete-credentials it is deleted nevertheless, and Claude Code is signed
out too.

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
		return usagef(c, "name the profile to remove")
	}
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profile, err := config.Named(cfg, name)
	if err != nil {
		return err
	}
	if strings.EqualFold(cfg.Default, profile.Name) && !strings.EqualFold(profile.Name, config.BuiltIn) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + profile.Name + " is the default profile",
			Hint: "first choose another one: ccagent use NAME --default"}
	}

	stored := config.Provider(profile).Stored // the token of a login command is not stored
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
				Code: protocol.CodeConfig,
				Message: fmt.Sprintf("Claude Code uses the sign-in of profile %s: %s shows its token", profile.Name,
					terminal.Sanitize(shared)),
				Hint: "first bring it back into that file: ccagent guard claude-code --undo -p " + profile.Name +
					"\nor sign Claude Code out too, with --delete-credentials",
			}
		}
		stored = false
	}
	if stored && config.Provider(profile).SignsIn {
		terminal.Notice(c.App.ErrWriter,
			"the sign-in is not revoked at the provider; to revoke it too, first run: ccagent logout "+profile.Name)
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
	written := config.Written(getenv, profile.Name)
	if err := removeProfile(c, conn, profile, shared, stored); err != nil {
		return err
	}
	for _, use := range cfg.Uses {
		if written && use.Profile == profile.Name {
			terminal.Notice(c.App.ErrWriter, fmt.Sprintf("the [[use]] of dir = %s is removed too: ccagent use says there what is used now",
				config.Quote(use.Written)))
		}
	}
	return nil
}

// removeProfile deletes what is stored for a profile, and its table. shared is Claude Code's file with the same sign-in; it is
// empty if there is none.
func removeProfile(c *cli.Context, conn *dial.Conn, profile agent.Profile, shared string, stored bool) error {
	// Deleted credentials can't be brought back. So first find out whether everything else is possible.
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
				Message: profile.Name + " is built in, and Claude Code uses its sign-in too",
				Hint:    "sign out in Claude Code with /logout, or: ccagent remove " + profile.Name + " --delete-credentials"}
		}
		_, err = fmt.Fprintf(c.App.Writer, "deleted what was stored for %s\n", profile.Name)
		return err
	case err != nil && stored:
		return &protocol.Error{
			Code:    protocol.CodeOf(err),
			Message: "what was stored for " + profile.Name + " is deleted, but its table is still there: " + err.Error(),
			Hint:    strings.TrimPrefix(protocol.HintOf(err)+"\nthen remove the table: ccagent remove "+profile.Name+" --yes", "\n"),
		}
	case err != nil:
		return done.Fail(conn.Ctx, err)
	}
	if err := conn.Reload(); err != nil { // no failure, because the agent also notices the change by itself
		terminal.Warn(c.App.ErrWriter, "the agent was not told: %s", err)
	}
	if settings, err := config.Settings(profile); err == nil {
		worker.LeaveHome(settings) // forget where the sign-in of a removed profile was
	}
	if _, err := fmt.Fprintf(c.App.Writer, "removed %s from %s\n", profile.Name, edit.Path); err != nil {
		return err
	}
	if shared != "" && !stored {
		_, err = fmt.Fprintf(c.App.Writer, "the sign-in in %s stays, because Claude Code uses it\n", terminal.Sanitize(shared))
	}
	return err
}

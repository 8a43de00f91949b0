package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func guardCommand() *cli.Command {
	return &cli.Command{
		Name:      "guard",
		Usage:     "keep the refresh token of Claude Code's sign-in away from its sessions",
		ArgsUsage: "claude-code",
		Description: `Several sessions of Claude Code renew one sign-in, and the one that comes too late signs all of them out. Guarded,
the sign-in rests in a store of the agent, and Claude Code's own file holds the access token alone: the agent
renews it and writes it there ahead of time, so no session has anything to renew. /login and /logout in
Claude Code work as before. The agent has to run for it, so that it is installed and started at login, as by
"ccagent install --at-login".

--undo brings the sign-in back into Claude Code's file.

EXAMPLE:
   ccagent guard claude-code
   ccagent guard claude-code --undo`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.StringFlag{
				Name:  "store",
				Usage: "where the sign-in rests: `STORE` is file, keyring or encrypted (default: the keyring where it works, else a file)",
			},
			&cli.BoolFlag{Name: "undo", Usage: "bring the sign-in back"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also replace a sign-in of Claude Code that is another one"},
			timeoutFlag(),
		},
		Action: guard,
	}
}

func guard(c *cli.Context) error {
	if c.Args().Len() != 1 || c.Args().First() != "claude-code" {
		return usagef(c, "what can be guarded is claude-code")
	}
	if c.Bool("undo") && (c.IsSet("store") || c.Bool("force")) {
		return usagef(c, "--undo goes with neither --store nor --force")
	}
	if ours := store.Kinds(store.Traits.Ours); c.String("store") != "" && !slices.Contains(ours, store.Kind(c.String("store"))) {
		return usagef(c, "--store %q: there are %s", c.String("store"), store.ListKinds(ours))
	}
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profile, err := config.Named(cfg, cmp.Or(c.String("profile"), cfg.Default))
	switch {
	case err != nil:
		return err
	case !config.Provider(profile).ClaudeCode:
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("profile %s is of provider %s: Claude Code has no file for it", profile.Name, profile.Provider),
			Hint:    "name a profile of provider claude with -p",
		}
	case config.Store(profile).Traits().Memory:
		return &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + profile.Name + " is kept in the agent's memory alone",
			Hint: "give it a store first: ccagent move " + profile.Name + " file"}
	}
	if !c.Bool("undo") && !config.ShowsClaude(profile) {
		if err := config.SoleClaude(c.Context, getenv, cfg, profile.Name, config.ClaudeDir(getenv, profile)); err != nil {
			return err
		}
	}
	return guardProfile(c, profile, c.Bool("undo"))
}

// guardProfile guards a profile of provider claude, or undoes that.
func guardProfile(c *cli.Context, profile agent.Profile, ends bool) error {
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	if ends {
		return unguard(c, conn, profile)
	}
	var done undo.Steps
	if config.Store(profile).Traits().Shared { // from here on it is where it is found to be
		if err := float(&done, conn, profile, ""); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	// First the view, then what it is a view of: whoever dies between the two leaves a file that is whole, and a status that says
	// so. The directory is written down: an agent that another shell starts, with a CLAUDE_CONFIG_DIR of its own, must not take
	// the sign-in there for this one's.
	edit, err := config.SetViews(
		conn.Ctx,
		getenv,
		profile.Name,
		profile.Provider,
		getenv.BelowHome(getenv.ClaudeDir()),
		func(views []string) []string {
			if slices.Contains(views, config.ViewClaude) {
				return views
			}
			return append(views, config.ViewClaude)
		},
	)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	done.Did(conn.EditStep(edit, "ccagent guard claude-code --undo -p "+profile.Name))
	if err := conn.Reload(); err != nil {
		return done.Fail(c.Context, err)
	}
	was, err := decided(profile)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	reply, err := conn.Keep(
		conn.Ctx,
		protocol.KeepRequest{Action: protocol.KeepGuard, Profile: profile.Name, Store: c.String("store"), Force: c.Bool("force")},
	)
	if err != nil {
		return failMove(&done, conn, profile, func(now store.Kind) bool {
			return now != was && now != "" && now != store.KindClaudeCode
		}, err)
	}
	terminal.Notice(c.App.ErrWriter, reply.Notice)
	// That nothing starts the agent at login is a notice: the sign-in is guarded all the same, and whatever asks for a token
	// starts the agent. In a container there is nothing to start it with.
	startAtLogin(c)
	_, err = fmt.Fprintf(c.App.Writer, "%s: guarded; the sign-in rests in %s\n", profile.Name, terminal.Sanitize(reply.Location))
	return err
}

// unguard brings the record back before the view is given up, and then settles for store "auto", as without any configuration.
func unguard(c *cli.Context, conn *dial.Conn, profile agent.Profile) error {
	var done undo.Steps
	if err := float(&done, conn, profile, ""); err != nil {
		return done.Fail(c.Context, err)
	}
	was, err := decided(profile)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	again := "ccagent guard claude-code --undo -p " + profile.Name
	reply, err := conn.Keep(
		conn.Ctx,
		protocol.KeepRequest{Action: protocol.KeepMove, Profile: profile.Name, Store: string(store.KindClaudeCode), Force: true},
	)
	switch {
	case errors.Is(err, protocol.ErrNotFound), errors.Is(err, protocol.ErrLoginRequired):
		terminal.Notice(c.App.ErrWriter, "nobody is signed in: the next /login of Claude Code is its own again")
		if err := decide(profile, store.KindClaudeCode); err != nil {
			return done.Fail(c.Context, err)
		}
		done.Did(undo.Step{
			Back: func(context.Context) error { return decide(profile, was) },
			Left: "what is signed in to next rests in Claude Code's file", Mend: again,
		})
	case err != nil:
		return failMove(&done, conn, profile, func(now store.Kind) bool { return now != was && now == store.KindClaudeCode }, err)
	case was != "" && was != store.KindClaudeCode:
		done.Did(undo.Step{
			Back: func(ctx context.Context) error {
				_, err := conn.Keep(ctx, protocol.KeepRequest{Action: protocol.KeepGuard, Profile: profile.Name, Store: string(was)})
				return err
			},
			Left: "the sign-in is in " + terminal.Sanitize(reply.Location) + " again", Mend: again,
		})
	}
	edit, err := config.SetViews(conn.Ctx, getenv, profile.Name, profile.Provider, "", func(views []string) []string {
		return slices.DeleteFunc(views, func(view string) bool { return view == config.ViewClaude })
	})
	if err != nil {
		return done.Fail(c.Context, err)
	}
	done.Did(conn.EditStep(edit, again))
	if err := conn.Reload(); err != nil {
		return done.Fail(c.Context, err)
	}
	_, err = fmt.Fprintf(
		c.App.Writer,
		"%s: not guarded any more; the sign-in rests in %s\n",
		profile.Name,
		terminal.Sanitize(cmp.Or(reply.Location, "Claude Code's own file")),
	)
	return err
}

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
		Description: `When several sessions of Claude Code renew one sign-in, the session that comes too late signs all of
them out. A guarded sign-in rests in a store of the agent, and Claude Code's own file holds only the
access token. The agent renews it and writes it there ahead of time, so no session has anything to
renew. /login and /logout in Claude Code work as before.

The agent has to run for this. So it is installed and started at login, as by "ccagent install
--at-login".

--undo brings the sign-in back into Claude Code's file.

EXAMPLE:
   ccagent guard claude-code
   ccagent guard claude-code --undo`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.StringFlag{
				Name: "store",
				Usage: "where the sign-in is stored: " + storeWords(store.Kinds(store.Traits.Ours)) +
					" (default: the keyring if it works, else a file)",
			},
			&cli.BoolFlag{Name: "undo", Usage: "bring the sign-in back"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "replace a different sign-in that Claude Code has"},
			timeoutFlag(),
		},
		Action: guard,
	}
}

func guard(c *cli.Context) error {
	if c.Args().Len() != 1 || c.Args().First() != "claude-code" {
		return usagef(c, "the argument must be claude-code")
	}
	if c.Bool("undo") && (c.IsSet("store") || c.Bool("force")) {
		return usagef(c, "--undo can't be used with --store or --force")
	}
	if ours := store.Kinds(store.Traits.Ours); c.String("store") != "" && !slices.Contains(ours, store.Kind(c.String("store"))) {
		return usagef(c, "there is no store %q for this; there are %s", c.String("store"), store.ListKinds(ours))
	}
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profile, err := config.Named(cfg, cmp.Or(c.String("profile"), here(cfg)))
	switch {
	case err != nil:
		return err
	case !config.Provider(profile).ClaudeCode:
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("profile %s has provider %s, and Claude Code has no file for that", profile.Name, profile.Provider),
			Hint:    "name a profile with provider claude: ccagent guard claude-code -p NAME",
		}
	case config.Store(profile).Traits().Memory:
		return &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + profile.Name + " is only in the agent's memory",
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
	if config.Store(profile).Traits().Shared { // it is about to be elsewhere, so config.toml must not name this store
		if err := float(&done, conn, profile, ""); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	// The view comes first, and the move of the sign-in second. If we die between the two, Claude Code's file is still whole, and
	// the status says what is missing. The directory is written into config.toml as well: another shell with a CLAUDE_CONFIG_DIR
	// of its own may start the next agent, and that must not mistake the sign-in in its directory for this one.
	edit, err := config.SetViews(
		conn.Ctx,
		getenv,
		profile.Name,
		profile.Provider,
		getenv.BelowHome(getenv.ClaudeDir()),
		func(views []config.View) []config.View {
			if slices.ContainsFunc(views, guards) {
				return views
			}
			return append(views, config.View{Kind: config.ViewClaude})
		},
	)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	conn.Edited(&done, edit, "ccagent guard claude-code --undo -p "+profile.Name)
	if err := conn.Reload(); err != nil {
		return done.Fail(c.Context, err)
	}
	was, err := decided(profile)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	reply, err := conn.Keep(conn.Ctx,
		protocol.KeepRequest{Action: protocol.KeepGuard, Profile: profile.Name, Store: c.String("store"), Force: c.Bool("force")})
	if err != nil {
		return failMove(&done, conn, profile, func(now store.Kind) bool {
			return now != was && now != "" && now != store.KindClaudeCode
		}, err)
	}
	terminal.Notice(c.App.ErrWriter, reply.Notice)
	// If nothing can start the agent at login, as in a container, that is only a warning. The sign-in is guarded all the same,
	// and the first request for a token starts the agent.
	startAtLogin(c)
	_, err = fmt.Fprintf(c.App.Writer, "%s: guarded; the sign-in rests in %s\n", profile.Name, terminal.Sanitize(reply.Location))
	return err
}

// unguard brings the record back, and only then removes the view. The profile's store is "auto" afterwards, which is the default.
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
	reply, err := conn.Keep(conn.Ctx,
		protocol.KeepRequest{Action: protocol.KeepMove, Profile: profile.Name, Store: string(store.KindClaudeCode), Force: true})
	switch {
	case errors.Is(err, protocol.ErrNotFound), errors.Is(err, protocol.ErrLoginRequired):
		terminal.Notice(c.App.ErrWriter, "nobody is signed in; the next /login in Claude Code will be Claude Code's own")
		if err := decide(profile, store.KindClaudeCode); err != nil {
			return done.Fail(c.Context, err)
		}
		done.Did(undo.Step{
			Back: func(context.Context) error { return decide(profile, was) },
			Left: "the next sign-in will rest in Claude Code's file", Mend: again,
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
	edit, err := config.SetViews(conn.Ctx, getenv, profile.Name, profile.Provider, "", func(views []config.View) []config.View {
		return slices.DeleteFunc(views, guards)
	})
	if err != nil {
		return done.Fail(c.Context, err)
	}
	conn.Edited(&done, edit, again)
	if err := conn.Reload(); err != nil {
		return done.Fail(c.Context, err)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: not guarded any more; the sign-in rests in %s\n", profile.Name,
		terminal.Sanitize(cmp.Or(reply.Location, "Claude Code's own file")))
	return err
}

// guards reports whether a view is the one in the place of Claude Code's own record.
func guards(view config.View) bool { return view.Kind == config.ViewClaude && view.Dir == "" }

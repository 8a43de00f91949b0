package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/setup"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

func setupCommand() *cli.Command {
	return &cli.Command{
		Name:      "setup",
		Usage:     "connect a tool: change its settings so that it asks ccagent for tokens",
		ArgsUsage: "TOOL",
		Description: `TOOL is ` + strings.Join(setup.Names()[:8], ", ") + ",\n" + strings.Join(setup.Names()[8:], ", ") + `.

You are shown what would change in the tool's own settings, and asked before it is written. The rest of
the settings stays as it is, and a copy is kept. --undo restores exactly what was there. If the file has
changed since then, --undo takes out what setup put in. Settings that can't be parsed are left alone.

EXAMPLE:
   ccagent setup claude-code -p gateway
   ccagent setup opencode -p gateway --name corp
   ccagent setup claude-code --mcp docs --project
   ccagent setup git -p work --host git.example.com
   ccagent setup git -p work --host git.example.com --undo`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.BoolFlag{Name: "id-token", Usage: "kubectl: give the cluster ID tokens, which API servers with OpenID Connect want"},
			&cli.StringSliceFlag{
				Name:  "host",
				Usage: "git, docker, bazel: the `HOST` that gets the token (default: the hosts that the profile lists)",
			},
			&cli.StringFlag{
				Name: "name",
				Usage: "codex, crush, opencode, aider: the `NAME` of the model provider; kubectl: of the user; " +
					"claude-code: of the MCP server that gets the token",
			},
			&cli.StringFlag{
				Name:  "by",
				Usage: "the `WAY`: exec for gemini and aider; guard (default), sdk or exec for claude-code with an OAuth sign-in",
			},
			&cli.StringFlag{Name: "mcp", Usage: "claude-code: add the MCP server that `PROFILE` is for, with its token"},
			&cli.BoolFlag{
				Name:  "project",
				Usage: "with --mcp: add it to .mcp.json of the project that you are in, which others share",
			},
			&cli.BoolFlag{Name: "undo", Usage: "undo what setup changed"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would change, and change nothing"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			timeoutFlag(),
		},
		Action: runSetup,
	}
}

func runSetup(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usagef(c, "name the tool: one of %s", strings.Join(setup.Names(), ", "))
	}
	tool := c.Args().First()
	if !slices.Contains(setup.Names(), tool) {
		return usagef(c, "there is no tool %q; there are %s", tool, strings.Join(setup.Names(), ", "))
	}
	if c.Bool("id-token") && tool != "kubectl" {
		return usagef(c, "--id-token is for kubectl alone")
	}
	profile := c.String("profile")
	if c.IsSet("mcp") {
		switch {
		case tool != "claude-code":
			return usagef(c, "--mcp is for claude-code alone")
		case profile != "" && profile != getenv("CCAGENT_PROFILE") && profile != c.String("mcp"):
			return usagef(c, "--mcp and -p name two profiles")
		case c.IsSet("host"), c.IsSet("by"):
			return usagef(c, "--host and --by have no meaning with --mcp")
		}
		if profile = c.String("mcp"); profile == "" {
			return usagef(c, "which profile? ccagent setup claude-code --mcp PROFILE")
		}
	} else if c.IsSet("project") {
		return usagef(c, "--project has no meaning without --mcp")
	}
	s := setup.Session{Env: getenv, Out: c.App.Writer, Err: c.App.ErrWriter, Agent: setupAgent{c}}
	return s.Do(c.Context, setup.Request{
		Tool:    tool,
		Profile: profile,
		MCP:     c.IsSet("mcp"),
		Project: c.Bool("project"),
		Hosts:   c.StringSlice("host"),
		Name:    given(c, "name"),
		By:      c.String("by"),
		IDToken: c.Bool("id-token"),
		Undo:    c.Bool("undo"),
		DryRun:  c.Bool("dry-run"),
		Yes:     c.Bool("yes"),
	})
}

// setupAgent does those parts of setup that need the agent.
type setupAgent struct{ c *cli.Context }

func (a setupAgent) Kind(profile string) protocol.Kind {
	conn, err := connect(a.c, true)
	if err != nil {
		return ""
	}
	defer conn.Close()
	token, err := conn.Token(conn.Ctx, protocol.TokenRequest{Profile: profile, Quiet: true})
	if err != nil {
		return ""
	}
	return token.Kind
}

func (a setupAgent) View(profile agent.Profile, view config.View, gives bool) error {
	conn, err := connect(a.c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	edit, err := config.SetViews(conn.Ctx, getenv, profile.Name, profile.Provider, "", func(views []config.View) []config.View {
		if gives {
			return append(views, view)
		}
		return slices.DeleteFunc(views, func(v config.View) bool { return v == view })
	})
	if err != nil {
		return err
	}
	var done undo.Steps
	conn.Edited(&done, edit, protocol.ShellLine("ccagent", "setup", a.c.Args().First(), "-p", profile.Name))
	if err := conn.Reload(); err != nil {
		return done.Fail(a.c.Context, err)
	}
	// With the token the view is written or removed; without one it is written once there is one.
	_, _ = conn.Token(conn.Ctx, protocol.TokenRequest{Profile: profile.Name, Quiet: true})
	return nil
}

func (a setupAgent) Guard(profile string, guards bool) error {
	cfg, _, err := config.Load(getenv) // again, because setup may have changed the profile meanwhile
	if err != nil {
		return err
	}
	p, err := config.Named(cfg, profile)
	if err != nil {
		return err
	}
	return guardProfile(a.c, p, !guards)
}

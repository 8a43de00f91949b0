package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func logoutCommand() *cli.Command {
	return &cli.Command{
		Name:      "logout",
		Usage:     "sign a profile out",
		ArgsUsage: "[PROFILE]",
		Description: `Revokes the profile's tokens at its provider, if the provider can do that, and deletes them here. If
the provider can't be reached, they are deleted all the same, and you are told what was not revoked.
The profile stays in config.toml. If Claude Code uses the same sign-in, it is signed out as well, so
you are asked first.

EXAMPLE:
   ccagent logout
   ccagent logout gateway --keep-remote
   ccagent logout --all --yes`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "sign out of all profiles"},
			&cli.BoolFlag{Name: "keep-remote", Usage: "do not revoke anything at the provider"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			timeoutFlag(),
		},
		Action: logout,
	}
}

func logout(c *cli.Context) error {
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profiles, err := toSignOut(c, cfg)
	if err != nil {
		return err
	}
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !c.Bool("yes") {
		for _, profile := range profiles {
			shared, err := sharedWithClaude(conn, profile)
			if err != nil {
				return err
			}
			if shared == "" {
				continue
			}
			question := fmt.Sprintf("sign out of %s, and sign Claude Code out as well? (%s)", profile.Name, terminal.Sanitize(shared))
			if err := terminal.Confirm(c.Context, question, "--yes"); err != nil {
				return err
			}
		}
	}
	var failed error // if one fails, the others are signed out all the same
	for _, profile := range profiles {
		reply, err := conn.Control(conn.Ctx, protocol.ControlRequest{
			Command: protocol.CommandLogout, Profile: profile.Name, KeepRemote: c.Bool("keep-remote"),
		})
		if err != nil {
			if failed != nil {
				terminal.PrintError(c.App.ErrWriter, failed)
			}
			failed = err
			continue
		}
		if reply.Notice != "" {
			terminal.Notice(c.App.ErrWriter, profile.Name+": "+reply.Notice)
		}
		if _, err := fmt.Fprintf(c.App.Writer, "signed out of %s\n", profile.Name); err != nil {
			return err
		}
	}
	return failed
}

// toSignOut returns the profiles that the arguments name.
func toSignOut(c *cli.Context, cfg agent.Config) ([]agent.Profile, error) {
	if c.Bool("all") {
		if err := noArgs(c); err != nil {
			return nil, err
		}
		var all []agent.Profile
		for _, profile := range cfg.Profiles {
			if config.Provider(profile).SignsIn {
				all = append(all, profile)
			}
		}
		return all, nil
	}
	profile, err := oneProfile(c, cfg)
	if err != nil {
		return nil, err
	}
	if !config.Provider(profile).SignsIn {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("there is nothing to sign out of: profile %s has provider %s", profile.Name, profile.Provider),
			Hint:    "to delete the profile and what is stored for it: ccagent remove " + profile.Name,
		}
	}
	return []agent.Profile{profile}, nil
}

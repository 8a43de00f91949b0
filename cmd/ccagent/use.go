package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func useCommand() *cli.Command {
	return &cli.Command{
		Name:      "use",
		Usage:     "say which profile is used here and why, or choose it",
		ArgsUsage: "[PROFILE]",
		Description: `Without PROFILE it says which profile is used in this folder by whatever names none, and why. With PROFILE it writes
into config.toml that this one is used from now on: in this folder and all below it, or with --default wherever nothing
else chooses one. What decides, in this order:

   -p PROFILE, the profile that a command names
   CCAGENT_PROFILE
   the profile whose config_dir is CLAUDE_CONFIG_DIR
   [[use]] in config.toml: of the longest folder that the working directory is in
   default_profile in config.toml

EXAMPLE:
   ccagent use
   cd ~/work && ccagent use work
   ccagent use private --default`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "here", Usage: "use PROFILE in this folder and all below it (what is done without --default)"},
			&cli.BoolFlag{Name: "default", Usage: "use PROFILE wherever nothing else chooses one"},
			jsonFlag(), timeoutFlag(),
		},
		Action: use,
	}
}

func use(c *cli.Context) error {
	if err := atMost(c, 1); err != nil {
		return err
	}
	name := c.Args().First()
	switch {
	case c.Bool("here") && c.Bool("default"):
		return usagef(c, "--here and --default exclude each other")
	case name == "" && c.Args().Present():
		return protocol.CheckProfile(name)
	case name == "" && (c.Bool("here") || c.Bool("default")):
		return usagef(c, "which PROFILE is to be used?")
	case name != "" && c.Bool("json"):
		return usagef(c, "--json goes with no PROFILE")
	}
	cfg, path, err := config.Load(getenv)
	if err != nil {
		return err
	}
	if name == "" {
		chosen, err := choose(c, cfg, path)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c.App.Writer, chosen)
		}
		_, err = fmt.Fprintln(c.App.Writer, chosen)
		return err
	}
	if err := protocol.CheckProfile(name); err != nil {
		return err
	}
	profile, err := config.Named(cfg, name)
	if err != nil {
		return err
	}
	conn, err := connect(c, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	var where string
	var edit *config.Edit
	if c.Bool("default") {
		where = "where nothing else chooses one"
		edit, err = config.SetDefault(conn.Ctx, getenv, profile.Name)
	} else {
		folder := protocol.HomeFromEnv().Dir
		if folder == "" {
			return &protocol.Error{Code: protocol.CodeConfig, Message: "the working directory has no path: it may be deleted",
				Hint: "go to the folder that is meant, and try again"}
		}
		var dir string
		if dir, err = config.HereDir(getenv, folder); err != nil {
			return err
		}
		where = "in " + dir
		edit, err = config.SetUse(conn.Ctx, getenv, dir, profile.Name)
	}
	if err != nil {
		return err
	}
	if err := conn.Reload(); err != nil { // it is written all the same: the agent looks at the file by itself
		terminal.Warn(c.App.ErrWriter, "the agent was not told: %s", err)
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s is used %s (%s)\n", profile.Name, where, terminal.Sanitize(edit.Path)); err != nil {
		return err
	}
	if cfg, path, err = config.Load(getenv); err != nil {
		return err
	}
	if chosen, err := choose(c, cfg, path); err == nil && chosen.Profile != profile.Name {
		terminal.Warn(c.App.ErrWriter, "in this folder it is another one, %s", chosen)
	}
	return nil
}

// here is the profile that a command means that names none. It is the choice that the agent makes for the same place.
func here(cfg agent.Config) string {
	var home protocol.Home
	if _, isDefault, err := protocol.SocketPath(); err == nil && isDefault { // another agent is not told where we are
		home = protocol.HomeFromEnv()
	}
	profile, _, _ := cfg.Chooser().Choose(home)
	return cmp.Or(getenv("CCAGENT_PROFILE"), profile)
}

// choice is the profile that a command means that names none, and why. It is the output of `ccagent use --json` too
// (docs/json.md).
type choice struct {
	Profile string `json:"profile"` // "": not known
	Reason  string `json:"reason"`  // environment, config_dir, use, default or socket
	Dir     string `json:"dir,omitempty"`
	Line    int    `json:"line,omitempty"`
	text    string // the reason, for a person
}

func (u choice) String() string {
	if u.Profile == "" {
		return terminal.Sanitize(u.text)
	}
	return terminal.Sanitize(u.Profile + ": " + u.text)
}

// choose returns the choice for this place. path is that of config.toml.
func choose(c *cli.Context, cfg agent.Config, path string) (choice, error) {
	if name := getenv("CCAGENT_PROFILE"); name != "" {
		profile, err := config.Named(cfg, name)
		return choice{Profile: profile.Name, Reason: "environment", text: "CCAGENT_PROFILE names it"}, err
	}
	sock, isDefault, err := protocol.SocketPath()
	if err != nil {
		return choice{}, err
	}
	if !isDefault {
		return chooseThere(c, sock)
	}
	home := protocol.HomeFromEnv()
	profile, why, use := cfg.Chooser().Choose(home)
	if err := refusedHere(c, profile); err != nil {
		return choice{}, err
	}
	switch why {
	case agent.ByClaudeDir:
		what := "a view of it is in"
		if p, _ := config.Find(cfg, profile); p.ConfigDir != "" && config.SameDir(p.ConfigDir, home.ClaudeConfigDir) {
			what = "its config_dir is"
		}
		return choice{Profile: profile, Reason: "config_dir", Dir: home.ClaudeConfigDir,
			text: what + " this shell's CLAUDE_CONFIG_DIR, " + home.ClaudeConfigDir}, nil
	case agent.ByDir:
		return choice{Profile: profile, Reason: "use", Dir: use.Written, Line: use.Line,
			text: fmt.Sprintf("dir = %s in %s:%d is for this folder", config.Quote(use.Written), path, use.Line)}, nil
	}
	return choice{Profile: profile, Reason: "default", text: "it is the default profile, and nothing chooses another one for " +
		cmp.Or(home.Dir, "this folder, whose path is not known: it may be deleted")}, nil
}

// refusedHere is the error with which a running agent refuses the profile to this environment, nil if it does not.
func refusedHere(c *cli.Context, profile string) error {
	conn, err := connect(c, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Status(conn.Ctx, protocol.StatusRequest{Profile: profile}); errors.Is(err, protocol.ErrConfig) {
		return err
	}
	return nil
}

// chooseThere is choose for an agent of another place, which is not told where we are.
func chooseThere(c *cli.Context, sock string) (choice, error) {
	there := choice{Reason: "socket", text: "the agent at " + sock + " (CCAGENT_SOCK) decides, and is not told the folder"}
	conn, err := connect(c, false)
	if err != nil {
		return choice{}, err
	}
	defer conn.Close()
	status, err := conn.Status(conn.Ctx, protocol.StatusRequest{})
	if errors.Is(err, protocol.ErrDenied) { // a restricted socket, which does not say what its first profile is
		return there, nil
	}
	there.Profile = status.Agent.Here
	return there, err
}

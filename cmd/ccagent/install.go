package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/service"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func installCommand() *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "have systemd or launchd start the agent when something first asks for a token",
		Description: `Writes the units of systemd (or the job of launchd) for this very program, has the service manager
listen on the socket, and checks that a connection starts the agent. It needs no root. Run it again
after an upgrade. A running agent is ended first, once its renewals are done. Units that something
else has written are shown, and only replaced with --force.

EXAMPLE:
   ccagent install
   ccagent install --at-login
   ccagent uninstall`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "at-login", Usage: "also start the agent at login; a guarded sign-in needs this"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "replace units that something else has written"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask, also if what only the running agent holds is lost"},
			timeoutFlag(),
		},
		Action: install,
	}
}

func uninstallCommand() *cli.Command {
	return &cli.Command{
		Name:  "uninstall",
		Usage: "undo install",
		Description: `Ends the agent once its renewals are done, has the service manager stop listening, and removes the
files that install wrote. A file that was changed since then stays, and you are told its name.
Profiles and sign-ins stay as they are.

EXAMPLE:
   ccagent uninstall`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask, also if what only the running agent holds is lost"},
			timeoutFlag(),
		},
		Action: uninstall,
	}
}

func install(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if err := checkConnect(c); err != nil {
		return err
	}
	s, err := service.This(c.Context, getenv, c.Bool("at-login"))
	if err == nil {
		err = s.CantInstall(getenv)
	}
	if err != nil {
		return err
	}
	foreign, err := s.Foreign()
	if err != nil {
		return err
	}
	if foreign != nil && !c.Bool("force") {
		return s.RefuseForeign(c.App.ErrWriter, foreign)
	}
	force, err := mayEnd(c)
	if err != nil {
		return err
	}

	w := c.App.Writer
	packaged := s.Packaged()
	changed, pid, err := s.TakeOver(c.Context, c.Duration("timeout"), force, c.Bool("at-login"))
	for _, what := range changed {
		fmt.Fprintln(w, what)
	}
	if err != nil {
		return err
	}
	switch {
	case packaged:
		fmt.Fprintln(w, "the units of the package are used")
	case changed == nil:
		fmt.Fprintln(w, "the files are already as they should be")
	}
	cfg, _, _ := config.Load(getenv) // other commands say what is wrong with it
	for _, name := range s.Differing(getenv) {
		terminal.Warn(
			c.App.ErrWriter,
			"%s is set here, but not for programs that %s starts; "+
				"put this into your shell's profile: systemctl --user import-environment %s",
			name,
			s.Manager,
			name,
		)
	}
	for _, f := range s.OffPath(cfg) {
		terminal.Warn(c.App.ErrWriter, "%s; %s", f.What, f.Mend)
	}
	if c.Bool("at-login") {
		fmt.Fprintln(w, "the agent starts at login")
		lingers(c)
	} else if config.Viewed(cfg) {
		warnNotAtLogin(c, s)
	}
	fmt.Fprintf(w, "%s listens, and a connection has started agent %d", s.Manager, pid)
	if changed != nil || packaged {
		fmt.Fprint(w, "; to undo this: ccagent uninstall")
	}
	_, err = fmt.Fprintln(w)
	return err
}

// mayEnd ends the running agent, unless that holds something that no store has. Then it asks whether the agent may be ended
// nevertheless, and force reports that the person said yes.
func mayEnd(c *cli.Context) (force bool, err error) {
	if c.Bool("yes") {
		return true, nil
	}
	err = stopAgent(c, false)
	if errors.Is(err, protocol.ErrStorage) || errors.Is(err, protocol.ErrLocked) {
		return true, terminal.Confirm(c.Context, err.Error()+"; end the agent nevertheless?", "--yes")
	}
	return false, err
}

// lingers warns if the agent will end when the user logs out.
func lingers(c *cli.Context) {
	if runtime.GOOS != "linux" {
		return
	}
	user := getenv("USER")
	if user == "" || filepath.Base(user) != user {
		return
	}
	if _, err := os.Stat("/var/lib/systemd/linger/" + user); err != nil {
		terminal.Warn(c.App.ErrWriter, "the agent runs while you are logged in; to keep it running after that: loginctl enable-linger")
	}
}

const notAtLogin = "nothing starts the agent at login, and without the agent the token that Claude Code sees expires"

// mendAtLogin says what to do about that.
func mendAtLogin() string {
	return "run ccagent install --at-login (or, without a service manager, put " +
		environ.Shells[environ.GuessShell(getenv("SHELL"))].Load +
		" into your shell's profile)"
}

// warnNotAtLogin warns if nothing starts the agent at login.
func warnNotAtLogin(c *cli.Context, s service.Service) {
	if s.StartsAtLogin(c.Context) {
		lingers(c)
		return
	}
	terminal.Warn(c.App.ErrWriter, "%s; %s", notAtLogin, mendAtLogin())
}

// startAtLogin arranges that the agent is started at login, because views need it. If that can't be done, it says what to do
// instead.
func startAtLogin(c *cli.Context) {
	done, err := service.EnableAtLogin(c.Context, getenv, c.Duration("timeout"))
	if err != nil {
		if conn, err := connect(c, true); err == nil { // the attempt may have ended the agent
			conn.Close()
		}
		terminal.Warn(c.App.ErrWriter, "%s: %v; %s", notAtLogin, err, mendAtLogin())
		return
	}
	if done {
		terminal.Notice(c.App.ErrWriter, "from now on the agent starts at login; to undo this: ccagent uninstall")
	}
	lingers(c)
}

func uninstall(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx := c.Context
	s, err := service.This(ctx, getenv, false)
	if err != nil {
		return err
	}
	if !s.Installed() && !s.Packaged() {
		said := "ccagent is not installed"
		if foreign, _ := s.Foreign(); foreign != nil {
			said += "; " + foreign[0].Path + " was written by something else, and stays"
		}
		_, err := fmt.Fprintln(c.App.Writer, said)
		return err
	}
	if s.Absent == nil {
		if _, err := mayEnd(c); err != nil {
			return err
		}
	}
	removed, kept, err := s.Uninstall(ctx)
	for _, path := range removed {
		fmt.Fprintln(c.App.Writer, "removed "+path)
	}
	for _, path := range kept {
		terminal.Warn(c.App.ErrWriter, "%s was changed after the installation, and stays", path)
	}
	if err != nil {
		return err
	}
	if cfg, _, _ := config.Load(getenv); config.Viewed(cfg) {
		warnNotAtLogin(c, s)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s no longer listens; profiles and sign-ins are as they were\n", s.Manager)
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/protocol"
)

func installCommand() *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "have systemd or launchd start the agent when somebody first asks",
		Description: `Writes the units (or the launchd job) for this very program, has the manager listen on the socket, and
checks that a connection starts the agent. It needs no root, and may be run again, as after an upgrade. A running
agent is ended first, once its renewals are done. Units of another origin are shown and left alone without --force.

EXAMPLE:
   ccagent install
   ccagent install --at-login
   ccagent uninstall`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "at-login", Usage: "also start the agent at login, as a guarded sign-in needs it"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also over units of another origin"},
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
		Description: `Ends the agent once its renewals are done, has the manager stop listening, and removes the files that install
wrote. One that was changed since then stays, and is named. Profiles and sign-ins stay as they are.

EXAMPLE:
   ccagent uninstall`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask, also if what only the running agent holds is lost"},
			timeoutFlag(),
		},
		Action: uninstall,
	}
}

// thisService describes the running program to the manager of this system. atLogin matters where a file says that: see
// [service.atLogin].
func thisService(ctx context.Context, atLogin bool) (service, error) {
	exe, err := os.Executable()
	if err != nil {
		return service{}, err
	}
	if runtime.GOOS == "darwin" {
		s, err := launchdService(getenv, exe, os.Getuid(), atLogin)
		if err == nil {
			_, s.absent = outputOf(ctx, "launchctl", "print", "gui/"+strconv.Itoa(os.Getuid()))
		}
		return s, err
	}
	manager, absent := askSystemd(ctx)
	s, err := systemdService(getenv, exe, manager)
	s.absent = absent
	return s, err
}

func install(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if os.Geteuid() == 0 && getenv("SUDO_USER") != "" {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "under sudo it would be installed for root, not for " + getenv("SUDO_USER"), Hint: "run it without sudo"}
	}
	ctx := c.Context
	s, err := thisService(ctx, c.Bool("at-login"))
	if err != nil {
		return err
	}
	if s.absent != nil {
		return noManager(s)
	}
	if err := asksThere(s); err != nil {
		return err
	}
	foreign, err := s.foreign()
	if err != nil {
		return err
	}
	if foreign != nil && !c.Bool("force") {
		return refuseForeign(c, s, foreign)
	}
	force, err := mayEnd(c)
	if err != nil {
		return err
	}

	w := c.App.Writer
	packaged := s.packaged()
	var written, removed []string
	if packaged { // what an earlier install has written would win over it
		removed, _, err = s.remove(true)
	} else {
		written, err = s.write()
	}
	for _, path := range removed {
		fmt.Fprintln(w, "removed "+path)
	}
	for _, path := range written {
		fmt.Fprintln(w, "wrote "+path)
	}
	if err != nil {
		return err
	}
	if err := handOverSocket(c, ctx, s, force); err != nil {
		return err
	}
	if c.Bool("at-login") && s.atLogin != nil {
		if _, err := outputOf(ctx, s.atLogin...); err != nil {
			return err
		}
	}
	pid, err := activates(ctx, s)
	if err != nil {
		return err
	}
	switch {
	case packaged:
		fmt.Fprintln(w, "the units of the package are used")
	case written == nil:
		fmt.Fprintln(w, "the files were there already")
	}
	for _, d := range differing(s) {
		warn(c.App.ErrWriter, "%s; %s", d.what, d.mend)
	}
	if c.Bool("at-login") {
		fmt.Fprintln(w, "it starts at login")
		lingers(c)
	} else if viewed(getenv) {
		warnNotAtLogin(c)
	}
	_, err = fmt.Fprintf(w, "%s listens, and a connection has started agent %d; undo it with: ccagent uninstall\n", s.manager, pid)
	return err
}

func noManager(s service) error {
	return &protocol.Error{Code: protocol.CodeConfig,
		Message: "there is no service manager of yours to talk to, as in a container, or in WSL without systemd (" + s.absent.Error() + ")",
		Hint: "helpers start the agent without it too; to have one from the start, put this into your shell's profile:\n" +
			shells[guessShell(getenv("SHELL"))].load}
}

// asksThere fails where programs that are started from here would not ask at the socket on which the manager listens.
func asksThere(s service) error {
	path, _, err := protocol.SocketPath()
	if err != nil || s.socket == "" || path == s.socket {
		return err
	}
	hint := "unset CCAGENT_SOCK, here and in the shell's profile"
	if getenv("CCAGENT_SOCK") == "" {
		hint = "set XDG_RUNTIME_DIR as a login does: export XDG_RUNTIME_DIR=" + s.environment("XDG_RUNTIME_DIR")
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: "systemd would listen at " + s.socket + ", and what you start from here asks at " + path, Hint: hint}
}

// refuseForeign shows what would be lost.
func refuseForeign(c *cli.Context, s service, foreign []serviceFile) error {
	for _, f := range foreign {
		if target, _ := os.Readlink(f.path); target == os.DevNull {
			return &protocol.Error{Code: protocol.CodeConfig, Message: f.path + " is masked: it was to be used by nobody",
				Hint: "unmask it with: systemctl --user unmask " + filepath.Base(f.path)}
		}
		i := slices.IndexFunc(s.files, func(ours serviceFile) bool { return ours.path == f.path })
		showDiff(c.App.ErrWriter, f.path, f.content, s.files[i].content)
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: foreign[0].path + " is not ours: it was written by somebody else, or changed",
		Hint: "replace it with: ccagent install --force"}
}

// mayEnd asks before the running agent takes what it alone holds with it, and reports whether that is meant to be lost. An agent
// that holds nothing has ended.
func mayEnd(c *cli.Context) (force bool, err error) {
	if c.Bool("yes") {
		return true, nil
	}
	err = stopAgent(c, false)
	if errors.Is(err, protocol.ErrStorage) || errors.Is(err, protocol.ErrLocked) {
		return true, confirm(c.Context, err.Error()+"; end it nevertheless?", "--yes")
	}
	return false, err
}

// handOverSocket ends an agent that somebody else started, and has the manager listen in its place. A manager that listens already
// goes on to: nobody is refused meanwhile, and the agent that it starts next is the new one.
func handOverSocket(c *cli.Context, ctx context.Context, s service, force bool) error {
	if s.manager == "launchd" {
		runAll(ctx, s.disable) // a job that is loaded can't be loaded again
	}
	if s.manager == "systemd" {
		if err := runAll(ctx, s.enable[:1]); err != nil {
			return err
		}
	}
	if err := stopAgent(c, force); err != nil {
		return err
	}
	return runAll(ctx, s.enable)
}

// activates connects to the socket, and returns the pid of the agent that answers, which has to be the manager's.
func activates(ctx context.Context, s service) (int, error) {
	path, _, err := protocol.SocketPath()
	if err != nil {
		return 0, err
	}
	if s.manager == "launchd" { // launchd chooses the path, and tells the programs that it starts from now on
		if path, err = outputOf(ctx, "launchctl", "getenv", "CCAGENT_SOCK"); err != nil || path == "" {
			return 0, &protocol.Error{Code: protocol.CodeUnavailable, Message: "launchd names no socket in CCAGENT_SOCK"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, managerTime)
	defer cancel()
	client := protocol.NewClient(path)
	defer client.Close()
	status, err := client.Status(ctx, protocol.StatusRequest{})
	if err != nil {
		return 0, &protocol.Error{Code: protocol.CodeOf(err), Message: "the agent does not start by its socket: " + err.Error(),
			Hint: diagnosis(s) + "\nundo it with: ccagent uninstall"}
	}
	if s.manager == "systemd" {
		main, err := showUnit(ctx, "MainPID", "ccagent.service")
		if pid, _ := strconv.Atoi(main); err != nil || pid != status.Agent.PID {
			return 0, &protocol.Error{Code: protocol.CodeUnavailable, Message: fmt.Sprintf("agent %d answers at %s, and systemd did not start it", status.Agent.PID, path),
				Hint: "end that agent with ccagent stop, and try again"}
		}
	}
	return status.Agent.PID, nil
}

func diagnosis(s service) string {
	if s.manager == "launchd" {
		return "see: launchctl print gui/$(id -u)/com.github.ccagent"
	}
	return "see: systemctl --user status ccagent.socket ccagent.service"
}

// difference is something in which the manager's agent is not as one that was started from here.
type difference struct{ what, mend string }

// differing are the variables that decide what an agent does and that are other ones for the manager's, PATH where it matters.
func differing(s service) []difference {
	if s.environment == nil {
		return nil
	}
	var found []difference
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "CLAUDE_CONFIG_DIR",
		"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value := getenv(name); value != "" && value != s.environment(name) {
			found = append(found, difference{name + " is set here, and not for what " + s.manager + " starts",
				"tell it in the shell's profile: systemctl --user import-environment " + name})
		}
	}
	config, _, _ := loadConfig(getenv) // what is wrong with it is said elsewhere
	for _, p := range config.Profiles {
		settings, err := workerSettings(p)
		if err != nil || len(settings.Command) == 0 || strings.Contains(settings.Command[0], "/") {
			continue
		}
		if here, err := exec.LookPath(settings.Command[0]); err == nil && !onPath(s.environment("PATH"), settings.Command[0]) {
			found = append(found, difference{fmt.Sprintf("the command of profile %s, %s, is on your PATH, and not on that of what %s starts", p.Name, settings.Command[0], s.manager),
				"name it by its whole path in config.toml: " + here})
		}
	}
	return found
}

// onPath reports whether one of the folders of path has the program.
func onPath(path, program string) bool {
	return slices.ContainsFunc(filepath.SplitList(path), func(dir string) bool {
		_, err := exec.LookPath(filepath.Join(dir, program))
		return filepath.IsAbs(dir) && err == nil
	})
}

// lingers warns where the agent ends with the last login.
func lingers(c *cli.Context) {
	if runtime.GOOS != "linux" {
		return
	}
	user := getenv("USER")
	if user == "" || filepath.Base(user) != user {
		return
	}
	if _, err := os.Stat("/var/lib/systemd/linger/" + user); err != nil {
		warn(c.App.ErrWriter, "it runs while you are logged in; to have it run on after that: loginctl enable-linger")
	}
}

// warnNotAtLogin says so if nothing starts the agent at login.
func warnNotAtLogin(c *cli.Context) {
	ctx, cancel := context.WithTimeout(c.Context, 5*time.Second)
	defer cancel()
	if s, err := thisService(ctx, false); err == nil && s.startsAtLogin(ctx) {
		lingers(c)
		return
	}
	warn(c.App.ErrWriter, "nothing starts the agent at login, and without it the token that Claude Code sees runs out; mend it with: ccagent install --at-login (without a service manager: %s in the shell's profile)",
		shells[guessShell(getenv("SHELL"))].load)
}

func uninstall(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx := c.Context
	s, err := thisService(ctx, false)
	if err != nil {
		return err
	}
	if !s.installed() && !s.packaged() {
		said := "it is not installed"
		if foreign, _ := s.foreign(); foreign != nil {
			said += "; " + foreign[0].path + " is somebody else's, and stays"
		}
		_, err := fmt.Fprintln(c.App.Writer, said)
		return err
	}
	var disabled error
	if s.absent == nil {
		if _, err := mayEnd(c); err != nil {
			return err
		}
		disabled = runAll(ctx, s.disable)
	}
	removed, kept, err := s.remove(false)
	if s.absent == nil {
		disabled = errors.Join(disabled, runAll(ctx, s.forget))
	}
	for _, path := range removed {
		fmt.Fprintln(c.App.Writer, "removed "+path)
	}
	for _, path := range kept {
		warn(c.App.ErrWriter, "%s was changed since it was installed, and stays", path)
	}
	if err := errors.Join(err, disabled); err != nil {
		return err
	}
	if viewed(getenv) {
		warnNotAtLogin(c)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s does not listen any more; profiles and sign-ins are as they were\n", s.manager)
	return err
}

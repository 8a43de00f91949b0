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

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
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

// cantInstall is why the manager can't be left to start the agent for programs that are started from here, nil if it can.
func cantInstall(s service) error {
	switch {
	case os.Geteuid() == 0 && getenv("SUDO_USER") != "":
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "under sudo it would be installed for root, not for " + getenv("SUDO_USER"),
			Hint:    "run it without sudo",
		}
	case s.absent != nil:
		return noManager(s)
	}
	return asksThere(s)
}

func install(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	s, err := thisService(c.Context, c.Bool("at-login"))
	if err == nil {
		err = cantInstall(s)
	}
	if err != nil {
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
	changed, pid, err := takeOver(c, s, packaged, force, c.Bool("at-login"))
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
		fmt.Fprintln(w, "the files were there already")
	}
	cfg, _, _ := config.Load(getenv) // what is wrong with it is said elsewhere
	for _, name := range differing(s) {
		terminal.Warn(
			c.App.ErrWriter,
			"%s is set here, and not for what %s starts; tell it in the shell's profile: systemctl --user import-environment %s",
			name,
			s.manager,
			name,
		)
	}
	for _, f := range offPath(s, cfg) {
		terminal.Warn(c.App.ErrWriter, "%s; %s", f.What, f.Mend)
	}
	if c.Bool("at-login") {
		fmt.Fprintln(w, "it starts at login")
		lingers(c)
	} else if config.Viewed(cfg) {
		warnNotAtLogin(c, s)
	}
	_, err = fmt.Fprintf(w, "%s listens, and a connection has started agent %d; undo it with: ccagent uninstall\n", s.manager, pid)
	return err
}

// takeOver has the manager listen, in the place of whichever agent does, and returns the agent that a connection then starts.
// changed says which files were written or removed for it. Where it fails, files and manager are as they were before; an agent
// that was ended for it held nothing, and the next request starts another.
func takeOver(c *cli.Context, s service, packaged, force, atLogin bool) (changed []string, pid int, err error) {
	ctx := c.Context
	back, err := s.putBack(ctx)
	if err != nil {
		return nil, 0, err
	}
	var done undo.Steps
	done.Did(undo.Step{Back: back, Left: s.manager + " may listen or not", Mend: "ccagent uninstall"})
	defer func() {
		if err != nil {
			changed, err = nil, done.Fail(ctx, err)
		}
	}()
	var files []string
	did := "wrote "
	if packaged { // what an earlier install has written would win over it
		did = "removed "
		files, _, err = s.remove(true)
	} else {
		files, err = s.write()
	}
	for _, path := range files {
		changed = append(changed, did+path)
	}
	if err == nil {
		err = handOverSocket(c, s, force)
	}
	if err == nil && atLogin && s.atLogin != nil {
		_, err = outputOf(ctx, s.atLogin...)
	}
	if err == nil {
		pid, err = activates(ctx, s)
	}
	return changed, pid, err
}

func noManager(s service) error {
	return &protocol.Error{Code: protocol.CodeConfig,
		Message: "there is no service manager of yours to talk to, as in a container, or in WSL without systemd (" + s.absent.Error() +
			")",
		Hint: "helpers start the agent without it too; to have one from the start, put this into your shell's profile:\n" +
			environ.Shells[environ.GuessShell(getenv("SHELL"))].Load}
}

// asksThere fails where programs that are started from here would not ask at the socket on which the manager listens.
func asksThere(s service) error {
	path, _, err := protocol.SocketPath()
	if err != nil || s.socket == "" || path == s.socket {
		return err
	}
	hint := "unset CCAGENT_SOCK, here and in the shell's profile"
	if getenv("CCAGENT_SOCK") == "" {
		hint = "set XDG_RUNTIME_DIR as a login does: export XDG_RUNTIME_DIR=" + protocol.ShellLine(s.environment("XDG_RUNTIME_DIR"))
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "systemd would listen at " + s.socket + ", and what you start from here asks at " + path,
		Hint:    hint,
	}
}

// refuseForeign shows what would be lost.
func refuseForeign(c *cli.Context, s service, foreign []serviceFile) error {
	for _, f := range foreign {
		if target, _ := os.Readlink(f.path); target == os.DevNull {
			return &protocol.Error{Code: protocol.CodeConfig, Message: f.path + " is masked: it was to be used by nobody",
				Hint: "unmask it with: systemctl --user unmask " + filepath.Base(f.path)}
		}
		i := slices.IndexFunc(s.files, func(ours serviceFile) bool { return ours.path == f.path })
		terminal.ShowDiff(c.App.ErrWriter, f.path, f.content, s.files[i].content)
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: foreign[0].path + " is not ours: it was written by somebody else, or changed",
		Hint:    "replace it with: ccagent install --force",
	}
}

// mayEnd asks before the running agent takes what it alone holds with it, and reports whether that is meant to be lost. An agent
// that holds nothing has ended.
func mayEnd(c *cli.Context) (force bool, err error) {
	if c.Bool("yes") {
		return true, nil
	}
	err = stopAgent(c, false)
	if errors.Is(err, protocol.ErrStorage) || errors.Is(err, protocol.ErrLocked) {
		return true, terminal.Confirm(c.Context, err.Error()+"; end it nevertheless?", "--yes")
	}
	return false, err
}

// handOverSocket ends an agent that somebody else started, and has the manager listen in its place. A manager that listens
// already goes on to: nobody is refused meanwhile, and the agent that it starts next is the new one.
func handOverSocket(c *cli.Context, s service, force bool) error {
	ctx := c.Context
	if s.manager == "launchd" {
		runAll(ctx, s.disable) // a job that is loaded can't be loaded again
	}
	if s.manager == "systemd" {
		if err := runAll(ctx, s.enable[:1]); err != nil {
			return err
		}
	}
	// The one that was just ended may have something to finish, and the manager's waits for it until then.
	conn, err := connect(c, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Stop(force); err != nil {
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
			return 0, &protocol.Error{
				Code:    protocol.CodeUnavailable,
				Message: "launchd names no socket in CCAGENT_SOCK",
				Hint:    diagnosis(s),
			}
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
			return 0, &protocol.Error{
				Code:    protocol.CodeUnavailable,
				Message: fmt.Sprintf("agent %d answers at %s, and systemd did not start it", status.Agent.PID, path),
				Hint:    "end that agent with ccagent stop, and try again",
			}
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

// differing are the variables that decide what an agent does and that are other ones for the manager's.
func differing(s service) []string {
	if s.environment == nil {
		return nil
	}
	var names []string
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "CLAUDE_CONFIG_DIR",
		"CLAUDE_SECURESTORAGE_CONFIG_DIR",
		"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value := getenv(name); value != "" && value != s.environment(name) {
			names = append(names, name)
		}
	}
	return names
}

// offPath finds the login commands that a shell finds here, and the manager's agent does not.
func offPath(s service, cfg agent.Config) []finding {
	if s.environment == nil {
		return nil
	}
	var found []finding
	for _, p := range cfg.Profiles {
		settings, err := config.Settings(p)
		if err != nil || len(settings.Command) == 0 || strings.Contains(settings.Command[0], "/") {
			continue
		}
		if here, err := exec.LookPath(settings.Command[0]); err == nil && !s.environment.OnPath(settings.Command[0]) {
			found = append(found, finding{"unit environment", "warn",
				fmt.Sprintf(
					"the command of profile %s, %s, is on your PATH, and not on that of what %s starts",
					p.Name,
					settings.Command[0],
					s.manager,
				),
				"name it by its whole path in config.toml: " + here})
		}
	}
	return found
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
		terminal.Warn(c.App.ErrWriter, "it runs while you are logged in; to have it run on after that: loginctl enable-linger")
	}
}

const notAtLogin = "nothing starts the agent at login, and without it the token that Claude Code sees runs out"

// mendAtLogin is what to do about that.
func mendAtLogin() string {
	return "mend it with: ccagent install --at-login (without a service manager: " +
		environ.Shells[environ.GuessShell(getenv("SHELL"))].Load +
		" in the shell's profile)"
}

// warnNotAtLogin says so if nothing starts the agent at login.
func warnNotAtLogin(c *cli.Context, s service) {
	if s.startsAtLogin(c.Context) {
		lingers(c)
		return
	}
	terminal.Warn(c.App.ErrWriter, "%s; %s", notAtLogin, mendAtLogin())
}

// startAtLogin has the agent started at login, as what has views needs it. Where that can't be done it says what to do instead.
func startAtLogin(c *cli.Context) {
	done, err := enableAtLogin(c)
	if err != nil {
		if conn, err := connect(c, true); err == nil { // it may have been ended by the attempt
			conn.Close()
		}
		terminal.Warn(c.App.ErrWriter, "%s: %v; %s", notAtLogin, err, mendAtLogin())
		return
	}
	if done {
		terminal.Notice(c.App.ErrWriter, "from now on the agent starts at login; undo that with: ccagent uninstall")
	}
	lingers(c)
}

// enableAtLogin does what `install --at-login` does where that asks nothing and replaces nothing of others, and reports whether
// anything was to be done.
func enableAtLogin(c *cli.Context) (done bool, err error) {
	ctx := c.Context
	s, err := thisService(ctx, true)
	if err == nil {
		err = cantInstall(s)
	}
	if err != nil {
		return false, err
	}
	if s.startsAtLogin(ctx) {
		return false, nil
	}
	if s.manager == "systemd" && enabled(ctx, "ccagent.socket") {
		_, err = outputOf(ctx, s.atLogin...)
		return true, err
	}
	foreign, err := s.foreign()
	if err == nil && foreign != nil {
		err = errors.New(foreign[0].path + " is not ours")
	}
	if err != nil {
		return false, err
	}
	// The manager's agent would look for the sign-in elsewhere.
	if names := differing(s); slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "XDG_") }) {
		return false, errors.New(strings.Join(names, ", ") + " is not set for what " + s.manager + " starts")
	}
	if err := stopAgent(c, false); err != nil { // not one that holds what no store has
		return false, err
	}
	_, _, err = takeOver(c, s, s.packaged(), false, true)
	return true, err
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
		terminal.Warn(c.App.ErrWriter, "%s was changed since it was installed, and stays", path)
	}
	if err := errors.Join(err, disabled); err != nil {
		return err
	}
	if cfg, _, _ := config.Load(getenv); config.Viewed(cfg) {
		warnNotAtLogin(c, s)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s does not listen any more; profiles and sign-ins are as they were\n", s.manager)
	return err
}

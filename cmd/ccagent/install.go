package main

import (
	"cmp"
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

// managerTime bounds what a service manager is asked to do.
const managerTime = 60 * time.Second

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
		Description: `Has the manager stop listening, ends the agent once its renewals are done, and removes the files that install
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

// thisService describes the running program to the manager of this system.
func thisService() (service, error) {
	exe, err := os.Executable()
	if err != nil {
		return service{}, err
	}
	if runtime.GOOS == "darwin" {
		return launchdService(getenv, exe, os.Getuid())
	}
	return systemdService(getenv, exe)
}

func install(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	s, err := thisService()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, managerTime)
	defer cancel()
	if os.Geteuid() == 0 && getenv("SUDO_USER") != "" {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "under sudo it would be installed for root, not for " + getenv("SUDO_USER"), Hint: "run it without sudo"}
	}
	if !s.there(ctx) {
		return noManager(s)
	}
	packaged := s.packaged()
	if !packaged && !c.Bool("force") {
		if err := refuseForeign(c, s); err != nil {
			return err
		}
	}
	if err := mayEnd(c, ctx); err != nil {
		return err
	}
	written, pid, err := takeOver(c, ctx, s, packaged, c.Bool("at-login"))
	if err != nil {
		return err
	}
	w := c.App.Writer
	switch {
	case packaged:
		fmt.Fprintln(w, "the units of the package are used")
	case written == nil:
		fmt.Fprintln(w, "the files were there already")
	}
	for _, path := range written {
		fmt.Fprintln(w, "wrote "+path)
	}
	environmentDiffers(c, ctx, s)
	if c.Bool("at-login") {
		fmt.Fprintln(w, "it starts at login")
		lingers(c)
	}
	_, err = fmt.Fprintf(w, "%s listens, and a connection has started agent %d; undo it with: ccagent uninstall\n", s.manager, pid)
	return err
}

// refuseForeign shows what would be written over, if it is not ours.
func refuseForeign(c *cli.Context, s service) error {
	foreign, err := s.foreign()
	if err != nil || foreign == nil {
		return err
	}
	for _, f := range foreign {
		for _, ours := range s.files {
			if ours.path == f.path {
				showDiff(c.App.ErrWriter, f.path, f.content, ours.content)
			}
		}
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: foreign[0].path + " is not ours: it was written by somebody else, or changed",
		Hint: "replace it with: ccagent install --force"}
}

// takeOver has the manager listen, in the place of whichever agent does, and returns the files it wrote for that and the agent that a
// connection then starts.
func takeOver(c *cli.Context, ctx context.Context, s service, packaged, atLogin bool) (written []string, pid int, err error) {
	if !packaged {
		if written, err = s.write(); err != nil {
			return nil, 0, &protocol.Error{Code: protocol.CodeStorage, Message: err.Error()}
		}
	}
	if err := handOverSocket(c, ctx, s); err != nil {
		return nil, 0, err
	}
	if atLogin && s.atLogin != nil {
		if err := runQuietly(ctx, s.atLogin); err != nil {
			return nil, 0, err
		}
	}
	pid, err = activates(ctx, s)
	return written, pid, err
}

func noManager(s service) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "there is no service manager of yours to talk to (" + s.manager + "), as in a container, or in WSL without systemd",
		Hint: "helpers start the agent without it too; to have one from the start, put this into your shell's profile:\neval \"$(ccagent env)\""}
}

// mayEnd asks before the running agent takes what it alone holds with it.
func mayEnd(c *cli.Context, ctx context.Context) error {
	alone, err := heldAlone(ctx)
	if err != nil || alone == "" || c.Bool("yes") {
		return err
	}
	return confirm(c.Context, "the running agent alone holds the record of profile "+alone+"; end it?", "--yes")
}

// heldAlone is a profile whose record is in the running agent's memory alone, "" if there is none.
func heldAlone(ctx context.Context) (profile string, err error) {
	client, err := protocol.ClientFromEnv(false)
	if err != nil {
		return "", err
	}
	defer client.Close()
	client.Home = protocol.Home{}
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{})
	if err != nil {
		return "", nil // none is running, or it is hanging and will be replaced
	}
	for _, p := range status.Profiles {
		if p.Store == "memory" && p.HasToken || p.State == protocol.StateUnsaved {
			return p.Name, nil
		}
	}
	return "", nil
}

// handOverSocket ends an agent that somebody else started, and has the manager listen in its place. A manager that listens already
// goes on to: nobody is refused meanwhile, and the agent that it starts next is the new one.
func handOverSocket(c *cli.Context, ctx context.Context, s service) error {
	if s.manager == "launchd" {
		runAll(ctx, s.disable) // a job that is loaded can't be loaded again
	}
	if s.manager == "systemd" {
		if err := runAll(ctx, s.enable[:1]); err != nil {
			return err
		}
	}
	if err := stopAgent(c, true); err != nil {
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
		out, err := exec.CommandContext(ctx, "launchctl", "getenv", "CCAGENT_SOCK").Output()
		if path = strings.TrimSpace(string(out)); err != nil || path == "" {
			return 0, &protocol.Error{Code: protocol.CodeUnavailable, Message: "launchd names no socket in CCAGENT_SOCK"}
		}
	}
	client := protocol.NewClient(path)
	defer client.Close()
	status, err := client.Status(ctx, protocol.StatusRequest{})
	if err != nil {
		return 0, &protocol.Error{Code: protocol.CodeOf(err), Message: "the agent does not start by its socket: " + err.Error(), Hint: diagnosis(s)}
	}
	if s.manager == "systemd" {
		out, err := exec.CommandContext(ctx, "systemctl", "--user", "show", "-P", "MainPID", "ccagent.service").Output()
		if pid, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || pid != status.Agent.PID {
			return 0, &protocol.Error{Code: protocol.CodeUnavailable, Message: fmt.Sprintf("agent %d answers at %s, and systemd did not start it", status.Agent.PID, path),
				Hint: "unset CCAGENT_SOCK if it is set, end that agent with ccagent stop, and try again"}
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

// environmentDiffers warns where the manager's agent would read another configuration than this shell's programs mean.
func environmentDiffers(c *cli.Context, ctx context.Context, s service) {
	for _, name := range differing(ctx, s) {
		warn(c.App.ErrWriter, "%s is set here, and not for systemd's programs; tell it with: systemctl --user import-environment %s, in the shell's profile", name, name)
	}
}

// differing are the variables that decide what an agent does and that are other ones for the manager's.
func differing(ctx context.Context, s service) []string {
	if s.manager != "systemd" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "systemctl", "--user", "show-environment").Output()
	if err != nil {
		return nil
	}
	theirs := shownEnvironment(string(out))
	var names []string
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "CLAUDE_CONFIG_DIR",
		"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value := getenv(name); value != "" && theirs[name] != value {
			names = append(names, name)
		}
	}
	return names
}

// shownEnvironment reads what `systemctl show-environment` prints. A value with a character that means something to a shell, as
// the star of NO_PROXY, comes as $'...'.
func shownEnvironment(text string) map[string]string {
	shown := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if quoted, ok := strings.CutPrefix(value, "$'"); ok {
			quoted = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(quoted, "'"), `\'`, "'"), `"`, `\"`)
			if plain, err := strconv.Unquote(`"` + quoted + `"`); err == nil {
				value = plain
			}
		}
		shown[name] = value
	}
	return shown
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

// startAtLogin has the agent started at login, as what has views needs it. Where that can't be done it says what to do instead.
func startAtLogin(c *cli.Context) {
	ctx, cancel := context.WithTimeout(c.Context, managerTime)
	defer cancel()
	done, err := enableAtLogin(c, ctx)
	if err != nil {
		if conn, err := connect(c, true); err == nil { // it may have been ended by the attempt
			conn.close()
		}
		warn(c.App.ErrWriter, "nothing starts the agent at login, and without it the token that Claude Code sees runs out (%v); mend it with: ccagent install --at-login (without systemd: eval \"$(ccagent env)\" in the shell's profile)", err)
		return
	}
	if done {
		notice(c.App.ErrWriter, "from now on the agent starts at login; undo that with: ccagent uninstall")
	}
	lingers(c)
}

// enableAtLogin does what `install --at-login` does where that asks nothing and replaces nothing of others, and reports whether
// anything was to be done.
func enableAtLogin(c *cli.Context, ctx context.Context) (done bool, err error) {
	s, err := thisService()
	switch {
	case err != nil:
		return false, err
	case getenv("CCAGENT_SOCK") != "" && s.manager == "systemd":
		return false, errors.New("CCAGENT_SOCK names a socket of your own")
	case os.Geteuid() == 0 && getenv("SUDO_USER") != "":
		return false, errors.New("under sudo it would be root's")
	case !s.there(ctx):
		return false, errors.New("there is no service manager of yours")
	}
	if s.manager == "launchd" {
		if _, err := os.Stat(s.files[0].path); err == nil {
			return false, nil
		}
	}
	if s.atLogin != nil && runQuietly(ctx, []string{"systemctl", "--user", "is-enabled", "-q", "ccagent.service"}) == nil {
		return false, nil
	}
	if s.atLogin != nil && runQuietly(ctx, []string{"systemctl", "--user", "is-enabled", "-q", "ccagent.socket"}) == nil {
		return true, runQuietly(ctx, s.atLogin)
	}
	packaged := s.packaged()
	if !packaged {
		if foreign, err := s.foreign(); err != nil || foreign != nil {
			return false, cmp.Or(err, errors.New("its units are not ours"))
		}
	}
	// The manager's agent would look for the sign-in elsewhere.
	if names := differing(ctx, s); slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "XDG_") }) {
		return false, errors.New(strings.Join(names, ", ") + " is not set for the service manager's programs")
	}
	if profile, err := heldAlone(ctx); err != nil || profile != "" {
		return false, cmp.Or(err, errors.New("the running agent alone holds the record of profile "+profile))
	}
	_, _, err = takeOver(c, ctx, s, packaged, true)
	return true, err
}

func uninstall(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	s, err := thisService()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, managerTime)
	defer cancel()
	there := s.there(ctx)
	installed := s.packaged()
	for _, f := range s.files {
		if _, err := os.Lstat(f.path); err == nil {
			installed = true
		}
	}
	if !installed {
		_, err := fmt.Fprintln(c.App.Writer, "it is not installed")
		return err
	}
	if err := mayEnd(c, ctx); err != nil {
		return err
	}
	var disabled error
	if there {
		disabled = runAll(ctx, s.disable)
	}
	removed, kept, err := s.remove()
	if there {
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
	_, err = fmt.Fprintf(c.App.Writer, "%s does not listen any more; profiles and sign-ins are as they were\n", s.manager)
	return err
}

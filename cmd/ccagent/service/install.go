package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

// This returns the Service by which this system's manager starts the running program. atLogin says whether it starts at login.
// Only launchd needs that, because there a file says so; see the field atLogin.
func This(ctx context.Context, env environ.Vars, atLogin bool) (Service, error) {
	exe, err := os.Executable()
	if err != nil {
		return Service{}, err
	}
	if runtime.GOOS == "darwin" {
		s, err := launchdService(env, exe, os.Getuid(), atLogin)
		if err == nil {
			_, s.Absent = outputOf(ctx, "launchctl", "print", "gui/"+strconv.Itoa(os.Getuid()))
		}
		return s, err
	}
	manager, absent := askSystemd(ctx)
	s, err := systemdService(env, exe, manager)
	s.Absent = absent
	return s, err
}

// CantInstall returns the reason why the manager can't start the agent for the programs of this shell, or nil if it can.
func (s Service) CantInstall(env environ.Vars) error {
	switch {
	case os.Geteuid() == 0 && env("SUDO_USER") != "":
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "under sudo it would be installed for root, not for " + env("SUDO_USER"),
			Hint:    "run it without sudo",
		}
	case s.Absent != nil:
		return s.noManager(env)
	}
	return s.asksThere(env)
}

// noManager is the error if there is no service manager.
func (s Service) noManager(env environ.Vars) error {
	return &protocol.Error{Code: protocol.CodeConfig,
		Message: "there is no service manager of yours to talk to, as in a container, or in WSL without systemd (" + s.Absent.Error() +
			")",
		Hint: "helpers start the agent without it; to have it start with your shell, put this into the shell's profile:\n" +
			environ.Shells[environ.GuessShell(env("SHELL"))].Load}
}

// asksThere returns an error if programs that are started from this shell would use another socket than the manager's.
func (s Service) asksThere(env environ.Vars) error {
	path, _, err := protocol.SocketPath()
	if err != nil || s.socket == "" || path == s.socket {
		return err
	}
	hint := "unset CCAGENT_SOCK, here and in the shell's profile"
	if env("CCAGENT_SOCK") == "" {
		hint = "set XDG_RUNTIME_DIR as a login does: export XDG_RUNTIME_DIR=" + protocol.ShellLine(s.environment("XDG_RUNTIME_DIR"))
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "systemd would listen at " + s.socket + ", and programs that you start from here ask at " + path,
		Hint:    hint,
	}
}

// RefuseForeign shows on w how the files that ccagent has not written differ from ours. It returns the error that says how to
// replace them.
func (s Service) RefuseForeign(w io.Writer, foreign []File) error {
	for _, f := range foreign {
		if target, _ := os.Readlink(f.Path); target == os.DevNull {
			return &protocol.Error{Code: protocol.CodeConfig, Message: f.Path + " is masked, so systemd may not use it",
				Hint: "unmask it with: systemctl --user unmask " + filepath.Base(f.Path)}
		}
		i := slices.IndexFunc(s.Files, func(ours File) bool { return ours.Path == f.Path })
		terminal.ShowDiff(w, f.Path, f.content, s.Files[i].content)
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: foreign[0].Path + " is not ours: it was written by somebody else, or changed",
		Hint:    "replace it with: ccagent install --force",
	}
}

// TakeOver makes the manager listen in place of an agent that does so now. pid is the agent that the manager then starts for a
// connection. changed says which files were written or removed. If TakeOver fails, files and manager are as they were before. An
// agent that was ended for it has lost nothing, and the next request starts another.
func (s Service) TakeOver(ctx context.Context, wait time.Duration, force, atLogin bool) (changed []string, pid int, err error) {
	back, err := s.putBack(ctx)
	if err != nil {
		return nil, 0, err
	}
	var done undo.Steps
	done.Did(undo.Step{Back: back, Left: s.Manager + " may listen or not", Mend: "ccagent uninstall"})
	defer func() {
		if err != nil {
			changed, err = nil, done.Fail(ctx, err)
		}
	}()
	var files []string
	did := "wrote "
	if s.Packaged() { // files of an earlier install would win over those of the package
		did = "removed "
		files, _, err = s.remove(true)
	} else {
		files, err = s.write()
	}
	for _, path := range files {
		changed = append(changed, did+path)
	}
	if err == nil {
		err = s.handOver(ctx, wait, force)
	}
	if err == nil && atLogin && s.atLogin != nil {
		_, err = outputOf(ctx, s.atLogin...)
	}
	if err == nil {
		pid, err = s.activates(ctx)
	}
	return changed, pid, err
}

// handOver ends an agent that the manager did not start, and makes the manager listen in its place. A manager that listens
// already continues to do so. No request is refused meanwhile, and the next agent that it starts is the new one.
func (s Service) handOver(ctx context.Context, wait time.Duration, force bool) error {
	if s.Manager == "launchd" {
		runAll(ctx, s.disable) // a job that is loaded can't be loaded again
	}
	if s.Manager == "systemd" {
		if err := runAll(ctx, s.enable[:1]); err != nil {
			return err
		}
	}
	// The agent that was just ended may have a job to finish. The manager's agent waits for it.
	conn, err := dial.Open(ctx, wait, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Stop(force); err != nil {
		return err
	}
	return runAll(ctx, s.enable)
}

// activates connects to the socket, and returns the pid of the agent that answers. It is an error if the manager has not started
// that agent.
func (s Service) activates(ctx context.Context) (int, error) {
	path, _, err := protocol.SocketPath()
	if err != nil {
		return 0, err
	}
	if s.Manager == "launchd" { // launchd chooses the path, and names it to the programs that it starts from now on
		if path, err = outputOf(ctx, "launchctl", "getenv", "CCAGENT_SOCK"); err != nil || path == "" {
			return 0, &protocol.Error{
				Code:    protocol.CodeUnavailable,
				Message: "launchd has not set CCAGENT_SOCK to a socket",
				Hint:    s.diagnosis(),
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, managerTime)
	defer cancel()
	client := protocol.NewClient(path)
	defer client.Close()
	status, err := client.Status(ctx, protocol.StatusRequest{})
	if err != nil {
		return 0, &protocol.Error{
			Code:    protocol.CodeOf(err),
			Message: "the agent did not start when its socket was used: " + err.Error(),
			Hint:    s.diagnosis()}
	}
	if s.Manager == "systemd" {
		main, err := ShowUnit(ctx, "MainPID", "ccagent.service")
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

// diagnosis is the hint for a manager that does not start the agent.
func (s Service) diagnosis() string {
	if s.Manager == "launchd" {
		return "see: launchctl print gui/$(id -u)/com.github.ccagent"
	}
	return "see: systemctl --user status ccagent.socket ccagent.service"
}

// problem says what is wrong, and how to mend it.
type problem struct{ What, Mend string }

// Differing returns the names of variables that influence an agent and have another value in this shell than for the manager's
// agent.
func (s Service) Differing(env environ.Vars) []string {
	if s.environment == nil {
		return nil
	}
	var names []string
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "CLAUDE_CONFIG_DIR",
		"CLAUDE_SECURESTORAGE_CONFIG_DIR",
		"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value := env(name); value != "" && value != s.environment(name) {
			names = append(names, name)
		}
	}
	return names
}

// OffPath returns a problem for each command of a profile that is on the PATH of this shell, but not on that of the manager's
// agent.
func (s Service) OffPath(cfg agent.Config) []problem {
	if s.environment == nil {
		return nil
	}
	var found []problem
	for _, p := range cfg.Profiles {
		settings, err := config.Settings(p)
		if err != nil || len(settings.Command) == 0 || strings.Contains(settings.Command[0], "/") {
			continue
		}
		if here, err := exec.LookPath(settings.Command[0]); err == nil && !s.environment.OnPath(settings.Command[0]) {
			found = append(found, problem{
				fmt.Sprintf("the command of profile %s, %s, is on your PATH, but not on the PATH of programs that %s starts", p.Name,
					settings.Command[0], s.Manager),
				"write its absolute path in config.toml: " + here})
		}
	}
	return found
}

// Uninstall makes the manager stop listening, and removes our files. It does not remove a file that somebody has changed, and
// returns it in kept. If a step fails, the others are done all the same.
func (s Service) Uninstall(ctx context.Context) (removed, kept []string, err error) {
	var disabled error
	if s.Absent == nil {
		disabled = runAll(ctx, s.disable)
	}
	removed, kept, err = s.remove(false)
	if s.Absent == nil {
		disabled = errors.Join(disabled, runAll(ctx, s.forget))
	}
	return removed, kept, errors.Join(err, disabled)
}

// EnableAtLogin does the same as `install --at-login`, unless that would have to ask or to replace files that ccagent has not
// written; then it returns an error. done is false if the agent starts at login already.
func EnableAtLogin(ctx context.Context, env environ.Vars, wait time.Duration) (done bool, err error) {
	s, err := This(ctx, env, true)
	if err == nil {
		err = s.CantInstall(env)
	}
	if err != nil {
		return false, err
	}
	if s.StartsAtLogin(ctx) {
		return false, nil
	}
	if s.Manager == "systemd" && enabled(ctx, "ccagent.socket") {
		_, err = outputOf(ctx, s.atLogin...)
		return true, err
	}
	foreign, err := s.Foreign()
	if err == nil && foreign != nil {
		err = errors.New(foreign[0].Path + " is not ours")
	}
	if err != nil {
		return false, err
	}
	// The manager's agent would look for sign-ins in another folder.
	if names := s.Differing(env); slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "XDG_") }) {
		return false, errors.New(strings.Join(names, ", ") + " has another value, or none, for programs that " + s.Manager + " starts")
	}
	if err := stopRunning(ctx, wait); err != nil { // it refuses if the agent has a record that is not saved
		return false, err
	}
	_, _, err = s.TakeOver(ctx, wait, false, true)
	return true, err
}

// stopRunning ends the agent, if one runs. It fails if that agent has a record that is not saved.
func stopRunning(ctx context.Context, wait time.Duration) error {
	conn, err := dial.OpenAwake(ctx, wait, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Stop(false)
}

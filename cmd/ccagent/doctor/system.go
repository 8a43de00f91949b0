package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/service"
	"github.com/ccagent/ccagent/protocol"
)

const bothAnew = "install both programs from one package, or with: make install"

// checkHelper checks that cchelper can be run and has the version of this program.
func checkHelper(ctx context.Context, env environ.Vars) Finding {
	path, err := env.Helper()
	if err != nil {
		return Finding{"cchelper", "fail", err.Error(), protocol.HintOf(err)}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	version := strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(out)), "cchelper "), "()") // Go writes (devel) in brackets
	switch {
	case err != nil:
		return Finding{"cchelper", "fail", path + " can't be run: " + err.Error(), bothAnew}
	case version != build.Version() && version != "unknown":
		what := fmt.Sprintf("%s has version %s, and this program has %s", path, version, build.Version())
		return Finding{"cchelper", "warn", what, bothAnew}
	}
	return Finding{"cchelper", "ok", path, ""}
}

// checkUnits checks what the service manager knows of the agent, and whether it would start this program.
func checkUnits(ctx context.Context, env environ.Vars, cfg agent.Config) []Finding {
	s, err := service.This(ctx, env, false)
	if err != nil || s.Absent != nil {
		return []Finding{{"units", "skip", "there is no service manager that can be asked", ""}}
	}
	if s.Manager != "systemd" {
		if _, err := os.Stat(s.Files[0].Path); errors.Is(err, fs.ErrNotExist) {
			return []Finding{{"units", "skip", "launchd does not know the agent; helpers start it", ""}}
		}
		return append([]Finding{{"units", "ok", s.Files[0].Path, ""}}, checkAtLogin(ctx, s, cfg)...)
	}
	show := func(unit, property string) string {
		value, _ := service.ShowUnit(ctx, property, unit)
		return value
	}
	var found []Finding
	_, program, _ := strings.Cut(show("ccagent.service", "ExecStart"), "path=")
	program, _, _ = strings.Cut(program, " ;")
	_, missing := os.Stat(program)
	socket, service := show("ccagent.socket", "ActiveState"), show("ccagent.service", "ActiveState")
	switch {
	case show("ccagent.socket", "LoadState") != "loaded":
		found = append(found, Finding{"units", "skip", "systemd does not know the agent; helpers start it", ""})
	case program != "" && missing != nil:
		found = append(found, Finding{"units", "fail", "the unit names a program that does not exist: " + program, "ccagent install"})
	case service == "failed" || socket == "failed":
		found = append(
			found,
			Finding{"units", "fail", "systemd says that the agent failed: " + show("ccagent.service", "Result"),
				"systemctl --user reset-failed ccagent.socket ccagent.service && systemctl --user restart ccagent.socket"},
		)
	case socket != "active":
		what := "the units are installed, but systemd does not listen at the socket"
		found = append(found, Finding{"units", "warn", what, "ccagent install"})
	default:
		found = append(found, Finding{"units", "ok", "systemd listens at the socket, and the service is " + service, ""})
	}
	for _, name := range s.Differing(env) {
		found = append(found, judgeVariable(name, cfg))
	}
	for _, p := range s.OffPath(cfg) {
		found = append(found, Finding{"unit environment", "warn", p.What, p.Mend})
	}
	return append(found, checkAtLogin(ctx, s, cfg)...)
}

// checkAtLogin checks that the agent starts at login if a profile has views.
func checkAtLogin(ctx context.Context, s service.Service, cfg agent.Config) []Finding {
	if !config.Viewed(cfg) || s.StartsAtLogin(ctx) {
		return nil
	}
	return []Finding{
		{"units", "warn", "a profile has views, but the agent that keeps them current does not start at login",
			"ccagent install --at-login"},
	}
}

// judgeVariable says what follows if a variable has another value in the shell than for an agent that systemd starts.
func judgeVariable(name string, cfg agent.Config) Finding {
	what := name + " is set here, and has another value, or none, for what systemd starts"
	mend := "systemctl --user import-environment " + name + " && systemctl --user try-restart ccagent.service"
	return judgeDifference("unit environment", name, what, mend, cfg)
}

// judgeDifference says what follows if a variable has another value here than for an agent: what is different, and how that is
// mended. A proxy or an authority that config.toml sets for a profile wins over the environment.
func judgeDifference(id, name, what, mend string, cfg agent.Config) Finding {
	key, of := "", func(worker.Settings) string { return "" }
	switch upper := strings.ToUpper(name); {
	case strings.HasSuffix(upper, "_PROXY"):
		key, of = "proxy", func(s worker.Settings) string { return s.Proxy }
	case strings.HasPrefix(upper, "SSL_CERT_"):
		key, of = "ca_file", func(s worker.Settings) string { return s.CAFile }
	}
	if key == "" {
		return Finding{id, "warn", what, mend}
	}
	own := 0
	profiles := signingIn(cfg)
	for _, s := range profiles {
		if of(s) != "" {
			own++
		}
	}
	if own == len(profiles) {
		return Finding{id, "ok",
			what + ", which is fine: each profile has a " + key + " in config.toml, which wins over it", ""}
	}
	return Finding{id, "warn", what + "; to be independent of it, set " + key + " for the profile in config.toml",
		mend}
}

// checkAgentEnvironment compares the variables that decide what the agent can reach: as it was started with them, and as they are
// here. checkUnits says where the environment of the units differs.
func checkAgentEnvironment(ctx context.Context, env environ.Vars, cfg agent.Config, a protocol.AgentStatus) []Finding {
	differ := a.Otherwise()
	if differ == nil {
		return nil
	}
	mend, told := "ccagent stop", []string(nil)
	if s, err := service.This(ctx, env, false); err == nil && s.Absent == nil && s.Manager == "systemd" {
		if pid, _ := service.ShowUnit(ctx, "MainPID", "ccagent.service"); pid == strconv.Itoa(a.PID) {
			mend, told = "", s.Differing(env)
		}
	}
	var found []Finding
	for _, here := range differ {
		how := cmp.Or(mend, "systemctl --user import-environment "+here.Name+" && systemctl --user try-restart ccagent.service")
		switch {
		case slices.Contains(told, here.Name):
			continue
		case here.Name == "PATH":
			for _, p := range offPath(env, cfg, a.Value("PATH")) {
				found = append(found, Finding{"agent environment", "warn", p.what, p.mend})
			}
			continue
		}
		found = append(found, judgeDifference("agent environment", here.Name, a.Differs(here), how, cfg))
	}
	return found
}

// offPath returns what is wrong with each command of a profile that is on the PATH of this shell and not on the agent's.
func offPath(env environ.Vars, cfg agent.Config, there string) (found []struct{ what, mend string }) {
	agents := environ.Vars(func(name string) string {
		if name == "PATH" {
			return there
		}
		return env(name)
	})
	for _, p := range cfg.Profiles {
		settings, err := config.Settings(p)
		if err != nil {
			continue
		}
		for _, argv := range [][]string{settings.Command, settings.AssertionCommand} {
			if len(argv) == 0 || strings.Contains(argv[0], "/") || agents.OnPath(argv[0]) {
				continue
			}
			if here := env.LookPath(argv[0]); here != "" {
				found = append(found, struct{ what, mend string }{
					fmt.Sprintf("the command of profile %s, %s, is on your PATH, but not on that of the agent", p.Name, argv[0]),
					"write its absolute path in config.toml: " + here,
				})
			}
		}
	}
	return found
}

// checkFiles checks whether anybody else may read a file that contains a sign-in, or replace it.
func checkFiles(env environ.Vars, cfg agent.Config) []Finding {
	var found []Finding
	looked := 0
	look := func(path string, info fs.FileInfo) {
		open := fs.FileMode(0o077) // for a file, nobody else may have any right
		mend := "chmod 600 "
		if info.IsDir() {
			open, mend = 0o022, "chmod go-w "
		} else {
			looked++
		}
		if owner, ok := files.Owner(info); ok && int(owner) != os.Geteuid() {
			found = append(
				found,
				Finding{"files", "fail", fmt.Sprintf("%s belongs to user %d", path, owner),
					fmt.Sprintf("sudo chown %d %s", os.Geteuid(), protocol.ShellLine(path))},
			)
		} else if info.Mode().Perm()&open != 0 {
			found = append(found, Finding{"files", "fail", fmt.Sprintf("others have access to %s (mode %04o)", path, info.Mode().Perm()),
				mend + protocol.ShellLine(path)})
		}
	}
	failed := func(err error) {
		found = append(found, Finding{"files", "fail", err.Error(), "give yourself permission to read it"})
	}

	var claude []string
	for _, dir := range append([]string{env.ClaudeDir()}, configDirsOf(cfg)...) {
		if dir != "" {
			claude = append(claude, environ.ClaudeFile(dir))
		}
	}
	slices.Sort(claude)
	for _, path := range slices.Compact(claude) {
		if info, err := os.Stat(path); err == nil {
			look(path, info)
		} else if !errors.Is(err, fs.ErrNotExist) {
			failed(err)
		}
	}
	data, _ := env.DataDir() // without a HOME there is nothing to check
	state, _ := env.StateDir()
	for _, dir := range []string{data, state} {
		if dir == "" || dir == data && strings.HasPrefix(data, state+"/") { // on macOS, data is below state
			continue
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || strings.HasPrefix(d.Name(), "config.toml") { // it is no secret, and config.Load checks it
				return err
			}
			info, err := d.Info()
			if err == nil && (info.Mode().IsRegular() || info.IsDir()) {
				look(path, info)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed(err)
		}
	}
	switch {
	case found != nil:
		return found
	case looked == 0:
		return []Finding{{"files", "skip", "there is no file that contains a sign-in", ""}}
	}
	return []Finding{{"files", "ok", count(looked, "file") + ", which nobody else may read", ""}}
}

// configDirsOf returns the Claude Code directories that config.toml names.
func configDirsOf(cfg agent.Config) (dirs []string) {
	for _, p := range cfg.Profiles {
		dirs = append(dirs, p.ConfigDir)
	}
	return dirs
}

// checkMemory checks whether secrets in memory could be written to a disk.
func checkMemory(pid int) []Finding {
	if runtime.GOOS != "linux" {
		return nil
	}
	var found []Finding
	if pid != 0 && os.Geteuid() != 0 { // for root, the files in /proc don't tell
		found = judgeDumps("/proc", pid)
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return found
	}
	return append(found, judgeSwap(string(swaps), "/sys/class/block"))
}

// judgeDumps checks whether a process of this user could be dumped. If it can't, its files below proc belong to root.
func judgeDumps(proc string, pid int) []Finding {
	info, err := os.Stat(fmt.Sprintf("%s/%d/mem", proc, pid))
	if err != nil {
		return nil
	}
	if owner, ok := files.Owner(info); ok && owner != 0 {
		what := fmt.Sprintf("agent %d can be dumped, so it was not started by this version of ccagent", pid)
		return []Finding{{"core dumps", "warn", what, "ccagent stop"}}
	}
	return []Finding{{"core dumps", "ok", "the agent can't be dumped", ""}}
}

// judgeSwap looks in the text of /proc/swaps for swap space that is neither encrypted nor in memory.
func judgeSwap(swaps, blocks string) Finding {
	var plain []string
	for i, line := range strings.Split(strings.TrimSpace(swaps), "\n") {
		if fields := strings.Fields(line); i > 0 && len(fields) > 0 && !encryptedBlock(fields[0], blocks) {
			plain = append(plain, fields[0])
		}
	}
	if plain != nil {
		return Finding{
			"swap",
			"warn",
			"the contents of memory may be written to " + strings.Join(plain, ", ") + ", which does not seem to be encrypted",
			"sudo swapoff -a, or encrypt the swap",
		}
	}
	return Finding{"swap", "ok", "there is no swap space, or it is encrypted or in memory", ""}
}

// encryptedBlock reports whether what is written to the device is encrypted or stays in memory. blocks is the folder in which the
// kernel describes devices. A device of dm-crypt shows that in its uuid. A device on top of one, such as a volume of LVM, has it
// among its slaves.
func encryptedBlock(device, blocks string) bool {
	name := filepath.Base(device)
	var file unix.Stat_t
	if unix.Stat(device, &file) == nil && file.Mode&unix.S_IFMT == unix.S_IFREG { // a swap file is as safe as its device
		disk, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(uint64(file.Dev)), unix.Minor(uint64(file.Dev))))
		return err == nil && encryptedBlock(disk, blocks)
	}
	if strings.HasPrefix(name, "zram") {
		return true
	}
	if uuid, err := os.ReadFile(filepath.Join(blocks, name, "dm/uuid")); err == nil && strings.HasPrefix(string(uuid), "CRYPT-") {
		return true
	}
	below, err := os.ReadDir(filepath.Join(blocks, name, "slaves"))
	return err == nil && len(below) > 0 &&
		!slices.ContainsFunc(below, func(d os.DirEntry) bool { return !encryptedBlock(d.Name(), blocks) })
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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

// checkHelper compares the versions of the two programs.
func checkHelper(ctx context.Context, env environ.Vars) Finding {
	path, err := env.Helper()
	if err != nil {
		return Finding{"cchelper", "fail", err.Error(), mendOf(err)}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	version := strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(out)), "cchelper "), "()") // Go itself says (devel)
	switch {
	case err != nil:
		return Finding{"cchelper", "fail", path + " can't be run: " + err.Error(), bothAnew}
	case version != build.Version() && version != "unknown":
		return Finding{"cchelper", "warn", fmt.Sprintf("%s has version %s, this program %s", path, version, build.Version()), bothAnew}
	}
	return Finding{"cchelper", "ok", path, ""}
}

// checkUnits looks at what the service manager was told, and whether that is this program.
func checkUnits(ctx context.Context, env environ.Vars, cfg agent.Config) []Finding {
	s, err := service.This(ctx, env, false)
	if err != nil || s.Absent != nil {
		return []Finding{{"units", "skip", "no service manager of yours can be asked", ""}}
	}
	if s.Manager != "systemd" {
		if _, err := os.Stat(s.Files[0].Path); errors.Is(err, fs.ErrNotExist) {
			return []Finding{{"units", "skip", "launchd was not told of the agent", ""}}
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
		found = append(found, Finding{"units", "fail", "the unit names a program that is not there: " + program, "ccagent install"})
	case service == "failed" || socket == "failed":
		found = append(
			found,
			Finding{
				"units",
				"fail",
				"systemd says that the agent failed: " + show("ccagent.service", "Result"),
				"systemctl --user reset-failed ccagent.socket ccagent.service && systemctl --user restart ccagent.socket",
			},
		)
	case socket != "active":
		found = append(found, Finding{"units", "warn", "the units are there, and systemd does not listen", "ccagent install"})
	default:
		found = append(found, Finding{"units", "ok", "systemd listens, and the service is " + service, ""})
	}
	for _, name := range s.Differing(env) {
		found = append(found, judgeVariable(name, cfg))
	}
	for _, p := range s.OffPath(cfg) {
		found = append(found, Finding{"unit environment", "warn", p.What, p.Mend})
	}
	return append(found, checkAtLogin(ctx, s, cfg)...)
}

func checkAtLogin(ctx context.Context, s service.Service, cfg agent.Config) []Finding {
	if !config.Viewed(cfg) || s.StartsAtLogin(ctx) {
		return nil
	}
	return []Finding{
		{
			"units",
			"warn",
			"a profile has views, and nothing starts the agent at login that keeps them fresh",
			"ccagent install --at-login",
		},
	}
}

// judgeVariable says what it means that a variable is set in the shell and not for an agent that systemd starts. What the
// profiles themselves say of proxies and authorities comes before the environment.
func judgeVariable(name string, cfg agent.Config) Finding {
	key, of := "", func(worker.Settings) string { return "" }
	switch upper := strings.ToUpper(name); {
	case strings.HasSuffix(upper, "_PROXY"):
		key, of = "proxy", func(s worker.Settings) string { return s.Proxy }
	case strings.HasPrefix(upper, "SSL_CERT_"):
		key, of = "ca_file", func(s worker.Settings) string { return s.CAFile }
	}
	what := name + " is set here, and not for what systemd starts"
	mend := "systemctl --user import-environment " + name + " && systemctl --user try-restart ccagent.service"
	if key == "" {
		return Finding{"unit environment", "warn", what, mend}
	}
	own := 0
	profiles := signingIn(cfg)
	for _, s := range profiles {
		if of(s) != "" {
			own++
		}
	}
	if own == len(profiles) {
		return Finding{
			"unit environment",
			"ok",
			what + ", which is fine: config.toml comes before it, and each profile has a " + key + " there",
			"",
		}
	}
	return Finding{
		"unit environment",
		"warn",
		what + "; a profile's " + key + " in config.toml would come before it, and last longer",
		mend,
	}
}

// checkFiles looks whether anybody else may read a file with a sign-in in it, or put another in its place.
func checkFiles(env environ.Vars, cfg agent.Config) []Finding {
	var found []Finding
	looked := 0
	look := func(path string, info fs.FileInfo) {
		open := fs.FileMode(0o077) // whoever may read a file
		mend := "chmod 600 "
		if info.IsDir() {
			open, mend = 0o022, "chmod go-w "
		} else {
			looked++
		}
		if owner, ok := files.Owner(info); ok && int(owner) != os.Geteuid() {
			found = append(
				found,
				Finding{
					"files",
					"fail",
					fmt.Sprintf("%s belongs to user %d", path, owner),
					fmt.Sprintf("sudo chown %d %s", os.Geteuid(), protocol.ShellLine(path)),
				},
			)
		} else if info.Mode().Perm()&open != 0 {
			found = append(found, Finding{"files", "fail", fmt.Sprintf("%s is open to others (mode %04o)", path, info.Mode().Perm()),
				mend + protocol.ShellLine(path)})
		}
	}
	failed := func(err error) { found = append(found, Finding{"files", "fail", err.Error(), "let yourself read it"}) }

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
	data, _ := env.DataDir() // without a HOME there is nothing to look at
	state, _ := env.StateDir()
	for _, dir := range []string{data, state} {
		if dir == "" || dir == data && strings.HasPrefix(data, state+"/") { // as on macOS: the other is above it
			continue
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || strings.HasPrefix(d.Name(), "config.toml") { // which is no secret, and which config.Load judges
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
		return []Finding{{"files", "skip", "there is no file with a sign-in in it", ""}}
	}
	return []Finding{{"files", "ok", count(looked, "file") + ", and nobody else may read them", ""}}
}

// configDirsOf are the Claude Code directories that config.toml names.
func configDirsOf(cfg agent.Config) (dirs []string) {
	for _, p := range cfg.Profiles {
		dirs = append(dirs, p.ConfigDir)
	}
	return dirs
}

// checkMemory looks where secrets in memory could end up on a disk.
func checkMemory(pid int) []Finding {
	if runtime.GOOS != "linux" {
		return nil
	}
	var found []Finding
	if pid != 0 && os.Geteuid() != 0 { // root can't tell
		found = judgeDumps("/proc", pid)
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return found
	}
	return append(found, judgeSwap(string(swaps), "/sys/class/block"))
}

// judgeDumps looks whether a process of this user could be dumped: the files below proc of one that can't are root's.
func judgeDumps(proc string, pid int) []Finding {
	info, err := os.Stat(fmt.Sprintf("%s/%d/mem", proc, pid))
	if err != nil {
		return nil
	}
	if owner, ok := files.Owner(info); ok && owner != 0 {
		return []Finding{
			{"core dumps", "warn", fmt.Sprintf("agent %d can be dumped: it was not started by ccagent as it is", pid), "ccagent stop"},
		}
	}
	return []Finding{{"core dumps", "ok", "the agent can't be dumped", ""}}
}

// judgeSwap looks for swap in the words of /proc/swaps that is neither encrypted nor in memory.
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
			"what is in memory may be written to " + strings.Join(plain, ", ") + ", which does not look encrypted",
			"sudo swapoff -a, or encrypt the swap",
		}
	}
	return Finding{"swap", "ok", "there is none, or it is encrypted or in memory", ""}
}

// encryptedBlock reports whether what is written to the device is encrypted, or never leaves memory. blocks is where the kernel
// describes devices: dm-crypt says so in its uuid, and what lies on it, as a volume of LVM, has it among its slaves.
func encryptedBlock(device, blocks string) bool {
	name := filepath.Base(device)
	var file unix.Stat_t
	if unix.Stat(device, &file) == nil && file.Mode&unix.S_IFMT == unix.S_IFREG { // a swap file is as safe as what it lies on
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

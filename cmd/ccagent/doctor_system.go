package main

import (
	"bytes"
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
	"syscall"
	"time"

	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/protocol"
)

// checkHolder looks for a process that holds the socket's lock and does not answer.
func checkHolder(path string, answering int) []finding {
	text, err := os.ReadFile(path + ".lock")
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return nil
	}
	pid, err := strconv.Atoi(fields[0])
	f, openErr := os.Open(path + ".lock")
	if err != nil || openErr != nil || pid == answering {
		return nil
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil { // nobody has it: the pid is of an agent that is gone
		return nil
	}
	return []finding{{"holder", "fail", fmt.Sprintf("process %d holds %s, and does not answer there", pid, path), fmt.Sprintf("kill %d", pid)}}
}

// checkHelper compares the versions of the two programs.
func checkHelper(ctx context.Context) finding {
	path, err := helperPath()
	if err != nil {
		return finding{"cchelper", "fail", err.Error(), mendOf(err)}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	version := strings.TrimPrefix(strings.TrimSpace(string(out)), "cchelper ")
	switch {
	case err != nil:
		return finding{"cchelper", "fail", path + " can't be run: " + err.Error(), "install both programs anew"}
	case version != buildVersion() && version != "unknown" && buildVersion() != "devel":
		return finding{"cchelper", "warn", fmt.Sprintf("%s is of version %s, this program of %s", path, version, buildVersion()), "install both programs anew"}
	}
	return finding{"cchelper", "ok", path, ""}
}

// checkUnits looks at what the service manager was told, and whether that is this program.
func checkUnits(ctx context.Context, guarded bool) []finding {
	s, err := thisService(ctx, false)
	if err != nil || s.absent != nil {
		return []finding{{"units", "skip", "no service manager of yours can be asked", ""}}
	}
	if s.manager != "systemd" {
		if _, err := os.Stat(s.files[0].path); errors.Is(err, fs.ErrNotExist) {
			return []finding{{"units", "skip", "launchd was not told of the agent", ""}}
		}
		return append([]finding{{"units", "ok", s.files[0].path, ""}}, checkAtLogin(ctx, s, guarded)...)
	}
	show := func(unit, property string) string {
		value, _ := showUnit(ctx, property, unit)
		return value
	}
	var found []finding
	_, program, _ := strings.Cut(show("ccagent.service", "ExecStart"), "path=")
	program, _, _ = strings.Cut(program, " ;")
	_, missing := os.Stat(program)
	socket, service := show("ccagent.socket", "ActiveState"), show("ccagent.service", "ActiveState")
	switch {
	case show("ccagent.socket", "LoadState") != "loaded":
		found = append(found, finding{"units", "skip", "systemd does not know the agent; helpers start it", ""})
	case program != "" && missing != nil:
		found = append(found, finding{"units", "fail", "the unit names a program that is not there: " + program, "ccagent install"})
	case service == "failed" || socket == "failed":
		found = append(found, finding{"units", "fail", "systemd says that the agent failed: " + show("ccagent.service", "Result"), "ccagent install"})
	case socket != "active":
		found = append(found, finding{"units", "warn", "the units are there, and systemd does not listen", "ccagent install"})
	default:
		found = append(found, finding{"units", "ok", "systemd listens, and the service is " + service, ""})
	}
	for _, d := range differing(s) {
		found = append(found, finding{"unit environment", "warn", d.what, d.mend})
	}
	return append(found, checkAtLogin(ctx, s, guarded)...)
}

func checkAtLogin(ctx context.Context, s service, guarded bool) []finding {
	if !guarded || s.startsAtLogin(ctx) {
		return nil
	}
	return []finding{{"units", "warn", "a profile has views, and nothing starts the agent at login that keeps them fresh", "ccagent install --at-login"}}
}

// checkMemory looks where secrets in memory could end up on a disk.
func checkMemory(agent int) []finding {
	if runtime.GOOS != "linux" {
		return nil
	}
	var found []finding
	if agent != 0 {
		// The kernel gives a process that can't be dumped to root.
		if info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", agent)); err == nil {
			if owner, ok := ownerOf(info); ok && owner != 0 && os.Geteuid() != 0 {
				found = append(found, finding{"core dumps", "warn", fmt.Sprintf("agent %d can be dumped: it was not started by ccagent as it is", agent), "ccagent stop"})
			} else {
				found = append(found, finding{"core dumps", "ok", "the agent can't be dumped", ""})
			}
		}
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return found
	}
	var plain []string
	for i, line := range strings.Split(strings.TrimSpace(string(swaps)), "\n") {
		if fields := strings.Fields(line); i > 0 && len(fields) > 0 && !strings.HasPrefix(fields[0], "/dev/dm-") && !strings.HasPrefix(fields[0], "/dev/zram") {
			plain = append(plain, fields[0])
		}
	}
	if plain != nil {
		return append(found, finding{"swap", "warn", "what is in memory may be written to " + strings.Join(plain, ", ") + ", which does not look encrypted", "encrypt the swap, or use zram"})
	}
	return append(found, finding{"swap", "ok", "there is none, or it is encrypted or in memory", ""})
}

// maxSkew is how far this machine's clock may be from a provider's before tokens seem to live longer or shorter than they do.
const maxSkew = time.Minute

// checkOnline reaches each provider's token endpoint, and compares the clocks. It sends no secret.
func checkOnline(ctx context.Context, env environ) []finding {
	config, _, err := loadConfig(env)
	if err != nil {
		return nil
	}
	var found []finding
	var seen []string
	for _, profile := range config.Profiles {
		settings, err := workerSettings(profile)
		where := settings.TokenURL + settings.Issuer + settings.Proxy + settings.CAFile + settings.ClientCert
		if err != nil || !signsIn(profile.Provider) || slices.Contains(seen, where) {
			continue
		}
		seen = append(seen, where)
		id := "provider of " + profile.Name
		client, err := worker.ClientOf(settings, protocol.Secret{})
		var there time.Time
		before := time.Now()
		if err == nil {
			there, err = client.Reach(ctx)
		}
		took := time.Since(before)
		skew := there.Sub(before.Add(took / 2))
		switch {
		case err != nil:
			found = append(found, finding{id, "fail", err.Error(), mendOf(err)})
		case there.IsZero():
			found = append(found, finding{id, "ok", fmt.Sprintf("it answers in %d ms, and does not say the time", took.Milliseconds()), ""})
		case skew > maxSkew || skew < -maxSkew:
			found = append(found, finding{id, "warn", fmt.Sprintf("its clock and this machine's are %s apart", span(skew)), "set this machine's clock: timedatectl set-ntp true"})
		default:
			found = append(found, finding{id, "ok", fmt.Sprintf("it answers in %d ms, and the clocks agree", took.Milliseconds()), ""})
		}
	}
	if found == nil {
		return []finding{{"providers", "skip", "no profile signs in anywhere", ""}}
	}
	return found
}

// checkTools looks at tools that setup has connected: does what they were told still lead to a cchelper?
func checkTools(env environ) []finding {
	state, err := env.stateDir()
	if err != nil {
		return nil
	}
	journals, _ := filepath.Glob(filepath.Join(state, "setup", "*.json"))
	var found []finding
	for _, path := range journals {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		tool, _, _ := strings.Cut(name, "_")
		files, err := journal{dir: filepath.Dir(path), id: name}.read()
		if err != nil {
			found = append(found, finding{"setup " + tool, "warn", err.Error(), mendOf(err)})
			continue
		}
		for file, entry := range files {
			now, err := os.ReadFile(file)
			switch {
			case err != nil:
				found = append(found, finding{"setup " + tool, "warn", "what was set up is gone: " + err.Error(), "ccagent setup " + tool})
			case !entry.digest(now) && !bytes.Contains(now, []byte("ccagent")) && !bytes.Contains(now, []byte("cchelper")) && !bytes.Contains(now, []byte("ANTHROPIC_PROFILE")):
				found = append(found, finding{"setup " + tool, "warn", file + " does not ask ccagent any more", "ccagent setup " + tool})
			default:
				found = append(found, finding{"setup " + tool, "ok", file, ""})
			}
		}
	}
	return found
}

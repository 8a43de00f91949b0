package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/protocol"
)

// checkHolder looks for an agent that has the socket's place and does not answer.
func checkHolder(path string) []finding {
	pid := agent.Holder(path)
	if pid == 0 {
		return nil
	}
	return []finding{{"holder", "fail", fmt.Sprintf("process %d holds %s, and does not answer there", pid, path), endSilent(pid)}}
}

const bothAnew = "install both programs from one package, or with: make install"

// checkHelper compares the versions of the two programs.
func checkHelper(ctx context.Context) finding {
	path, err := helperPath()
	if err != nil {
		return finding{"cchelper", "fail", err.Error(), mendOf(err)}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	version := strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(out)), "cchelper "), "()") // Go itself says (devel)
	switch {
	case err != nil:
		return finding{"cchelper", "fail", path + " can't be run: " + err.Error(), bothAnew}
	case version != buildVersion() && version != "unknown":
		return finding{"cchelper", "warn", fmt.Sprintf("%s has version %s, this program %s", path, version, buildVersion()), bothAnew}
	}
	return finding{"cchelper", "ok", path, ""}
}

// checkUnits looks at what the service manager was told, and whether that is this program.
func checkUnits(ctx context.Context, config agent.Config) []finding {
	s, err := thisService(ctx, false)
	if err != nil || s.absent != nil {
		return []finding{{"units", "skip", "no service manager of yours can be asked", ""}}
	}
	if s.manager != "systemd" {
		if _, err := os.Stat(s.files[0].path); errors.Is(err, fs.ErrNotExist) {
			return []finding{{"units", "skip", "launchd was not told of the agent", ""}}
		}
		return append([]finding{{"units", "ok", s.files[0].path, ""}}, checkAtLogin(ctx, s, config)...)
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
		found = append(found, finding{"units", "fail", "systemd says that the agent failed: " + show("ccagent.service", "Result"), "systemctl --user reset-failed ccagent.socket ccagent.service && systemctl --user restart ccagent.socket"})
	case socket != "active":
		found = append(found, finding{"units", "warn", "the units are there, and systemd does not listen", "ccagent install"})
	default:
		found = append(found, finding{"units", "ok", "systemd listens, and the service is " + service, ""})
	}
	for _, name := range differing(s) {
		found = append(found, judgeVariable(name, config))
	}
	found = append(found, offPath(s, config)...)
	return append(found, checkAtLogin(ctx, s, config)...)
}

func checkAtLogin(ctx context.Context, s service, config agent.Config) []finding {
	if !viewed(config) || s.startsAtLogin(ctx) {
		return nil
	}
	return []finding{{"units", "warn", "a profile has views, and nothing starts the agent at login that keeps them fresh", "ccagent install --at-login"}}
}

// judgeVariable says what it means that a variable is set in the shell and not for an agent that systemd starts. What the profiles
// themselves say of proxies and authorities comes before the environment.
func judgeVariable(name string, config agent.Config) finding {
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
		return finding{"unit environment", "warn", what, mend}
	}
	own := 0
	profiles := signingIn(config)
	for _, s := range profiles {
		if of(s) != "" {
			own++
		}
	}
	if own == len(profiles) {
		return finding{"unit environment", "ok", what + ", which is fine: config.toml comes before it, and each profile has a " + key + " there", ""}
	}
	return finding{"unit environment", "warn", what + "; a profile's " + key + " in config.toml would come before it, and last longer", mend}
}

// signingIn are the settings of the profiles that talk to a provider.
func signingIn(config agent.Config) []worker.Settings {
	var all []worker.Settings
	for _, profile := range config.Profiles {
		if settings, err := workerSettings(profile); err == nil && signsIn(profile.Provider) {
			all = append(all, settings)
		}
	}
	return all
}

// checkMemory looks where secrets in memory could end up on a disk.
func checkMemory(pid int) []finding {
	if runtime.GOOS != "linux" {
		return nil
	}
	var found []finding
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
func judgeDumps(proc string, pid int) []finding {
	info, err := os.Stat(fmt.Sprintf("%s/%d/mem", proc, pid))
	if err != nil {
		return nil
	}
	if owner, ok := ownerOf(info); ok && owner != 0 {
		return []finding{{"core dumps", "warn", fmt.Sprintf("agent %d can be dumped: it was not started by ccagent as it is", pid), "ccagent stop"}}
	}
	return []finding{{"core dumps", "ok", "the agent can't be dumped", ""}}
}

// judgeSwap looks for swap in the words of /proc/swaps that is neither encrypted nor in memory.
func judgeSwap(swaps, blocks string) finding {
	var plain []string
	for i, line := range strings.Split(strings.TrimSpace(swaps), "\n") {
		if fields := strings.Fields(line); i > 0 && len(fields) > 0 && !encryptedBlock(fields[0], blocks) {
			plain = append(plain, fields[0])
		}
	}
	if plain != nil {
		return finding{"swap", "warn", "what is in memory may be written to " + strings.Join(plain, ", ") + ", which does not look encrypted", "sudo swapoff -a, or encrypt the swap"}
	}
	return finding{"swap", "ok", "there is none, or it is encrypted or in memory", ""}
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
	return err == nil && len(below) > 0 && !slices.ContainsFunc(below, func(d os.DirEntry) bool { return !encryptedBlock(d.Name(), blocks) })
}

// ways are the settings of the profiles that talk to a provider, one for each that is reached in the same way.
func ways(config agent.Config) []worker.Settings {
	seen := map[string]bool{}
	return slices.DeleteFunc(signingIn(config), func(s worker.Settings) bool {
		way := strings.Join([]string{s.TokenURL, s.Issuer, s.Proxy, s.CAFile, s.ClientCert, s.ClientKey}, "\n")
		defer func() { seen[way] = true }()
		return seen[way]
	})
}

// checkConnections looks at what stands between this machine and each provider: authorities, certificates, a proxy. It sends nothing.
func checkConnections(env environ, config agent.Config) []finding {
	var found []finding
	if path := env("SSL_CERT_FILE"); path != "" { // Go says nothing of one that is not there, and trusts nobody then
		if data, err := os.ReadFile(path); err != nil {
			found = append(found, finding{"authorities", "fail", "SSL_CERT_FILE can't be read: " + err.Error(), "unset SSL_CERT_FILE"})
		} else if !x509.NewCertPool().AppendCertsFromPEM(data) {
			found = append(found, finding{"authorities", "fail", "SSL_CERT_FILE names a file without a certificate in PEM: " + path, "unset SSL_CERT_FILE"})
		}
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if value := env(name); value != "" && !isProxy(value) { // it is not shown: a password may be in it
			found = append(found, finding{"proxy", "fail", name + " holds no address of a proxy, and is ignored", "unset " + name})
		}
	}
	for _, s := range ways(config) {
		id := "connection of " + s.Name
		client, err := worker.ClientOf(s, protocol.Secret{})
		if err != nil {
			found = append(found, finding{id, "fail", err.Error(), mendOf(err)})
			continue
		}
		how, by := "directly", "the system's authorities"
		to, err := url.Parse(cmp.Or(s.TokenURL, s.Issuer))
		if err != nil {
			continue // config.toml's own check has it
		}
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: to})
		switch {
		case client.Proxy != nil:
			how = "through the profile's proxy " + client.Proxy.Host
		case err == nil && proxy != nil:
			how = "through the proxy " + proxy.Host + " of this environment"
		}
		switch {
		case client.CA != nil:
			by = "ca_file"
		case env("SSL_CERT_FILE") != "":
			by = "SSL_CERT_FILE of this environment"
		}
		if to.Scheme == "http" { // on this machine
			how, by = "on this machine", ""
		}
		what := to.Host + " is reached " + how
		if by != "" {
			what += ", and judged by " + by
		}
		found = append(found, finding{id, "ok", what, ""})
	}
	return found
}

// isProxy reports whether net/http takes the value of HTTPS_PROXY. What it does not take it passes over in silence.
func isProxy(value string) bool {
	if u, err := url.Parse(value); err == nil && u.Scheme != "" && u.Host != "" {
		return true
	}
	u, err := url.Parse("http://" + value)
	return err == nil && u.Host != ""
}

// maxSkew is how far this machine's clock may be from a provider's before tokens seem to live longer or shorter than they do.
const maxSkew = time.Minute

// checkOnline reaches each provider's token endpoint, and compares the clocks. It sends no secret.
func checkOnline(ctx context.Context, config agent.Config) []finding {
	var found []finding
	for _, s := range ways(config) {
		id := "provider of " + s.Name
		client, err := worker.ClientOf(s, protocol.Secret{})
		if err != nil {
			continue // checkConnections said so
		}
		before := time.Now()
		there, err := client.Reach(ctx)
		took := time.Since(before)
		skew := there.Sub(before.Add(took / 2))
		switch {
		case err != nil:
			found = append(found, finding{id, "fail", err.Error(), cmp.Or(mendOf(err), "find out more with: curl -sSI "+shellQuote(cmp.Or(s.TokenURL, s.Issuer)))})
		case there.IsZero():
			found = append(found, finding{id, "ok", fmt.Sprintf("it answers in %d ms, and does not say the time", took.Milliseconds()), ""})
		case skew > maxSkew || skew < -maxSkew:
			mend := "sudo timedatectl set-ntp true"
			if runtime.GOOS == "darwin" {
				mend = "sudo sntp -sS time.apple.com"
			}
			found = append(found, finding{id, "warn", fmt.Sprintf("its clock and this machine's are %s apart", span(skew)), mend})
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
	dir, err := journalDir(env)
	if err != nil {
		return nil
	}
	journals, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	var found []finding
	for _, path := range journals {
		j, err := readJournal(path)
		if err != nil {
			found = append(found, finding{"setup", "warn", err.Error(), mendOf(err)})
			continue
		}
		check := "setup " + j.Tool
		for _, file := range slices.Sorted(maps.Keys(j.Files)) {
			now, err := os.ReadFile(file)
			switch {
			case err != nil:
				found = append(found, finding{check, "warn", "what was set up is gone: " + err.Error(), j.command()})
			case slices.ContainsFunc(j.Files[file].Puts, func(p put) bool { return !p.in(now) }):
				found = append(found, finding{check, "warn", file + " does not ask ccagent any more", j.command()})
			default:
				found = append(found, finding{check, "ok", file, ""})
			}
		}
		for _, link := range slices.Sorted(maps.Keys(j.Links)) {
			if _, err := os.Stat(link); err != nil {
				found = append(found, finding{check, "warn", "what was set up is gone: " + err.Error(), j.command()})
			}
		}
	}
	return found
}

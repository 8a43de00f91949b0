package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/protocol"
)

// checkConfig reads config.toml as the agent does.
func checkConfig(env environ) (agent.Config, finding) {
	config, path, err := loadConfig(env)
	if err != nil {
		return config, finding{"config", "fail", err.Error(), cmp.Or(mendOf(err), "correct "+path)}
	}
	what := fmt.Sprintf("%s: %s, the default is %s", path, count(len(config.Profiles), "profile"), config.Default)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		what = "there is no " + path + ", which is fine: there is the profile " + config.Default
	}
	return config, finding{"config", "ok", what, ""}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// mendOf is the first line of err's hint.
func mendOf(err error) string {
	mend, _, _ := strings.Cut(protocol.HintOf(err), "\n")
	return mend
}

// checkAgent looks at the socket, and at what the agent behind it says, and returns its pid, 0 where none answers.
func checkAgent(ctx context.Context, env environ, config agent.Config) (found []finding, pid int) {
	path, isDefault, err := protocol.SocketPath()
	if err != nil {
		return []finding{{"socket", "fail", err.Error(), mendOf(err)}}, 0
	}
	if err := protocol.CheckDir(protocol.SocketDir(path)); err != nil && !errors.Is(err, protocol.ErrNoAgent) {
		return []finding{{"socket", "fail", err.Error(), mendOf(err)}}, 0
	}
	client, err := protocol.ClientFromEnv(false)
	if err != nil {
		return []finding{{"agent", "fail", err.Error(), mendOf(err)}}, 0
	}
	defer client.Close()
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{})
	if err != nil {
		if held := checkHolder(path); held != nil && (errors.Is(err, protocol.ErrNoAgent) || errors.Is(err, protocol.ErrUnavailable)) {
			return held, 0
		}
		if errors.Is(err, protocol.ErrUnavailable) && ctx.Err() != nil {
			err = silent()
		}
		switch {
		case !errors.Is(err, protocol.ErrNoAgent):
			return []finding{{"agent", "fail", err.Error(), cmp.Or(mendOf(err), "ccagent stop")}}, 0
		case !isDefault:
			return []finding{{"agent", "fail", "CCAGENT_SOCK names " + path + ", where no agent answers, and where none is started for you", "unset CCAGENT_SOCK"}}, 0
		}
		return []finding{{"agent", "skip", "no agent is running at " + path + "; the first request starts one", ""}}, 0
	}
	found = judgeAgent(status.Agent, path)
	for _, p := range status.Profiles {
		if f, wrong := judgeProfile(env, config, p); wrong {
			found = append(found, f)
		}
	}
	return found, status.Agent.PID
}

func judgeAgent(a protocol.AgentStatus, path string) []finding {
	found := []finding{{"agent", "ok", fmt.Sprintf("agent %d answers at %s", a.PID, path), ""}}
	if a.Locked {
		found = append(found, finding{"agent", "warn", "it is locked, and serves nothing", "ccagent unlock"})
	}
	if a.ConfigError != "" {
		found = append(found, finding{"agent", "warn", "it still has the settings from before, because config.toml can't be taken: " + a.ConfigError, "correct config.toml"})
	}
	if a.Version != buildVersion() {
		found = append(found, finding{"version", "warn", fmt.Sprintf("the agent has version %s, this program %s", a.Version, buildVersion()), "ccagent stop"})
	}
	return found
}

// judgeProfile says what is wrong with a profile, if anything is.
func judgeProfile(env environ, config agent.Config, p protocol.ProfileStatus) (f finding, wrong bool) {
	id := "profile " + p.Name
	said := strings.TrimPrefix(p.LastError, id+": ")
	switch p.State {
	case protocol.StateSignIn:
		return finding{id, "fail", "sign-in needed: " + said, signInAgain(env, config, p)}, true
	case protocol.StateFailed:
		return finding{id, "fail", "it fails: " + said, "ccagent validate -p " + p.Name}, true // which has the hint too
	case protocol.StateUnsaved:
		return finding{id, "warn", "unsaved: " + said, "ccagent doctor store -p " + p.Name}, true
	case protocol.StateLocked:
		if said != "" { // else all of them are: judgeAgent has it
			mend := "ccagent unlock"
			if p.Store == "keyring" {
				mend = "unlock the keyring at the desktop"
			}
			return finding{id, "warn", "locked: " + said, mend}, true
		}
	case protocol.StateBackoff:
		return finding{id, "warn", "backing off: " + said, "ccagent doctor --online"}, true
	}
	if p.Note != "" {
		_, mend, _ := strings.Cut(p.Note, " with: ")
		mend, _, _ = strings.Cut(mend, "; ")
		return finding{id, "warn", p.Note, mend}, true
	}
	return finding{}, false
}

// signInAgain is the command that brings a profile's credential back, by where that comes from. Claude Code's own sign-in is for
// Claude Code to make.
func signInAgain(env environ, config agent.Config, p protocol.ProfileStatus) string {
	switch p.Provider {
	case "static":
		return "ccagent add " + p.Name + " --provider static --force"
	case "command":
		return "ccagent validate -p " + p.Name
	}
	profile, ok := findProfile(config, p.Name)
	if p.Provider != "claude" || !ok || profile.Store != "auto" && profile.Store != "claude-code" {
		return "ccagent login " + p.Name
	}
	if profile.ConfigDir != "" && profile.ConfigDir != env.claudeDir() {
		return "CLAUDE_CONFIG_DIR=" + shellQuote(profile.ConfigDir) + " claude auth login"
	}
	return "claude auth login"
}

// checkOthers looks for agents at the other addresses that a program of this person could take for the default one, as one that
// cron starts without XDG_RUNTIME_DIR does.
func checkOthers(ctx context.Context, env environ, pid int) []finding {
	here, _, err := protocol.SocketPath()
	if err != nil {
		return nil
	}
	uid := strconv.Itoa(os.Geteuid())
	places := []string{"/run/user/" + uid + "/ccagent/agent.sock", "/tmp/ccagent-" + uid + "/agent.sock"}
	if dir := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		places = append(places, filepath.Join(dir, "ccagent/agent.sock"))
	}
	if dir := env("TMPDIR"); filepath.IsAbs(dir) {
		places = append(places, filepath.Join(dir, "ccagent-"+uid, "agent.sock"))
	}
	slices.Sort(places)
	var found []finding
	for _, place := range slices.Compact(places) {
		if place == filepath.Clean(here) {
			continue
		}
		client := protocol.NewClient(place) // it looks at folder and socket before it connects
		status, err := client.Status(ctx, protocol.StatusRequest{})
		client.Close()
		if err == nil && status.Agent.PID != pid {
			found = append(found, finding{"another agent", "warn", fmt.Sprintf("agent %d answers at %s: programs in another environment ask that one", status.Agent.PID, place),
				"CCAGENT_SOCK=" + shellQuote(place) + " ccagent stop"})
		}
	}
	return found
}

// viewed reports whether a profile has views, which somebody has to keep fresh.
func viewed(config agent.Config) bool {
	return slices.ContainsFunc(config.Profiles, func(p agent.Profile) bool { return p.Shown })
}

// checkEnvironment looks for tokens that Claude Code takes before what an apiKeyHelper prints, or before the sign-in that it has
// stored. It names them alone.
func checkEnvironment(env environ, settings claudeSettings) []finding {
	outranked := "what its apiKeyHelper prints"
	if settings.Helper == "" {
		outranked = "its own sign-in"
	}
	var found []finding
	for _, name := range []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"} {
		if name == "CLAUDE_CODE_OAUTH_TOKEN" && settings.Helper != "" { // the helper outranks it
			continue
		}
		if env(name) != "" {
			found = append(found, finding{"environment", "warn", name + " is set here: Claude Code takes it before " + outranked, "unset " + name})
		}
		if value := settings.Env[name]; value != nil && value != "" {
			found = append(found, finding{"environment", "warn", name + " is set in " + settings.path + ": Claude Code takes it before " + outranked,
				"take " + name + " out of " + settings.path})
		}
	}
	if found == nil {
		found = []finding{{"environment", "ok", "no token here outranks the helper", ""}}
	}
	return found
}

// checkFiles looks whether anybody else may read a file with a sign-in in it, or put another in its place.
func checkFiles(env environ, config agent.Config) []finding {
	var found []finding
	looked := 0
	look := func(path string, info fs.FileInfo) {
		open := fs.FileMode(0o077) // whoever may read a file
		mend := "chmod 600 "
		if info.IsDir() {
			open, mend = 0o022, "chmod go-w "
		} else {
			looked++
		}
		if owner, ok := ownerOf(info); ok && int(owner) != os.Geteuid() {
			found = append(found, finding{"files", "fail", fmt.Sprintf("%s belongs to user %d", path, owner), fmt.Sprintf("sudo chown %d %s", os.Geteuid(), shellQuote(path))})
		} else if info.Mode().Perm()&open != 0 {
			found = append(found, finding{"files", "fail", fmt.Sprintf("%s is open to others (mode %04o)", path, info.Mode().Perm()), mend + shellQuote(path)})
		}
	}
	failed := func(err error) { found = append(found, finding{"files", "fail", err.Error(), "let yourself read it"}) }

	claude := []string{env.claudeDir()}
	for _, p := range config.Profiles {
		claude = append(claude, p.ConfigDir)
	}
	slices.Sort(claude)
	for _, dir := range slices.Compact(claude) {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, ".credentials.json")
		if info, err := os.Stat(path); err == nil {
			look(path, info)
		} else if !errors.Is(err, fs.ErrNotExist) {
			failed(err)
		}
	}
	data, _ := env.dataDir() // without a HOME there is nothing to look at
	state, _ := env.stateDir()
	for _, dir := range []string{data, state} {
		if dir == "" || dir == data && strings.HasPrefix(data, state+"/") { // as on macOS: the other is above it
			continue
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || strings.HasPrefix(d.Name(), "config.toml") { // which is no secret, and which loadConfig judges
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
		return []finding{{"files", "skip", "there is no file with a sign-in in it", ""}}
	}
	return []finding{{"files", "ok", count(looked, "file") + ", and nobody else may read them", ""}}
}

// checkClaudeCode looks whether the program that Claude Code is told to ask is there, and for whose token it is told to ask.
func checkClaudeCode(config agent.Config, settings claudeSettings, err error) finding {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{"claude-code", "skip", "there is no " + settings.path, ""}
	case err != nil:
		return finding{"claude-code", "warn", settings.path + " can't be read, or is not valid JSON: " + err.Error(), "correct " + settings.path}
	case settings.Helper == "":
		return finding{"claude-code", "skip", settings.path + " names no apiKeyHelper", ""}
	}
	// A shell runs it; its words are enough for us, if they mean nothing else to one.
	if strings.ContainsAny(settings.Helper, "$`'\"\\;&|<>(){}~*?\n") {
		return finding{"claude-code", "ok", "the apiKeyHelper of " + settings.path + " is a shell's command, and was not looked at", ""}
	}
	words := strings.Fields(settings.Helper)
	if len(words) == 0 || strings.Contains(words[0], "=") {
		return finding{"claude-code", "ok", "the apiKeyHelper of " + settings.path + " is a shell's command, and was not looked at", ""}
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return finding{"claude-code", "fail", "the apiKeyHelper of " + settings.path + " names a program that is not there: " + words[0], "ccagent setup claude-code"}
	}
	if at := slices.IndexFunc(words, func(w string) bool { return w == "-p" || w == "--profile" }); filepath.Base(words[0]) == "cchelper" && at > 0 && at+1 < len(words) {
		if _, ok := findProfile(config, words[at+1]); !ok {
			return finding{"claude-code", "fail", "the apiKeyHelper of " + settings.path + " asks for a profile that there is not: " + words[at+1], "ccagent setup claude-code"}
		}
	}
	return finding{"claude-code", "ok", "the apiKeyHelper of " + settings.path + " is there: " + words[0], ""}
}

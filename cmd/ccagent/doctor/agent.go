package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// checkConfig checks config.toml, and returns the configuration.
func checkConfig(env environ.Vars) (agent.Config, Finding) {
	cfg, path, err := config.Load(env)
	if err != nil {
		return cfg, Finding{"config", "fail", err.Error(), cmp.Or(protocol.HintOf(err), "fix "+path)}
	}
	what := fmt.Sprintf("%s: %s, the default is %s", path, count(len(cfg.Profiles), "profile"), cfg.Default)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		what = "there is no " + path + ", which is fine: the profile is " + cfg.Default
	}
	return cfg, Finding{"config", "ok", what, ""}
}

// placeForLog returns an error if the log file can't be created: if its folder, or the nearest one above it that exists, is not
// writable.
func placeForLog(file string) error {
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
}

// checkAgent checks the socket, the agent and its profiles. It returns the agent's status too, which is empty if no agent
// answers.
func checkAgent(ctx context.Context, env environ.Vars, cfg agent.Config) (found []Finding, said protocol.Status) {
	path, isDefault, err := protocol.SocketPath()
	if err != nil {
		return []Finding{{"socket", "fail", err.Error(), protocol.HintOf(err)}}, said
	}
	dir := protocol.SocketDir(path)
	if err := protocol.CheckDir(dir); err != nil && (!errors.Is(err, protocol.ErrNoAgent) || protocol.CheckRoom(dir) != nil) {
		return []Finding{{"socket", "fail", err.Error(), protocol.HintOf(err)}}, said
	}
	client, err := protocol.ClientFromEnv(false)
	if err != nil {
		return []Finding{{"agent", "fail", err.Error(), protocol.HintOf(err)}}, said
	}
	defer client.Close()
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{})
	if err != nil {
		if held := checkHolder(path); held != nil &&
			(errors.Is(err, protocol.ErrNoAgent) || errors.Is(err, protocol.ErrUnavailable)) {
			return held, said
		}
		if errors.Is(err, protocol.ErrUnavailable) && ctx.Err() != nil {
			err = dial.Silent()
		}
		switch {
		case !errors.Is(err, protocol.ErrNoAgent):
			return []Finding{{"agent", "fail", err.Error(), cmp.Or(protocol.HintOf(err), "ccagent stop")}}, said
		case !isDefault:
			what := "CCAGENT_SOCK names " + path + ", where no agent answers and none is started automatically"
			if _, why, ok := strings.Cut(err.Error(), path+": "); ok {
				what += ": " + why
			} else if _, why, ok := strings.Cut(err.Error(), path+", "); ok {
				what += "; it is " + why
			}
			return []Finding{{"agent", "fail", what, "unset CCAGENT_SOCK"}}, said
		}
		if err := placeForLog(protocol.LogFile(path)); err != nil {
			what := "no agent is running at " + path + ", and none can be started, because its log can't be written: " + err.Error()
			return []Finding{{"agent", "fail", what, "make that folder writable, or set XDG_STATE_HOME to one that is"}}, said
		}
		what := fmt.Sprintf("no agent is running at %s (%s); the first request starts one", path, protocol.SocketReason())
		return []Finding{{"agent", "skip", what, ""}}, said
	}
	found = judgeAgent(status.Agent, path)
	for _, p := range status.Profiles {
		if f, wrong := judgeProfile(env, cfg, p); wrong {
			found = append(found, f)
		}
	}
	return found, status
}

// checkHolder looks for an agent that holds the lock of the socket and does not answer.
func checkHolder(path string) []Finding {
	pid := socket.Holder(path)
	if pid == 0 {
		return nil
	}
	return []Finding{{"holder", "fail", fmt.Sprintf("process %d has the lock of %s, and does not answer there", pid, path),
		dial.EndSilent(pid)}}
}

// judgeAgent checks what the agent says of itself.
func judgeAgent(a protocol.AgentStatus, path string) []Finding {
	found := []Finding{{"agent", "ok", fmt.Sprintf("agent %d answers at %s (%s)", a.PID, path, protocol.SocketReason()), ""}}
	if a.Locked {
		found = append(found, Finding{"agent", "warn", "it is locked, so it gives out no token", "ccagent unlock"})
	}
	if a.ConfigError != "" {
		found = append(
			found,
			Finding{"agent", "warn", "it still uses its earlier settings, because there is an error in config.toml: " + a.ConfigError,
				cmp.Or(a.ConfigHint, "fix config.toml")},
		)
	}
	if a.Version != build.Version() {
		found = append(
			found,
			Finding{"version", "warn", fmt.Sprintf("the agent has version %s, and this program has %s", a.Version, build.Version()),
				"ccagent stop"},
		)
	}
	return found
}

// lookFurther is the advice for a provider that does not answer.
const lookFurther = "ccagent doctor --online"

// furtherStill replaces the advice lookFurther, when the person has just followed it.
func furtherStill(found []Finding) {
	for i, f := range found {
		if rest, ok := strings.CutPrefix(f.Mend, lookFurther); ok {
			found[i].Mend = "ccagent refresh -p " + strings.TrimPrefix(f.ID, "profile ") + rest
		}
	}
}

// judgeProfile says what is wrong with a profile. wrong is false if nothing is.
func judgeProfile(env environ.Vars, cfg agent.Config, p protocol.ProfileStatus) (f Finding, wrong bool) {
	id := "profile " + p.Name
	said := strings.TrimPrefix(p.LastError, id+": ")
	fault := func(state, what, command string) (Finding, bool) {
		return Finding{id, state, what + said, mends(command, p.LastHint)}, true
	}
	switch p.State {
	case protocol.StateSignIn:
		return fault("fail", "sign-in needed: ", signInAgain(env, cfg, p))
	case protocol.StateFailed:
		if p.HasToken && provider.Kind(p.Provider).Traits().Renewable { // validate would find the token valid, and say nothing
			return fault("fail", "it fails: ", "ccagent refresh -p "+p.Name)
		}
		return fault("fail", "it fails: ", "ccagent validate -p "+p.Name)
	case protocol.StateUnsaved:
		return fault("warn", "unsaved: ", "ccagent doctor store -p "+p.Name)
	case protocol.StateLocked:
		if said != "" { // otherwise the whole agent is locked, which judgeAgent has said
			return fault("warn", "locked: ", cmp.Or(store.Kind(p.Store).Traits().Unlock, "ccagent unlock"))
		}
	case protocol.StateBackoff:
		return fault("warn", "backing off: ", lookFurther)
	}
	if p.SignInEndsSoon(time.Now()) {
		return Finding{id, "warn", "the sign-in ends on " + p.SignInEnds.Local().Format("2006-01-02 15:04"),
			signInAgain(env, cfg, p)}, true
	}
	if p.Note != "" {
		_, mend, _ := strings.Cut(p.Note, " with: ")
		mend, _, _ = strings.Cut(mend, "; ")
		return Finding{id, "warn", p.Note, mend}, true
	}
	return Finding{}, false
}

// signInAgain returns the command that makes a new sign-in for the profile, or gets its key again. If the record is in Claude
// Code's own file, that is a command of Claude Code.
func signInAgain(env environ.Vars, cfg agent.Config, p protocol.ProfileStatus) string {
	profile, ok := config.Find(cfg, p.Name)
	traits := provider.Kind(p.Provider).Traits()
	if !traits.ClaudeCode || !ok || !config.Store(profile).MayBe(store.KindClaudeCode) {
		return cmp.Or(traits.Obtain(p.Name), "ccagent login "+p.Name)
	}
	if profile.ConfigDir != "" && environ.ClaudeFile(profile.ConfigDir) != environ.ClaudeFile(env.ClaudeDir()) {
		name := "CLAUDE_CONFIG_DIR"
		if env("CLAUDE_SECURESTORAGE_CONFIG_DIR") != "" { // it would win over CLAUDE_CONFIG_DIR
			name = "CLAUDE_SECURESTORAGE_CONFIG_DIR"
		}
		return name + "=" + protocol.ShellLine(profile.ConfigDir) + " claude auth login"
	}
	return "claude auth login"
}

// checkOthers looks for other agents of this person, at the addresses that are the default in another environment. A program that
// cron starts, for example, has no XDG_RUNTIME_DIR.
func checkOthers(ctx context.Context, env environ.Vars, pid int) []Finding {
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
	var found []Finding
	for _, place := range slices.Compact(places) {
		if place == filepath.Clean(here) {
			continue
		}
		client := protocol.NewClient(place) // it checks folder and socket before it connects
		status, err := client.Status(ctx, protocol.StatusRequest{})
		client.Close()
		if err == nil && status.Agent.PID != pid {
			found = append(
				found,
				Finding{
					"another agent",
					"warn",
					fmt.Sprintf("agent %d answers at %s: programs in another environment ask that one", status.Agent.PID, place),
					"CCAGENT_SOCK=" + protocol.ShellLine(place) + " ccagent stop",
				},
			)
		}
	}
	return found
}

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/setup"
	"github.com/ccagent/ccagent/protocol"
)

// checkClaudeCode looks whether the program that Claude Code is told to ask is there, and for whose token it is told to ask.
func checkClaudeCode(cfg agent.Config, said protocol.Status, settings environ.ClaudeSettings, err error) Finding {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Finding{"claude-code", "skip", "there is no " + settings.Path, ""}
	case errors.Is(err, protocol.ErrConfig): // it can't be told where they are
		return Finding{"claude-code", "fail", err.Error(), mendOf(err)}
	case err != nil:
		return Finding{
			"claude-code",
			"warn",
			settings.Path + " can't be read, or is not valid JSON: " + err.Error(),
			"correct " + settings.Path,
		}
	case settings.Helper == "":
		return Finding{"claude-code", "skip", settings.Path + " names no apiKeyHelper", ""}
	}
	// A shell runs it; its words are enough for us, if they mean nothing else to one.
	if strings.ContainsAny(settings.Helper, "$`'\"\\;&|<>(){}~*?\n") {
		return Finding{
			"claude-code",
			"ok",
			"the apiKeyHelper of " + settings.Path + " is a shell's command, and was not looked at",
			"",
		}
	}
	words := strings.Fields(settings.Helper)
	if len(words) == 0 || strings.Contains(words[0], "=") {
		return Finding{
			"claude-code",
			"ok",
			"the apiKeyHelper of " + settings.Path + " is a shell's command, and was not looked at",
			"",
		}
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return Finding{
			"claude-code",
			"fail",
			"the apiKeyHelper of " + settings.Path + " names a program that is not there: " + words[0],
			"ccagent setup claude-code",
		}
	}
	if filepath.Base(words[0]) == "cchelper" && cfg.Default != "" {
		name := cfg.Default
		if at := slices.IndexFunc(words, func(w string) bool { return w == "-p" || w == "--profile" }); at > 0 && at+1 < len(words) {
			name = words[at+1]
		}
		profile, ok := config.Find(cfg, name)
		if !ok {
			return Finding{
				"claude-code",
				"fail",
				"the apiKeyHelper of " + settings.Path + " asks for a profile that there is not: " + name,
				"ccagent setup claude-code",
			}
		}
		holds := func(p protocol.ProfileStatus) bool { return p.Name == profile.Name && p.Kind == protocol.KindOAuth }
		if !config.Provider(profile).ClaudeCode &&
			slices.ContainsFunc(said.Profiles, holds) { // a sign-in may be for a gateway, which takes it so
			return Finding{
				"claude-code",
				"fail",
				"the apiKeyHelper of " + settings.Path + " asks for profile " + profile.Name +
					", whose OAuth token (a setup token) does not work that way",
				"take apiKeyHelper out there, then: ccagent setup claude-code -p " + profile.Name + " --by exec",
			}
		}
	}
	return Finding{"claude-code", "ok", "the apiKeyHelper of " + settings.Path + " is there: " + words[0], ""}
}

// checkTools looks at tools that setup has connected: does what they were told still lead to a cchelper?
func checkTools(env environ.Vars) []Finding {
	dir, err := setup.JournalDir(env)
	if err != nil {
		return nil
	}
	journals, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	var found []Finding
	for _, path := range journals {
		j, err := setup.ReadJournal(path)
		if err != nil {
			found = append(found, Finding{"setup", "warn", err.Error(), mendOf(err)})
			continue
		}
		check := "setup " + j.Tool
		for _, file := range slices.Sorted(maps.Keys(j.Files)) {
			now, err := os.ReadFile(file)
			switch {
			case err != nil:
				found = append(found, Finding{check, "warn", "what was set up is gone: " + err.Error(), j.Command()})
			case !j.Files[file].In(now):
				found = append(found, Finding{check, "warn", file + " does not ask ccagent any more", j.Command()})
			default:
				found = append(found, Finding{check, "ok", file, ""})
			}
		}
		for _, link := range slices.Sorted(maps.Keys(j.Links)) {
			if _, err := os.Stat(link); err != nil {
				found = append(found, Finding{check, "warn", "what was set up is gone: " + err.Error(), j.Command()})
			}
		}
	}
	return found
}

// checkEnvironment looks for tokens that Claude Code takes before what it is told otherwise. It names them alone.
func checkEnvironment(env environ.Vars, settings environ.ClaudeSettings) []Finding {
	var found []Finding
	for _, o := range settings.Outranking(env) {
		found = append(found, Finding{"environment", "warn", o.What, o.Mend})
	}
	if found == nil {
		found = []Finding{{"environment", "ok", "no token here outranks the helper", ""}}
	}
	return found
}

// checkPaths looks for paths in the environment that count for nothing.
func checkPaths(env environ.Vars) []Finding {
	var found []Finding
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
		if dir := env(name); dir != "" && !filepath.IsAbs(dir) {
			found = append(
				found,
				Finding{
					"environment",
					"warn",
					fmt.Sprintf("%s is not an absolute path, and is ignored as the XDG specification has it: %q", name, dir),
					"set it to an absolute path, or unset it",
				},
			)
		}
	}
	return found
}

package doctor

import (
	"context"
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
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// checkClaudeCode checks that the apiKeyHelper of Claude Code exists, that the profile it asks for works with it, and that the
// token goes where it is meant to go. err is that of the user's settings.
func checkClaudeCode(cfg agent.Config, said protocol.Status, c environ.ClaudeCode, err error) (found []Finding) {
	one := func(state, what, mend string) []Finding {
		return append(found, Finding{"claude-code", state, what, mend})
	}
	user, settings := c.Layers[len(c.Layers)-1], c.Helper()
	for _, err := range c.Errs {
		found = one("warn", err.Error(), "fix it, or ask whoever has written it")
	}
	switch {
	case errors.Is(err, protocol.ErrConfig): // a variable of the environment is unusable, so the path is not known
		return one("fail", err.Error(), protocol.HintOf(err))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return one("warn", user.Path+" can't be read, or is not valid JSON: "+err.Error(), "fix "+user.Path)
	case settings.Helper == "" && err != nil:
		return one("skip", "there is no "+user.Path, "")
	case settings.Helper == "":
		return one("skip", user.Path+" names no apiKeyHelper", "")
	}
	// A shell runs the helper. It can be checked word by word if it has no characters that are special to a shell.
	words := strings.Fields(settings.Helper)
	if strings.ContainsAny(settings.Helper, "$`'\"\\;&|<>(){}~*?\n") || len(words) == 0 || strings.Contains(words[0], "=") {
		return one("ok", "the apiKeyHelper of "+settings.Path+" is a command with shell syntax, so it was not checked", "")
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		return one("fail", "the apiKeyHelper of "+settings.Path+" names a program that does not exist: "+words[0],
			"ccagent setup claude-code")
	}
	if filepath.Base(words[0]) == "cchelper" && cfg.Default != "" {
		name := cfg.Default
		if at := slices.IndexFunc(words, func(w string) bool { return w == "-p" || w == "--profile" }); at > 0 && at+1 < len(words) {
			name = words[at+1]
		}
		profile, ok := config.Find(cfg, name)
		if !ok {
			return one("fail", "the apiKeyHelper of "+settings.Path+" asks for a profile that does not exist: "+name,
				"ccagent setup claude-code")
		}
		var kind protocol.Kind
		for _, p := range said.Profiles {
			if p.Name == profile.Name {
				kind = p.Kind
			}
		}
		if !config.Provider(profile).ClaudeCode && kind == protocol.KindOAuth { // another sign-in's may be for a gateway that takes it
			return one("fail",
				"the apiKeyHelper of "+settings.Path+" asks for profile "+profile.Name+
					", whose OAuth token (a setup token) does not work with apiKeyHelper",
				"remove apiKeyHelper there, then: ccagent setup claude-code -p "+profile.Name+" --by exec")
		}
		if o := setup.Misdirected(c, profile, kind); o != nil {
			return one("warn", o.What, o.Mend)
		}
	}
	return one("ok", "the apiKeyHelper of "+settings.Path+" exists: "+words[0], "")
}

// checkTools checks whether the tools that setup has connected still ask cchelper and nobody before it, or still find a token
// where setup showed it.
func checkTools(ctx context.Context, env environ.Vars, cfg agent.Config) []Finding {
	dir, err := setup.JournalDir(env)
	if err != nil {
		return nil
	}
	journals, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	var found []Finding
	for _, path := range journals {
		j, err := setup.ReadJournal(path)
		if err != nil {
			found = append(found, Finding{"setup", "warn", err.Error(), protocol.HintOf(err)})
			continue
		}
		check := "setup " + j.Tool
		for _, file := range slices.Sorted(maps.Keys(j.Files)) {
			now, err := os.ReadFile(file)
			switch {
			case err != nil:
				found = append(found, Finding{check, "warn", "what setup has changed is gone: " + err.Error(), j.Command()})
			case !j.Files[file].In(now):
				found = append(found, Finding{check, "warn", file + " does not mention ccagent any more", j.Command()})
			default:
				found = append(found, Finding{check, "ok", file, ""})
			}
		}
		for _, o := range j.Outranked(ctx, env) {
			found = append(found, Finding{check, "warn", o.What, o.Mend})
		}
		for _, link := range slices.Sorted(maps.Keys(j.Links)) {
			if _, err := os.Stat(link); err != nil {
				found = append(found, Finding{check, "warn", "what setup has changed is gone: " + err.Error(), j.Command()})
			}
		}
		for _, view := range j.Views {
			if profile, _ := config.Find(cfg, j.Profile); !setup.HasView(env, profile, view) {
				says := fmt.Sprintf("profile %s has lost the view %s in config.toml, from which %s gets its token", j.Profile, view.Kind,
					j.Tool)
				found = append(found, Finding{check, "warn", says, j.Command()})
			}
		}
	}
	return found
}

// checkEnvironment looks for what Claude Code would prefer to a token of ours, if it is started in this folder. It shows names
// only.
func checkEnvironment(c environ.ClaudeCode) []Finding {
	var found []Finding
	for _, o := range c.Outranking() {
		found = append(found, Finding{"environment", "warn", o.What, o.Mend})
	}
	if found == nil {
		found = []Finding{{"environment", "ok", "no variable holds a token that Claude Code would prefer", ""}}
	}
	return found
}

// checkPaths looks for variables that are ignored because they hold no absolute path.
func checkPaths(env environ.Vars) []Finding {
	var found []Finding
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"} {
		if dir := env(name); dir != "" && !filepath.IsAbs(dir) {
			found = append(
				found,
				Finding{
					"environment",
					"warn",
					fmt.Sprintf("%s is not an absolute path, so it is ignored, as the XDG specification says: %q", name, dir),
					"set it to an absolute path, or unset it",
				},
			)
		}
	}
	return found
}

// ours are the variables that ccagent and cchelper read.
var ours = []string{
	"CCAGENT_FORMAT", "CCAGENT_HEADER", "CCAGENT_IDLE_TIMEOUT", "CCAGENT_LOGIN_TIMEOUT", "CCAGENT_LOG_FORMAT", "CCAGENT_LOG_LEVEL",
	"CCAGENT_MIN_TTL", "CCAGENT_ON_REASK", "CCAGENT_PROFILE", "CCAGENT_REASK_WINDOW", "CCAGENT_SHELL", "CCAGENT_SOCK",
	"CCAGENT_SOCK_UID", "CCAGENT_TIMEOUT", "CCAGENT_USERNAME",
}

// checkOwnVariables looks for variables of ours that nobody reads, because their names are misspelled, and for values that are
// refused. environment is as os.Environ returns it.
func checkOwnVariables(cfg agent.Config, environment []string) []Finding {
	var found []Finding
	add := func(state, what, mend string) { found = append(found, Finding{"environment", state, what, mend}) }
	for _, pair := range environment {
		name, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(ours, name) {
			best, like := 3, ""
			for _, known := range ours {
				if d := terminal.Distance(strings.ToUpper(name), known); d < best {
					best, like = d, known
				}
			}
			switch {
			case like != "":
				add("warn", name+" is set, and nobody reads it: "+like+" is probably meant", "set "+like+" instead, and unset "+name)
			case strings.HasPrefix(name, "CCAGENT_"):
				add("warn", name+" is set, and neither program reads it", "unset "+name)
			}
			continue
		}
		if err := protocol.CheckVariable(name, value); err != nil {
			add("fail", err.Error(), protocol.HintOf(err))
			continue
		}
		if value == "" || name != "CCAGENT_PROFILE" || len(cfg.Profiles) == 0 {
			continue
		}
		if err := protocol.CheckProfile(value); err != nil {
			add("fail", "$"+name+": "+err.Error(), protocol.HintOf(err))
		} else if _, ok := config.Find(cfg, value); !ok {
			add("fail", fmt.Sprintf("CCAGENT_PROFILE names a profile that does not exist: %q", value),
				"ccagent list shows the profiles; unset CCAGENT_PROFILE")
		}
	}
	return found
}

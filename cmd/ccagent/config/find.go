package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
)

// Find finds a profile by its name, in whatever case.
func Find(cfg agent.Config, name string) (agent.Profile, bool) {
	for _, profile := range cfg.Profiles {
		if strings.EqualFold(profile.Name, name) {
			return profile, true
		}
	}
	return agent.Profile{}, false
}

// Named is Find for a profile that has to be there.
func Named(cfg agent.Config, name string) (agent.Profile, error) {
	profile, ok := Find(cfg, name)
	if !ok {
		return profile, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: fmt.Sprintf("there is no profile %q", name),
			Hint:    "see them with: ccagent list",
		}
	}
	return profile, nil
}

// Settings takes an agent's profile apart again.
func Settings(p agent.Profile) (worker.Settings, error) {
	var s worker.Settings
	err := json.Unmarshal(p.Settings, &s)
	return s, err
}

// Views are a profile's views.
func Views(profile agent.Profile) []string {
	settings, _ := Settings(profile) // Load wrote them
	return settings.Views
}

// Viewed reports whether a profile has views, which somebody has to keep fresh.
func Viewed(cfg agent.Config) bool {
	return slices.ContainsFunc(cfg.Profiles, func(p agent.Profile) bool { return p.Shown })
}

// ShowsClaude reports whether Claude Code's file is a view of the profile's sign-in.
func ShowsClaude(profile agent.Profile) bool {
	return slices.Contains(Views(profile), "claude-code")
}

// SignsIn reports whether a provider's profiles begin with a sign-in.
func SignsIn(kind string) bool { return provider.Kind(kind).Traits().SignsIn }

// ClaudeDir is the profile's Claude Code directory, "" where it has none.
func ClaudeDir(env environ.Vars, profile agent.Profile) string {
	if profile.Provider != "claude" {
		return ""
	}
	return cmp.Or(profile.ConfigDir, env.ClaudeDir())
}

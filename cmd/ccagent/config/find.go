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
	"github.com/ccagent/ccagent/store"
)

// Find finds a profile by its name, ignoring case.
func Find(cfg agent.Config, name string) (agent.Profile, bool) {
	for _, profile := range cfg.Profiles {
		if strings.EqualFold(profile.Name, name) {
			return profile, true
		}
	}
	return agent.Profile{}, false
}

// Named is Find for a profile that has to exist. If it does not, the error is ErrNotFound.
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

// Settings decodes the settings that Load has put into a profile for the worker.
func Settings(p agent.Profile) (worker.Settings, error) {
	var s worker.Settings
	err := json.Unmarshal(p.Settings, &s)
	return s, err
}

// Viewed reports whether any profile has views, which an agent has to keep current.
func Viewed(cfg agent.Config) bool {
	return slices.ContainsFunc(cfg.Profiles, func(p agent.Profile) bool { return p.Shown })
}

// ShowsClaude reports whether Claude Code's file is a view of the profile's sign-in.
func ShowsClaude(profile agent.Profile) bool {
	return HasView(profile, ViewClaude)
}

// Provider returns the traits of the profile's kind of provider.
func Provider(profile agent.Profile) provider.Traits { return provider.Kind(profile.Provider).Traits() }

// Store returns the kind of store that is configured for the profile. It may be auto.
func Store(profile agent.Profile) store.Kind { return store.Kind(profile.Store) }

// MayUseClaude reports whether the profile's record may be in Claude Code's own file.
func MayUseClaude(profile agent.Profile) bool {
	return Provider(profile).ClaudeCode && Store(profile).MayBe(store.KindClaudeCode)
}

// ClaudeDir returns the profile's Claude Code directory, or "" if it has none.
func ClaudeDir(env environ.Vars, profile agent.Profile) string {
	if !Provider(profile).ClaudeCode {
		return ""
	}
	settings, _ := Settings(profile)
	return cmp.Or(profile.ConfigDir, settings.ConfigDir, env.ClaudeDir())
}

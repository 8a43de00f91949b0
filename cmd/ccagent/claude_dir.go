package main

import (
	"cmp"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
)

// claudeDirOf is the profile's Claude Code directory, "" where it has none.
func claudeDirOf(env environ.Vars, profile agent.Profile) string {
	if profile.Provider != "claude" {
		return ""
	}
	return cmp.Or(profile.ConfigDir, env.ClaudeDir())
}

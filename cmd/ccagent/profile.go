package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
)

// findProfile finds a profile by its name, in whatever case.
func findProfile(config agent.Config, name string) (agent.Profile, bool) {
	for _, profile := range config.Profiles {
		if strings.EqualFold(profile.Name, name) {
			return profile, true
		}
	}
	return agent.Profile{}, false
}

// namedProfile is findProfile for a profile that has to be there.
func namedProfile(config agent.Config, name string) (agent.Profile, error) {
	profile, ok := findProfile(config, name)
	if !ok {
		return profile, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: fmt.Sprintf("there is no profile %q", name),
			Hint:    "see them with: ccagent list",
		}
	}
	return profile, nil
}

// oneProfile is the profile that the one argument names, else the default one.
func oneProfile(c *cli.Context, config agent.Config) (agent.Profile, error) {
	if err := atMost(c, 1); err != nil {
		return agent.Profile{}, err
	}
	name := cmp.Or(c.Args().First(), c.String("profile"), config.Default)
	if err := protocol.CheckProfile(name); err != nil {
		return agent.Profile{}, err
	}
	return namedProfile(config, name)
}

// signsIn reports whether a provider's profiles begin with a sign-in.
func signsIn(kind string) bool { return provider.Kind(kind).Traits().SignsIn }

// workerSettings takes an agent's profile apart again.
func workerSettings(p agent.Profile) (worker.Settings, error) {
	var s worker.Settings
	err := json.Unmarshal(p.Settings, &s)
	return s, err
}

// viewsOf are a profile's views.
func viewsOf(profile agent.Profile) []string {
	settings, _ := workerSettings(profile) // loadConfig wrote them
	return settings.Views
}

// viewed reports whether a profile has views, which somebody has to keep fresh.
func viewed(config agent.Config) bool {
	return slices.ContainsFunc(config.Profiles, func(p agent.Profile) bool { return p.Shown })
}

// showsClaude reports whether Claude Code's file is a view of the profile's sign-in.
func showsClaude(profile agent.Profile) bool {
	return slices.Contains(viewsOf(profile), "claude-code")
}

// sharedWithClaude returns the file that Claude Code has the profile's sign-in from, "" if it has not.
func sharedWithClaude(conn *connection, profile agent.Profile) (string, error) {
	if showsClaude(profile) {
		return environ.ClaudeFile(claudeDirOf(getenv, profile)), nil
	}
	if profile.Provider != "claude" || profile.Store != "auto" && profile.Store != "claude-code" {
		return "", nil
	}
	file := environ.ClaudeFile(claudeDirOf(getenv, profile))
	if profile.Store == "claude-code" {
		return file, nil
	}
	// With store auto it is the agent that knows, once it has loaded the profile.
	for range 2 {
		status, err := conn.Status(conn.ctx, protocol.StatusRequest{Profile: profile.Name})
		if err != nil {
			return "", err
		}
		if len(status.Profiles) == 1 {
			switch p := status.Profiles[0]; p.Store {
			case "claude-code":
				return p.Location, nil
			case "file", "memory", "keyring", "encrypted":
				return "", nil
			}
		}
		if _, err := conn.Token(conn.ctx, protocol.TokenRequest{Profile: profile.Name}); errors.Is(err, protocol.ErrNotFound) {
			return "", nil
		}
	}
	if _, err := os.Stat(file); err == nil {
		return file, nil // in doubt it is Claude Code's
	}
	return "", nil
}

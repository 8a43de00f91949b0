package main

import (
	"context"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/store"
)

// A sign-in that renews itself has one home. The commands by which a record gets one look here whether another profile has it.

// homesOf are the settings of the profile of that name, which need not exist yet, and of all others that may have a record.
// Claude Code in this environment is one of them, whether or not a profile uses it.
func homesOf(config agent.Config, name string) (own worker.Settings, others []worker.Settings, err error) {
	own.Name = name
	if own.DataDir, err = getenv.DataDir(); err != nil {
		return own, nil, err
	}
	if own.StateDir, err = getenv.StateDir(); err != nil {
		return own, nil, err
	}
	known := false
	for _, profile := range config.Profiles {
		settings, err := workerSettings(profile)
		if err != nil {
			return own, nil, err
		}
		known = known || claudeDirOf(getenv, profile) != "" && sameDir(claudeDirOf(getenv, profile), getenv.ClaudeDir()) &&
			settings.Store != "file"
		if strings.EqualFold(profile.Name, name) {
			own = settings
		} else {
			others = append(others, settings)
		}
	}
	if dir := getenv.ClaudeDir(); dir != "" && !known {
		others = append(
			others,
			worker.Settings{
				Provider: provider.Claude, Store: store.KindClaudeCode, ConfigDir: dir, DataDir: own.DataDir, StateDir: own.StateDir,
			},
		)
	}
	return own, others, nil
}

// soleClaude refuses Claude Code's file in dir as the home of the profile of that name where another profile has its sign-in.
func soleClaude(ctx context.Context, config agent.Config, name, dir string) error {
	own, others, err := homesOf(config, name)
	if err != nil {
		return err
	}
	claude := store.NewClaudeCode(dir)
	r, _, err := claude.Load(ctx)
	if err != nil {
		return nil // whoever uses it says what is wrong
	}
	return worker.OtherHome(ctx, own, claude, r, others)
}

// soleHome refuses to go on with a profile whose sign-in another profile has.
func soleHome(ctx context.Context, config agent.Config, name string) error {
	own, others, err := homesOf(config, name)
	if err != nil {
		return err
	}
	return worker.SoleHome(ctx, own, others)
}

// checkHomes looks for sign-ins that two profiles hold.
func checkHomes(ctx context.Context, config agent.Config) []finding {
	var all []worker.Settings
	for _, profile := range config.Profiles {
		if settings, err := workerSettings(profile); err == nil && profile.Provider != "command" {
			all = append(all, settings)
		}
	}
	var found []finding
	for _, shared := range worker.SharedSignIns(ctx, all) {
		found = append(found, finding{"sign-in of " + shared.Profile, "fail", shared.Err.Error(), mendOf(shared.Err)})
	}
	return found
}

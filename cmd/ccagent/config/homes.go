package config

import (
	"context"
	"os"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/store"
)

// A sign-in that renews itself has one home. The commands by which a record gets one look here whether another profile has it.

// Homes are the settings of the profile of that name, which need not exist yet, and of all others that may have a record.
// Claude Code in this environment is one of them, whether or not a profile uses it.
func Homes(env environ.Vars, cfg agent.Config, name string) (own worker.Settings, others []worker.Settings, err error) {
	own.Name = name
	if own.DataDir, err = env.DataDir(); err != nil {
		return own, nil, err
	}
	if own.StateDir, err = env.StateDir(); err != nil {
		return own, nil, err
	}
	known := false
	for _, profile := range cfg.Profiles {
		settings, err := Settings(profile)
		if err != nil {
			return own, nil, err
		}
		known = known || ClaudeDir(env, profile) != "" && SameDir(ClaudeDir(env, profile), env.ClaudeDir()) &&
			(settings.Store.MayBe(store.KindClaudeCode) || ShowsClaude(profile))
		if strings.EqualFold(profile.Name, name) {
			own = settings
		} else {
			others = append(others, settings)
		}
	}
	if dir := env.ClaudeDir(); dir != "" && !known {
		others = append(
			others,
			worker.Settings{
				Provider: provider.Claude, Store: store.KindClaudeCode, ConfigDir: dir, DataDir: own.DataDir, StateDir: own.StateDir,
			},
		)
	}
	return own, others, nil
}

// SoleClaude refuses Claude Code's file in dir as the home of the profile of that name where another profile has its sign-in.
func SoleClaude(ctx context.Context, env environ.Vars, cfg agent.Config, name, dir string) error {
	own, others, err := Homes(env, cfg, name)
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

// SoleHome refuses to go on with a profile whose sign-in another profile has.
func SoleHome(ctx context.Context, env environ.Vars, cfg agent.Config, name string) error {
	own, others, err := Homes(env, cfg, name)
	if err != nil {
		return err
	}
	return worker.SoleHome(ctx, own, others)
}

// SameDir reports whether two paths lead to the same folder.
func SameDir(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

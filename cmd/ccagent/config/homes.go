package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/store"
)

// A sign-in that can be renewed has one home, the one place where it is stored. The commands that give a record a home ask here
// whether another profile has the same sign-in.

// Homes returns the settings of the profile of that name, which need not exist yet, and those of all others that may have a
// record. The others include Claude Code in this environment, even if no profile uses its file.
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

// SoleClaude returns an error if another profile has the sign-in in Claude Code's file in dir, which is to become the home of the
// profile of that name.
func SoleClaude(ctx context.Context, env environ.Vars, cfg agent.Config, name, dir string) error {
	own, others, err := Homes(env, cfg, name)
	if err != nil {
		return err
	}
	claude := store.NewClaudeCode(dir)
	r, _, err := claude.Load(ctx)
	if err != nil {
		return nil // the command that uses the file reports what is wrong with it
	}
	return worker.OtherHome(ctx, own, claude, r, others)
}

// SoleHome returns an error if another profile has the same sign-in as the profile of that name.
func SoleHome(ctx context.Context, env environ.Vars, cfg agent.Config, name string) error {
	own, others, err := Homes(env, cfg, name)
	if err != nil {
		return err
	}
	return worker.SoleHome(ctx, own, others)
}

// SameDir reports whether two paths name the same folder.
func SameDir(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

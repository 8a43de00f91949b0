// Package doctor finds out what is wrong with an installation of ccagent, and says how to mend it. It changes nothing.
package doctor

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
)

// Finding is the result of one check. State is ok, warn, fail, or skip if there was nothing to check. A Finding contains no
// secret.
type Finding struct {
	ID    string `json:"id"`
	State string `json:"state"`
	What  string `json:"what"`
	Mend  string `json:"mend,omitempty"` // how to mend it, one line for each way; the first is a command if there is one
}

// Check runs all checks. Each kind of check has a time limit of its own, so that one that hangs does not stop the others. With
// online it also asks the providers.
func Check(parent context.Context, env environ.Vars, online bool) []Finding {
	bounded := func(time time.Duration, check func(context.Context) []Finding) []Finding {
		ctx, cancel := context.WithTimeout(parent, time)
		defer cancel()
		return check(ctx)
	}
	cfg, first := checkConfig(env)
	reached := cfg // the profiles whose providers are to be reached
	if first.State == "fail" {
		reached, _ = config.WithoutFile(env)
	}
	settings, settingsErr := env.ClaudeSettings()
	here, _ := os.Getwd()
	claudeCode := env.ClaudeCode(environ.ManagedClaude(), here, settings)
	var said protocol.Status
	found := []Finding{first}
	found = append(found, bounded(doctorTime, func(ctx context.Context) (found []Finding) {
		found, said = checkAgent(ctx, env, cfg)
		return found
	})...)
	found = append(
		found,
		bounded(doctorTime, func(ctx context.Context) []Finding { return checkOthers(ctx, env, said.Agent.PID) })...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []Finding { return []Finding{checkHelper(ctx, env)} })...)
	found = append(found, checkPrograms(env)...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []Finding { return checkUnits(ctx, env, cfg) })...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []Finding {
		return checkAgentEnvironment(ctx, env, cfg, said.Agent)
	})...)
	found = append(found, bounded(storesTime, func(ctx context.Context) []Finding { return checkStores(ctx, cfg) })...)
	found = append(found, bounded(storesTime, func(ctx context.Context) []Finding { return checkHomes(ctx, cfg) })...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []Finding { return checkViews(ctx, cfg, found) })...)
	found = append(found, checkFiles(env, cfg)...)
	found = append(found, checkConnections(env, reached)...)
	if first.State == "fail" {
		found = append(found, Finding{"connections", "skip",
			"what the profiles of config.toml need to reach their providers can't be looked at until config.toml is mended", ""})
	}
	found = append(found, checkClaudeCode(cfg, said, claudeCode, settingsErr)...)
	found = append(found, bounded(doctorTime, func(ctx context.Context) []Finding { return checkTools(ctx, env, cfg) })...)
	found = append(found, checkEnvironment(claudeCode)...)
	found = append(found, checkPaths(env)...)
	found = append(found, checkOwnVariables(cfg, os.Environ())...)
	found = append(found, checkMemory(said.Agent.PID)...)
	if online {
		furtherStill(found)
		found = append(found, bounded(onlineTime, func(ctx context.Context) []Finding { return checkOnline(ctx, reached) })...)
	}
	return found
}

// onlineTime limits the checks that ask providers.
const onlineTime = 30 * time.Second

// doctorTime limits each check that asks an agent, a program or a service manager.
const doctorTime = 5 * time.Second

// count returns a number with a noun in the singular or plural.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// mends returns the ways to mend something: first the command, then the lines of the hint that don't say the same.
func mends(command, hint string) string {
	ways := command
	for line := range strings.Lines(hint) {
		if line = strings.TrimSpace(line); line != "" && (command == "" || !strings.HasSuffix(line, command)) {
			ways += "\n" + line
		}
	}
	return strings.TrimPrefix(ways, "\n")
}

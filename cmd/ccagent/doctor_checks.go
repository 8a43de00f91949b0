package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/protocol"
)

// checkConfig reads config.toml as the agent does.
func checkConfig(env environ) finding {
	config, path, err := loadConfig(env)
	if err != nil {
		return finding{"config", "fail", err.Error(), mendOf(err)}
	}
	return finding{"config", "ok", fmt.Sprintf("%s: %s, the default is %s", path, count(len(config.Profiles), "profile"), config.Default), ""}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// mendOf is the first line of err's hint.
func mendOf(err error) string {
	mend, _, _ := strings.Cut(protocol.HintOf(err), "\n")
	return mend
}

// checkAgent looks at the socket, and at what the agent behind it says, and returns its pid, 0 where none answers.
func checkAgent(ctx context.Context) (found []finding, pid int) {
	path, _, err := protocol.SocketPath()
	if err != nil {
		return []finding{{"socket", "fail", err.Error(), mendOf(err)}}, 0
	}
	if err := protocol.CheckDir(protocol.SocketDir(path)); err != nil && !errors.Is(err, protocol.ErrNoAgent) {
		return []finding{{"socket", "fail", err.Error(), mendOf(err)}}, 0
	}
	client, err := protocol.ClientFromEnv(false)
	if err != nil {
		return []finding{{"agent", "fail", err.Error(), mendOf(err)}}, 0
	}
	defer client.Close()
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{})
	switch {
	case errors.Is(err, protocol.ErrNoAgent):
		if held := checkHolder(path, 0); held != nil {
			return held, 0
		}
		return []finding{{"agent", "skip", "no agent is running at " + path + "; the first request starts one", ""}}, 0
	case err != nil:
		return []finding{{"agent", "fail", err.Error(), mendOf(err)}}, 0
	}
	found = []finding{{"agent", "ok", fmt.Sprintf("agent %d answers at %s", status.Agent.PID, path), ""}}
	if status.Agent.Version != buildVersion() {
		found = append(found, finding{"version", "warn", fmt.Sprintf("the agent is of version %s, this program of %s", status.Agent.Version, buildVersion()), "ccagent stop"})
	}
	for _, p := range status.Profiles {
		id := "profile " + p.Name
		switch p.State {
		case protocol.StateSignIn:
			found = append(found, finding{id, "fail", "sign-in needed: " + strings.TrimPrefix(p.LastError, id+": "), "ccagent login " + p.Name})
		case protocol.StateFailed:
			found = append(found, finding{id, "fail", p.LastError, ""})
		case protocol.StateUnsaved, protocol.StateBackoff:
			found = append(found, finding{id, "warn", string(p.State) + ": " + p.LastError, ""})
		}
	}
	return found, status.Agent.PID
}

// viewed reports whether a profile has views, which somebody has to keep fresh.
func viewed(env environ) bool {
	config, _, err := loadConfig(env)
	return err == nil && slices.ContainsFunc(config.Profiles, func(p agent.Profile) bool { return p.Shown })
}

// checkEnvironment looks for tokens that Claude Code takes before what an apiKeyHelper prints. It names them alone.
func checkEnvironment(env environ) []finding {
	var found []finding
	for _, name := range []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"} {
		if env(name) != "" {
			found = append(found, finding{"environment", "warn", name + " is set here: Claude Code takes it before what its apiKeyHelper prints", "unset " + name})
		}
	}
	if found == nil {
		found = []finding{{"environment", "ok", "no token here outranks the helper", ""}}
	}
	return found
}

// checkFiles looks whether anybody else may read a file with a sign-in in it.
func checkFiles(env environ) []finding {
	var paths []string
	if dir := env.claudeDir(); dir != "" {
		paths = append(paths, filepath.Join(dir, ".credentials.json"))
	}
	if dir, err := env.dataDir(); err == nil {
		own, _ := filepath.Glob(filepath.Join(dir, "*.json")) // the pattern is ours
		paths = append(paths, own...)
	}
	var found []finding
	looked := 0
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			found = append(found, finding{"files", "fail", err.Error(), ""})
		case info.Mode().Perm()&0o077 != 0:
			found = append(found, finding{"files", "fail", fmt.Sprintf("%s is open to others (mode %04o)", path, info.Mode().Perm()), "chmod 600 " + path})
		}
		looked++
	}
	switch {
	case looked == 0:
		return []finding{{"files", "skip", "there is no file with a sign-in in it", ""}}
	case found == nil:
		return []finding{{"files", "ok", count(looked, "file") + " with a sign-in, closed to others", ""}}
	}
	return found
}

// checkClaudeCode looks whether the program that Claude Code is told to ask is there.
func checkClaudeCode(env environ) finding {
	settings, err := readClaudeSettings(env)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding{"claude-code", "skip", "there is no " + settings.path, ""}
	case err != nil:
		return finding{"claude-code", "warn", settings.path + " can't be read, or is not valid JSON", ""}
	case settings.Helper == "":
		return finding{"claude-code", "skip", settings.path + " names no apiKeyHelper", ""}
	}
	// A shell runs it; its first word is enough for us, if that is one.
	program, _, _ := strings.Cut(settings.Helper, " ")
	if strings.ContainsAny(program, "$`'\"\\;&|<>(){}~*?=") {
		return finding{"claude-code", "ok", "the apiKeyHelper of " + settings.path + " is a shell's command, and was not looked at", ""}
	}
	if _, err := exec.LookPath(program); err != nil {
		return finding{"claude-code", "fail", "the apiKeyHelper of " + settings.path + " names a program that is not there: " + program,
			"name cchelper in it, with its whole path"}
	}
	return finding{"claude-code", "ok", "the apiKeyHelper of " + settings.path + " is there: " + program, ""}
}

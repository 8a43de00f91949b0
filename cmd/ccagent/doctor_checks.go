package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// checkConfig reads config.toml as the agent does.
func checkConfig(env environ) finding {
	config, path, err := loadConfig(env)
	if err != nil {
		mend, _, _ := strings.Cut(protocol.HintOf(err), "\n")
		return finding{"config", "fail", err.Error(), mend}
	}
	return finding{"config", "ok", fmt.Sprintf("%s: %d profiles, the default is %s", path, len(config.Profiles), config.Default), ""}
}

// checkAgent looks at the socket, and at what the agent behind it says.
func checkAgent(ctx context.Context) []finding {
	path, _, err := protocol.SocketPath()
	if err != nil {
		return []finding{{"socket", "fail", err.Error(), "unset CCAGENT_SOCK"}}
	}
	if err := protocol.CheckDir(protocol.SocketDir(path)); err != nil && !errors.Is(err, protocol.ErrNoAgent) {
		return []finding{{"socket", "fail", err.Error(), "chmod 700 " + protocol.SocketDir(path)}}
	}
	client, err := protocol.ClientFromEnv(false)
	if err != nil {
		return []finding{{"agent", "fail", err.Error(), ""}}
	}
	defer client.Close()
	status, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{})
	switch {
	case errors.Is(err, protocol.ErrNoAgent):
		return []finding{{"agent", "skip", "no agent is running at " + path + "; the first request starts one", ""}}
	case err != nil:
		mend, _, _ := strings.Cut(protocol.HintOf(err), "\n")
		return []finding{{"agent", "fail", err.Error(), mend}}
	}
	found := []finding{{"agent", "ok", fmt.Sprintf("agent %d answers at %s", status.Agent.PID, path), ""}}
	if status.Agent.Version != buildVersion() {
		found = append(found, finding{"version", "warn", fmt.Sprintf("the agent is of version %s, this program of %s", status.Agent.Version, buildVersion()), "ccagent stop"})
	}
	for _, p := range status.Profiles {
		id := "profile " + p.Name
		switch p.State {
		case protocol.StateSignIn:
			found = append(found, finding{id, "fail", "sign-in needed: " + p.LastError, "ccagent login " + p.Name})
		case protocol.StateFailed:
			found = append(found, finding{id, "fail", p.LastError, ""})
		case protocol.StateUnsaved, protocol.StateBackoff:
			found = append(found, finding{id, "warn", string(p.State) + ": " + p.LastError, ""})
		}
	}
	return found
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

package environ

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// ClaudeCode is all that Claude Code goes by if it is started in a folder: its files of settings and the environment.
type ClaudeCode struct {
	env    Vars
	Layers []ClaudeSettings // the highest rank first, the user's own last
	Errs   []error          // of files that are there and can't be read
}

// ManagedClaude is the folder in which whoever manages the machine has settings of Claude Code, for all users.
func ManagedClaude() string {
	if runtime.GOOS == "darwin" {
		return "/Library/Application Support/ClaudeCode"
	}
	return "/etc/claude-code"
}

// ClaudeCode reads the settings that count for a Claude Code that is started in the folder dir: those of the machine (in the
// folder managed) and of the project. user are the user's own, which are read already. docs/facts.md has their order.
func (e Vars) ClaudeCode(managed, dir string, user ClaudeSettings) ClaudeCode {
	c := ClaudeCode{env: e}
	add := func(path string, theirs bool) {
		if path == user.Path { // in the home directory the project's file is the user's
			return
		}
		settings, err := readClaudeSettings(path)
		settings.Theirs = theirs
		switch {
		case err == nil:
			c.Layers = append(c.Layers, settings)
		case !errors.Is(err, fs.ErrNotExist):
			c.Errs = append(c.Errs, fmt.Errorf("%s can't be read, or is not valid JSON: %w", path, err))
		}
	}
	parts, _ := filepath.Glob(filepath.Join(managed, "managed-settings.d", "*.json"))
	for _, path := range slices.Backward(parts) {
		add(path, true)
	}
	add(filepath.Join(managed, "managed-settings.json"), true)
	if filepath.IsAbs(dir) {
		add(filepath.Join(repository(dir), ".claude/settings.local.json"), false)
		add(filepath.Join(dir, ".claude/settings.json"), false)
	}
	c.Layers = append(c.Layers, user)
	return c
}

// repository returns the root of the git repository that a folder is in, or the folder if it is in none.
func repository(dir string) string {
	for up := dir; up != filepath.Dir(up); up = filepath.Dir(up) {
		if _, err := os.Lstat(filepath.Join(up, ".git")); err == nil {
			return up
		}
	}
	return dir
}

// Helper returns the settings whose apiKeyHelper Claude Code runs. They are empty if there is none.
func (c ClaudeCode) Helper() ClaudeSettings {
	for _, layer := range c.Layers {
		if layer.Helper != "" {
			return layer
		}
	}
	return ClaudeSettings{}
}

// Variable returns the value that a variable has for Claude Code, and the settings that set it. These are empty if it is the
// environment, which counts less than any file.
func (c ClaudeCode) Variable(name string) (value string, in ClaudeSettings) {
	for _, layer := range c.Layers {
		if v := layer.Env[name]; v != nil {
			return fmt.Sprint(v), layer
		}
	}
	return c.env(name), ClaudeSettings{}
}

// TokenVariables are the variables in which Claude Code looks for a token, in that order. Between the second and the third it
// asks its apiKeyHelper.
var TokenVariables = []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"}

// services are the variables that have Claude Code ask another service, which no token of ours is for.
var services = []struct{ variable, service string }{
	{"CLAUDE_CODE_USE_BEDROCK", "Amazon Bedrock"},
	{"CLAUDE_CODE_USE_MANTLE", "Amazon Bedrock"},
	{"CLAUDE_CODE_USE_ANTHROPIC_AWS", "the Claude platform on AWS"},
	{"CLAUDE_CODE_USE_VERTEX", "Google's Vertex AI"},
	{"CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD", "the Claude platform on Google Cloud"},
	{"CLAUDE_CODE_USE_FOUNDRY", "Microsoft Foundry"},
	{"CLAUDE_CODE_USE_GATEWAY", "a gateway that it signs in to by itself"},
}

// Outranking describes something that Claude Code prefers to the token that it is to use, and how to take it away.
type Outranking struct{ What, Mend string }

// Outranking returns what Claude Code prefers to what the user's apiKeyHelper prints or, if there is none, to its own sign-in:
// a token in a variable, another apiKeyHelper, another service. The result has names, and no values.
func (c ClaudeCode) Outranking() []Outranking {
	user, helper := c.Layers[len(c.Layers)-1], c.Helper()
	outranked := "what its apiKeyHelper prints"
	if helper.Helper == "" {
		outranked = "its own sign-in"
	}
	var found []Outranking
	if helper.Helper != "" && helper.Path != user.Path && !helper.asksUs() {
		instead := "its own sign-in"
		if user.Helper != "" {
			instead = "that in " + user.Path
		}
		found = append(found, Outranking{"Claude Code runs the apiKeyHelper in " + helper.Path + ", and prefers it to " + instead,
			helper.without("apiKeyHelper")})
	}
	for _, name := range TokenVariables {
		if name == "CLAUDE_CODE_OAUTH_TOKEN" && helper.Helper != "" { // the helper outranks it
			continue
		}
		if value, in := c.Variable(name); value != "" {
			what := name + " is set " + in.where() + ", and Claude Code prefers it to " + outranked
			found = append(found, Outranking{what, in.without(name)})
		}
	}
	return append(found, c.OtherServices(outranked)...)
}

// OtherServices returns what has Claude Code ask another service. outranked is what it does not use then.
func (c ClaudeCode) OtherServices(outranked string) (found []Outranking) {
	for _, other := range services {
		if value, in := c.Variable(other.variable); slices.Contains([]string{"1", "true", "yes", "on"}, strings.ToLower(value)) {
			found = append(found, Outranking{
				other.variable + " is set " + in.where() + ", so Claude Code asks " + other.service + ", and does not use " + outranked,
				in.without(other.variable)})
		}
	}
	return found
}

// asksUs reports whether the apiKeyHelper is ours.
func (s ClaudeSettings) asksUs() bool {
	words := strings.Fields(s.Helper)
	return len(words) > 0 && filepath.Base(words[0]) == "cchelper"
}

// where says where a variable is set: in the file, or in the environment if there is none.
func (s ClaudeSettings) where() string {
	if s.Path == "" {
		return "here"
	}
	return "in " + s.Path
}

// without says how to take a setting or a variable away.
func (s ClaudeSettings) without(name string) string {
	switch {
	case s.Path == "":
		return "unset " + name
	case s.Theirs:
		return "ask whoever manages this machine to remove " + name + " from " + s.Path
	}
	return "remove " + name + " from " + s.Path
}

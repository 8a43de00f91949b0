package main

import (
	"cmp"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ccagent/ccagent/agent"
)

// What Claude Code itself has and reads: its directory, its sign-in, its settings, its environment.

// claudeDir is the directory that Claude Code itself uses in this environment, "" when HOME says nothing.
func (e environ) claudeDir() string {
	if dir := e("CLAUDE_CONFIG_DIR"); filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	if home := e("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".claude")
	}
	return ""
}

// claudeDirOf is the profile's Claude Code directory, "" where it has none.
func claudeDirOf(profile agent.Profile) string {
	if profile.Provider != "claude" {
		return ""
	}
	return cmp.Or(profile.ConfigDir, getenv.claudeDir())
}

// claudeFile is where Claude Code keeps its sign-in, in its directory.
func claudeFile(dir string) string { return filepath.Join(dir, ".credentials.json") }

// claudeSettings is what we read of Claude Code's settings.json.
type claudeSettings struct {
	path   string
	Helper string         `json:"apiKeyHelper"`
	Env    map[string]any `json:"env"`
}

// readClaudeSettings reads the user's settings of Claude Code. The path is set also with an error.
func readClaudeSettings(env environ) (claudeSettings, error) {
	settings := claudeSettings{path: filepath.Join(env.claudeDir(), "settings.json")}
	f, err := os.OpenFile(settings.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return settings, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err == nil {
		err = json.Unmarshal(text, &settings)
	}
	return settings, err
}

// tokenVariables are the variables that a token is found in, the one that wins first. Between the second and the third
// Claude Code asks its apiKeyHelper.
var tokenVariables = []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"}

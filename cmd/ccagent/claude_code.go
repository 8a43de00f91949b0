package main

import (
	"cmp"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/protocol"
)

// What Claude Code itself has and reads: its directory, its sign-in, its settings, its environment.

// claudeFolder is the folder of Claude Code's credentials as this environment spells it, "" for the default one: see
// protocol.ClaudeDir.
func (e environ) claudeFolder() (string, error) {
	return protocol.ClaudeDir(func(name string) (string, bool) {
		value := e(name)
		if value != "" {
			return value, true
		}
		_, set := os.LookupEnv(name) // an environ does not tell what is set and empty from what is not set
		return "", set
	})
}

// claudeDir is the directory with the credentials that Claude Code itself uses in this environment, spelled as it is there. "" is
// one that can't be told, because HOME says nothing, or because a variable is none that loadConfig takes.
func (e environ) claudeDir() string {
	dir, err := e.claudeFolder()
	if home := e("HOME"); err == nil && dir == "" && filepath.IsAbs(home) {
		return filepath.Join(home, ".claude")
	}
	if err != nil {
		return ""
	}
	return dir
}

// claudeSettingsDir is the directory with Claude Code's settings, which are in another one than the credentials where
// CLAUDE_SECURESTORAGE_CONFIG_DIR is set.
func (e environ) claudeSettingsDir() (string, error) {
	dir := e("CLAUDE_CONFIG_DIR")
	if err := protocol.CheckClaudeDir("CLAUDE_CONFIG_DIR", dir); err != nil {
		return "", err
	}
	switch home := e("HOME"); {
	case dir != "":
		return filepath.Clean(dir), nil
	case filepath.IsAbs(home):
		return filepath.Join(home, ".claude"), nil
	}
	return "", noHome
}

// claudeAccounts is the file in which Claude Code says who is signed in, beside its settings.
func (e environ) claudeAccounts() string {
	if dir := e("CLAUDE_CONFIG_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".claude.json")
	}
	return filepath.Join(e("HOME"), ".claude.json")
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
	dir, err := env.claudeSettingsDir()
	if err != nil {
		return claudeSettings{path: "settings.json"}, err
	}
	settings := claudeSettings{path: filepath.Join(dir, "settings.json")}
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

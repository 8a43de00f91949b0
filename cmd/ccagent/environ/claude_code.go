package environ

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ccagent/ccagent/protocol"
)

// What Claude Code itself has and reads: its directory, its sign-in, its settings, its environment.

// ClaudeFolder is the folder of Claude Code's credentials as this environment spells it, "" for the default one: see
// protocol.ClaudeDir.
func (e Vars) ClaudeFolder() (string, error) {
	return protocol.ClaudeDir(func(name string) (string, bool) {
		value := e(name)
		if value != "" {
			return value, true
		}
		_, set := os.LookupEnv(name) // Vars does not tell what is set and empty from what is not set
		return "", set
	})
}

// ClaudeDir is the directory with the credentials that Claude Code itself uses in this environment, spelled as it is there. "" is
// one that can't be told, because HOME says nothing, or because a variable is not one that can be used.
func (e Vars) ClaudeDir() string {
	dir, err := e.ClaudeFolder()
	if home := e("HOME"); err == nil && dir == "" && filepath.IsAbs(home) {
		return filepath.Join(home, ".claude")
	}
	if err != nil {
		return ""
	}
	return dir
}

// ClaudeSettingsDir is the directory with Claude Code's settings, which are in another one than the credentials where
// CLAUDE_SECURESTORAGE_CONFIG_DIR is set.
func (e Vars) ClaudeSettingsDir() (string, error) {
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
	return "", NoHome
}

// ClaudeAccounts is the file in which Claude Code says who is signed in, beside its settings.
func (e Vars) ClaudeAccounts() string {
	if dir := e("CLAUDE_CONFIG_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".claude.json")
	}
	return filepath.Join(e("HOME"), ".claude.json")
}

// ClaudeFile is where Claude Code keeps its sign-in, in its directory.
func ClaudeFile(dir string) string { return filepath.Join(dir, ".credentials.json") }

// ClaudeSettings is what we read of Claude Code's settings.json.
type ClaudeSettings struct {
	Path   string         `json:"-"`
	Helper string         `json:"apiKeyHelper"`
	Env    map[string]any `json:"env"`
}

// ClaudeSettings reads the user's settings of Claude Code. The path is set also with an error.
func (e Vars) ClaudeSettings() (ClaudeSettings, error) {
	dir, err := e.ClaudeSettingsDir()
	if err != nil {
		return ClaudeSettings{Path: "settings.json"}, err
	}
	settings := ClaudeSettings{Path: filepath.Join(dir, "settings.json")}
	f, err := os.OpenFile(settings.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
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

// TokenVariables are the variables that a token is found in, the one that wins first. Between the second and the third
// Claude Code asks its apiKeyHelper.
var TokenVariables = []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"}

// Outranking is a variable in which Claude Code finds a token before what it is told otherwise.
type Outranking struct{ What, Mend string }

// Outranking are the variables, of the environment or of Claude Code's settings, that hold a token which Claude Code takes before
// what its apiKeyHelper prints, or before the sign-in that it has stored. It names them alone.
func (s ClaudeSettings) Outranking(env Vars) []Outranking {
	outranked := "what its apiKeyHelper prints"
	if s.Helper == "" {
		outranked = "its own sign-in"
	}
	var found []Outranking
	for _, name := range TokenVariables {
		if name == "CLAUDE_CODE_OAUTH_TOKEN" && s.Helper != "" { // the helper outranks it
			continue
		}
		if env(name) != "" {
			found = append(found, Outranking{name + " is set here: Claude Code takes it before " + outranked, "unset " + name})
		}
		if value := s.Env[name]; value != nil && value != "" {
			found = append(found, Outranking{
				name + " is set in " + s.Path + ": Claude Code takes it before " + outranked, "take " + name + " out of " + s.Path,
			})
		}
	}
	return found
}

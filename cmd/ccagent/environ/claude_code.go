package environ

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"unicode/utf16"

	"github.com/ccagent/ccagent/protocol"
)

// This file is about what Claude Code reads: its directory, its sign-in, its settings, its environment.

// ClaudeFolder returns the folder of Claude Code's credentials as the environment spells it, or "" for the default folder. See
// protocol.ClaudeDir.
func (e Vars) ClaudeFolder() (string, error) {
	return protocol.ClaudeDir(func(name string) (string, bool) {
		value := e(name)
		if value != "" {
			return value, true
		}
		_, set := os.LookupEnv(name) // Vars returns "" for a variable that is empty and for one that is not set
		return "", set
	})
}

// ClaudeDir returns the directory with the credentials that Claude Code uses in this environment, as the environment spells it.
// It returns "" if the directory is not known, because HOME or another variable is not an absolute path.
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

// ClaudeSettingsDir returns the directory with Claude Code's settings. It differs from that with the credentials if
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

// ClaudeAccounts returns the path of the file in which Claude Code records who is signed in.
func (e Vars) ClaudeAccounts() string {
	if dir := e("CLAUDE_CONFIG_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".claude.json")
	}
	return filepath.Join(e("HOME"), ".claude.json")
}

// ClaudeFile returns the path of Claude Code's sign-in in its directory.
func ClaudeFile(dir string) string { return filepath.Join(dir, ".credentials.json") }

// ClaudeSettings is the part of one file of Claude Code's settings that ccagent reads.
type ClaudeSettings struct {
	Path   string         `json:"-"`
	Theirs bool           `json:"-"` // whoever manages the machine has written it, and not the user
	Helper string         `json:"apiKeyHelper"`
	Env    map[string]any `json:"env"`
}

// plain returns a text without the byte order mark that it may begin with. UTF-16 becomes UTF-8. Claude Code takes both
// (docs/facts.md).
func plain(text []byte) []byte {
	little, ok := bytes.CutPrefix(text, []byte("\xff\xfe"))
	if !ok {
		return bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	units := make([]uint16, len(little)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(little[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

// ClaudeSettings reads the user's settings of Claude Code. The path is set with an error too.
func (e Vars) ClaudeSettings() (ClaudeSettings, error) {
	dir, err := e.ClaudeSettingsDir()
	if err != nil {
		return ClaudeSettings{Path: "settings.json"}, err
	}
	return readClaudeSettings(filepath.Join(dir, "settings.json"))
}

func readClaudeSettings(path string) (ClaudeSettings, error) {
	settings := ClaudeSettings{Path: path}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return settings, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err == nil {
		err = json.Unmarshal(plain(text), &settings)
	}
	return settings, err
}

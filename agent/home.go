package agent

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/ccagent/ccagent/protocol"
)

// checkHome refuses a request that comes from another home than the agent's, because its answer would be the wrong account's. e
// is the profile that it asks for, nil for none in particular. A request that does not say its home is never refused. Nor is
// any request while no configuration has been read: there are no profiles then, and the answer is what is wrong with the file.
func (t *table) checkHome(theirs protocol.Home, e *entry) error {
	ours := t.config.Home
	theirs = theirs.Place()
	if theirs == ours || theirs == (protocol.Home{}) || ours == (protocol.Home{}) {
		return nil
	}
	if path.Clean(theirs.Home) != path.Clean(ours.Home) {
		return differ("HOME", theirs.Home, ours.Home,
			"end that agent (ccagent stop) and ask again, or use one of your own: set CCAGENT_SOCK")
	}
	if err := differ("XDG_CONFIG_HOME", orDefault(theirs.XDGConfigHome, theirs.Home, ".config"),
		orDefault(ours.XDGConfigHome, ours.Home, ".config"),
		"restart the agent in this environment (ccagent stop), or unset XDG_CONFIG_HOME"); err != nil {
		return err
	}
	if e == nil || !e.followsClaudeDir() {
		return nil
	}
	for _, dir := range []string{theirs.ClaudeConfigDir, ours.ClaudeConfigDir} {
		if err := protocol.CheckClaudeDir("CLAUDE_CONFIG_DIR", dir); err != nil {
			return err
		}
	}
	theirDir := orDefault(theirs.ClaudeConfigDir, theirs.Home, ".claude")
	ourDir := orDefault(ours.ClaudeConfigDir, ours.Home, ".claude")
	if runtime.GOOS == "darwin" { // the Keychain has an item for each spelling
		theirDir, ourDir = theirs.ClaudeConfigDir, ours.ClaudeConfigDir
	}
	if theirDir == ourDir || theirDir == t.claudeDir || slices.Contains(e.profile.Load().ClaudeDirs, theirDir) {
		return nil
	}
	// If the directory is another profile's, a request that names none would have got that one: this one is asked for by its name.
	if t.chooser.claude[theirDir] != "" {
		return nil
	}
	return &protocol.Error{
		Code: protocol.CodeConfig,
		Message: fmt.Sprintf("CLAUDE_CONFIG_DIR is %q here, but profile %s is the account in %q, where the agent was started",
			theirDir, e.name(), ourDir),
		Hint: "to use the account that is meant here, give it a profile: " +
			protocol.ShellLine("ccagent", "add", "NAME", "--provider", "claude", "--config-dir", theirDir) +
			"\nto use the other one, unset CLAUDE_CONFIG_DIR, or set it to " + protocol.ShellLine(ourDir) +
			"\nCLAUDE_SECURESTORAGE_CONFIG_DIR counts instead where it is set",
	}
}

// followed returns the home with the links of its Claude Code directory followed. On macOS the spelling counts, so it stays.
func followed(home protocol.Home) protocol.Home {
	if runtime.GOOS != "darwin" && path.IsAbs(home.ClaudeConfigDir) {
		if real, err := filepath.EvalSymlinks(home.ClaudeConfigDir); err == nil {
			home.ClaudeConfigDir = real
		}
	}
	return home
}

// claudeDirOf returns the Claude Code directory of a home with its links followed, "" where it can't be told.
func claudeDirOf(home protocol.Home) string {
	home.ClaudeConfigDir = orDefault(home.ClaudeConfigDir, home.Home, ".claude")
	return followed(home).ClaudeConfigDir
}

// orDefault returns the setting, or its default below the home. A relative path counts as unset, as the XDG specification has it.
func orDefault(value, home, below string) string {
	if !path.IsAbs(value) {
		value = path.Join(home, below)
	}
	return path.Clean(value)
}

func differ(name, theirs, ours, hint string) error {
	if theirs == ours {
		return nil
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("%s is %q here, but the agent was started with %q", name, theirs, ours),
		Hint:    hint,
	}
}

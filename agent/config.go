package agent

import "github.com/ccagent/ccagent/protocol"

// MaxProfiles bounds a configuration.
const MaxProfiles = 1024

// Config is the agent's configuration as config.toml gave it, every default filled in.
type Config struct {
	Default  string // the profile that a request without one means, unless its place chooses another: see Chooser
	Profiles []Profile
	Uses     []Use         // of different folders
	LockOn   []string      // "suspend", "screen": when whoever runs the agent is to lock it
	Home     protocol.Home // the agent's own environment: whose configuration and sign-ins these are
}

// Profile is one profile's part of a [Config].
type Profile struct {
	Name      string
	Provider  string
	Store     string   // as configured: a kind of store, or auto; docs/config.md lists them
	Hosts     []string // where its token may go; none: anywhere
	Username  string   // what goes with the token where a tool wants a user name, one line; "": nothing in particular
	ConfigDir string   // the Claude Code directory if config.toml names one; "": it follows the environment
	// ClaudeDirs are the paths, clean, by which a caller's environment may name ConfigDir, or a directory in which it has a view:
	// as it is written, and with its links followed. If several profiles have that directory, those whose record is not in it have
	// none.
	ClaudeDirs []string
	Identity   string // the key file of store encrypted, where the record may rest there: names the key that CommandUnlock opens
	Shown      bool   // it has views: it is renewed whether or not anybody asks, and keeps an idle agent running
	Settings   []byte // what a worker needs to know, opaque here
}

// The kinds of store that differ for the agent, as settings and workers write them. Package store has the table of all.
const (
	storeAuto       = "auto"
	storeClaudeCode = "claude-code"
	storeEncrypted  = "encrypted"
	storeMemory     = "memory"
)

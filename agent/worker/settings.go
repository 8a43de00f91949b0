package worker

import "time"

// DefaultTTL is how long a command's token lives that comes without an expiry, where the profile does not say.
const DefaultTTL = 5 * time.Minute

// Settings is what a worker needs to know of one profile: its table in config.toml with every default filled in and every
// path resolved. It crosses the agent as JSON, which the agent never reads. It holds no secret.
type Settings struct {
	Name      string `json:"name"`
	Provider  string `json:"provider"`             // claude, static, command
	Store     string `json:"store"`                // auto, claude-code, file, memory
	ConfigDir string `json:"config_dir,omitempty"` // the Claude Code directory, absolute; "" when HOME is unknown
	DataDir   string `json:"data_dir"`             // $XDG_DATA_HOME/ccagent, absolute
	StateDir  string `json:"state_dir"`            // $XDG_STATE_HOME/ccagent, absolute: spill files, the remembered `auto`

	TokenURL  string            `json:"token_url,omitempty"`
	ClientID  string            `json:"client_id,omitempty"`
	Scopes    []string          `json:"scopes,omitempty"`
	UserAgent string            `json:"user_agent,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`

	Command []string      `json:"command,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"`     // of a command's token that comes without an expiry; 0: DefaultTTL
	Timeout time.Duration `json:"timeout,omitempty"` // of one request or one run of the command; 0: 30 s
}

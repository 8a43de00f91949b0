package worker

import (
	"time"

	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/store"
)

// DefaultTTL is how long a command's token lives that comes without an expiry, where the profile does not say.
const DefaultTTL = 5 * time.Minute

// Settings is what a worker needs to know of one profile: its table in config.toml with every default filled in and every
// path resolved. It crosses the agent as JSON, which the agent never reads. It holds no secret.
type Settings struct {
	Name      string        `json:"name"`
	Provider  provider.Kind `json:"provider"`
	Store     store.Kind    `json:"store"`
	ConfigDir string        `json:"config_dir,omitempty"` // the Claude Code directory, absolute, as it was spelled; "" when HOME is unknown
	DataDir   string        `json:"data_dir"`             // $XDG_DATA_HOME/ccagent, absolute
	StateDir  string        `json:"state_dir"`            // $XDG_STATE_HOME/ccagent, absolute: spill files, the remembered `auto`
	// of store encrypted: an age or SSH key file, absolute; "": the one that ccagent made
	Identity string `json:"identity,omitempty"`

	// AccountFile is where Claude Code says who is signed in, absolute, where its settings are in another directory than its
	// credentials; "": in or beside ConfigDir.
	AccountFile string `json:"account_file,omitempty"`

	Views []store.ViewPlace `json:"views,omitempty"` // who else reads the token

	// The provider, where it is claude, oidc or oauth2. An endpoint that is empty is looked up at Issuer.
	Issuer        string `json:"issuer,omitempty"`
	MCPURL        string `json:"mcp_url,omitempty"` // the MCP server that the token is for
	Grant         string `json:"grant,omitempty"`   // authorization_code (""), device_code, client_credentials, jwt-bearer
	AuthorizeURL  string `json:"authorize_url,omitempty"`
	TokenURL      string `json:"token_url,omitempty"`
	DeviceURL     string `json:"device_url,omitempty"`
	RevokeURL     string `json:"revoke_url,omitempty"`
	IntrospectURL string `json:"introspect_url,omitempty"`
	ProfileURL    string `json:"profile_url,omitempty"` // user profile of provider claude, userinfo of OpenID Connect

	// What we are to it. A client secret is no setting: it is kept with the record.
	ClientID string `json:"client_id,omitempty"`
	// none (""), client_secret_basic, client_secret_post, private_key_jwt
	ClientAuth    string   `json:"client_auth,omitempty"`
	ClientKeyFile string   `json:"client_key_file,omitempty"`   // the private key of private_key_jwt, absolute
	Registered    bool     `json:"client_registered,omitempty"` // ccagent has registered the client by itself
	Scopes        []string `json:"scopes,omitempty"`
	Audience      string   `json:"audience,omitempty"`
	Resource      []string `json:"resource,omitempty"` // RFC 8707
	// TokenExchange says whether the provider does token exchange (RFC 8693); nil: as its description says.
	TokenExchange *bool             `json:"token_exchange,omitempty"`
	Params        map[string]string `json:"params,omitempty"` // extra parameters of the first request of a sign-in
	// Extra parameters by the kind of request: see [oauth.Extra].
	AuthorizeParams map[string]string `json:"authorize_params,omitempty"`
	TokenParams     map[string]string `json:"token_params,omitempty"`
	RefreshParams   map[string]string `json:"refresh_params,omitempty"`
	UserAgent       string            `json:"user_agent,omitempty"`
	Headers         map[string]string `json:"headers,omitempty"`

	// The way there. Files are absolute, and in PEM.
	CAFile     string `json:"ca_file,omitempty"`     // authorities that servers are judged by; "": the system's
	ClientCert string `json:"client_cert,omitempty"` // of mutual TLS; "": none
	ClientKey  string `json:"client_key,omitempty"`
	Proxy      string `json:"proxy,omitempty"` // a URL without a user; "": as the environment says

	// Where grant jwt-bearer has its assertion from, each time anew; neither: it is kept with the record.
	AssertionFile    string   `json:"assertion_file,omitempty"` // absolute
	AssertionCommand []string `json:"assertion_command,omitempty"`

	// Of `ccagent login` alone.
	RedirectHost string `json:"redirect_host,omitempty"` // 127.0.0.1 ("") or localhost
	RedirectPort int    `json:"redirect_port,omitempty"` // 0: any that is free
	RedirectPath string `json:"redirect_path,omitempty"` // "": oauth.DefaultRedirectPath
	// a page of the provider's that shows the code for copying; "": the loopback redirect
	PasteURL     string        `json:"paste_url,omitempty"`
	LoginTimeout time.Duration `json:"login_timeout,omitempty"` // 0: 5 min

	Command []string      `json:"command,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"`     // a command's token lives no longer; 0: without an expiry of its own DefaultTTL
	Timeout time.Duration `json:"timeout,omitempty"` // of one request or one run of the command; 0: 30 s
}

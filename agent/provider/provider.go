// Package provider lists the kinds of provider that a profile can name, and what differs between them. Whoever needs to know
// one of these differences asks the table; nobody compares names.
//
// How a provider is spoken to is in package oauth, and what a worker does with it in package worker.
package provider

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Kind is the name of a kind of provider, as config.toml has it.
type Kind string

const (
	Claude  Kind = "claude"  // Claude subscriptions, with the OAuth dialect of that service
	OIDC    Kind = "oidc"    // OpenID Connect: the issuer describes itself
	OAuth2  Kind = "oauth2"  // plain OAuth 2.0
	Static  Kind = "static"  // a key that a person has stored
	Command Kind = "command" // a program that prints a token
)

// Traits are what differs from one kind to another.
type Traits struct {
	Kind Kind
	// SignsIn says that a profile begins with a sign-in at the provider, which is asked from then on: to renew, to revoke, and
	// for who has signed in.
	SignsIn bool
	// Stored says that a profile has a record, which rests in a store. Without one every token is fetched anew.
	Stored bool
	// Renewable says that there is somebody to ask for a new token.
	Renewable bool
	// OwnClient says that whoever configures a profile registers a client of his own, which may have a secret.
	OwnClient bool
	// ClaudeCode says that Claude Code's own file can hold the record, or show its token.
	ClaudeCode bool
	// NeedsIssuer says that the provider's endpoints are looked up at its issuer.
	NeedsIssuer bool
	// Token is what a token is that does not say so itself.
	Token protocol.Kind
	// Keys are the keys of a profile's table in config.toml, beyond those of every profile.
	Keys []string
	// Stores are where the record can rest; the first one is the default.
	Stores []store.Kind
	// Defaults are the settings that a profile has where config.toml does not say otherwise.
	Defaults Defaults

	task   string // what a person does to get a credential, in a word or two
	obtain string // the command for that, with %s where the profile's name belongs
}

// Defaults are what is known of one service. The zero Defaults are those of a kind that stands for many services.
type Defaults struct {
	AuthorizeURL, TokenURL, ProfileURL, PasteURL string

	ClientID     string
	RedirectHost string
	Scopes       []string
	Headers      map[string]string
	// JSON says that requests are sent as JSON, and that the rest of the dialect is Claude's: see docs/facts.md.
	JSON bool
	// Origins are the origins of the token endpoint that are one and the same service, the newest first; nil: only its own is.
	Origins []string
}

var (
	signInKeys = []string{
		"authorize_url", "token_url", "device_url", "revoke_url", "introspect_url", "profile_url", "paste_url",
		"client_id", "scopes", "params", "authorize_params", "token_params", "refresh_params", "user_agent", "headers",
		"redirect_host", "redirect_port", "redirect_path", "login_timeout", "timeout",
		"ca_file", "client_cert", "client_key", "proxy",
	}
	clientKeys = []string{
		"issuer", "grant", "client_auth", "client_key_file", "client_registered", "mcp_url", "audience", "resource",
		"token_exchange", "assertion_file", "assertion_command",
	}
	// privateStores are those that no other program uses.
	privateStores = append([]store.Kind{store.KindAuto}, store.Kinds(store.Traits.Private)...)
)

// table has a row for each kind.
var table = []Traits{
	{
		Kind:    Claude,
		SignsIn: true, Stored: true, Renewable: true, ClaudeCode: true,
		Token:  protocol.KindOAuth,
		Keys:   slices.Concat(signInKeys, []string{"config_dir"}),
		Stores: append([]store.Kind{store.KindAuto}, store.Kinds(nil)...),
		Defaults: Defaults{
			AuthorizeURL: "https://claude.com/cai/oauth/authorize",
			TokenURL:     "https://platform.claude.com/v1/oauth/token",
			ProfileURL:   "https://api.anthropic.com/api/oauth/profile",
			PasteURL:     "https://platform.claude.com/oauth/code/callback",
			ClientID:     "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
			RedirectHost: "localhost",
			Scopes: []string{
				"org:create_api_key", "user:profile", "user:inference", "user:sessions:claude_code", "user:mcp_servers",
				"user:file_upload",
			},
			Headers: map[string]string{"anthropic-beta": "oauth-2025-04-20"},
			JSON:    true,
			Origins: []string{"https://platform.claude.com", "https://console.anthropic.com"},
		},
		task: "sign in", obtain: "ccagent login %s",
	},
	{
		Kind:    OIDC,
		SignsIn: true, Stored: true, Renewable: true, OwnClient: true, NeedsIssuer: true,
		Token:  protocol.KindBearer,
		Keys:   slices.Concat(signInKeys, clientKeys),
		Stores: privateStores,
		task:   "sign in", obtain: "ccagent login %s",
	},
	{
		Kind:    OAuth2,
		SignsIn: true, Stored: true, Renewable: true, OwnClient: true,
		Token:  protocol.KindBearer,
		Keys:   slices.Concat(signInKeys, clientKeys),
		Stores: privateStores,
		task:   "sign in", obtain: "ccagent login %s",
	},
	{
		Kind:   Static,
		Stored: true,
		Token:  protocol.KindAPIKey,
		Stores: privateStores,
		task:   "store its key", obtain: "ccagent add %s --provider static --force",
	},
	{
		Kind:      Command,
		Renewable: true,
		Token:     protocol.KindBearer,
		Keys:      []string{"command", "ttl", "timeout"},
		Stores:    []store.Kind{store.KindAuto},
		task:      "run it", obtain: "ccagent validate -p %s",
	},
}

// All returns the kinds, in the order in which they are listed to a person.
func All() []Kind {
	kinds := make([]Kind, len(table))
	for i, t := range table {
		kinds[i] = t.Kind
	}
	return kinds
}

// Known reports whether there is such a kind.
func (k Kind) Known() bool { return slices.Contains(All(), k) }

// Traits returns the kind's row of the table. That of an unknown kind has no trait at all.
func (k Kind) Traits() Traits {
	for _, t := range table {
		if t.Kind == k {
			return t
		}
	}
	return Traits{Kind: k}
}

// Names lists the kinds for a person: "a, b or c".
func Names() string {
	var names []string
	for _, k := range All() {
		names = append(names, string(k))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// Key reports whether what is stored is a key that a person was given. It is good until somebody withdraws it.
func (t Traits) Key() bool { return t.Stored && !t.SignsIn }

// Obtain returns the command that brings a profile's credential back, "" for an unknown kind.
func (t Traits) Obtain(profile string) string {
	if t.obtain == "" {
		return ""
	}
	return fmt.Sprintf(t.obtain, profile)
}

// Hint tells a person how to get a credential for a profile that has none, "" where nothing has to be done for that.
func (t Traits) Hint(profile string) string {
	if !t.Stored {
		return ""
	}
	return t.task + ": " + strings.TrimSuffix(t.Obtain(profile), " --force") // there is nothing to replace
}

package main

import (
	"cmp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// validateJSON is the output of `ccagent validate --json` (docs/json.md).
type validateJSON struct {
	Profile      string     `json:"profile"`
	State        string     `json:"state"`
	Provider     string     `json:"provider"`
	Kind         string     `json:"kind"`
	Store        string     `json:"store"`
	Location     string     `json:"location"`
	Subscription string     `json:"subscription,omitempty"`
	Scopes       []string   `json:"scopes,omitempty"`
	Expires      *time.Time `json:"expires"`
	LastError    string     `json:"last_error,omitempty"`
	LastHint     string     `json:"last_hint,omitempty"`
}

func validateCommand() *cli.Command {
	return &cli.Command{
		Name:  "validate",
		Usage: "check whether a profile can give a token",
		Description: `Asks for a token, as a tool would, and shows what it belongs to. The exit code is 0 exactly if
cchelper would print a token. 3 means that nothing is stored, and 4 that you must sign in again.
With --online the provider is asked as well: at its introspection endpoint if one is set, else for
the user's profile.

EXAMPLE:
   ccagent validate
   ccagent validate -p work --json
   ccagent validate --online`,
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "online", Usage: "also ask the provider whether the token is good"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			conn, err := connect(c, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			token, err := conn.Token(conn.Ctx, protocol.TokenRequest{Profile: c.String("profile")})
			if err != nil {
				return conn.Explain(c.String("profile"), err)
			}
			terminal.Notice(c.App.ErrWriter, token.Notice)
			if c.Bool("online") {
				if _, err := conn.Identify(conn.Ctx, protocol.IdentifyRequest{Profile: token.Profile, Check: true}); err != nil {
					return conn.Explain(token.Profile, err)
				}
			}
			status, err := conn.Status(conn.Ctx, protocol.StatusRequest{Profile: token.Profile})
			if err != nil {
				return err
			}
			var p protocol.ProfileStatus
			if len(status.Profiles) > 0 {
				p = status.Profiles[0]
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, validateJSON{
					Profile: token.Profile, State: string(p.State), Provider: p.Provider, Kind: string(token.Kind), Store: p.Store,
					Location: p.Location, Subscription: p.Subscription, Scopes: p.Scopes, Expires: jsonTime(token.Expiry),
					LastError: p.LastError, LastHint: p.LastHint,
				})
			}
			t := terminal.Table{
				{"profile", token.Profile},
				{"status", string(p.State)},
				{"expiry", terminal.Expires(time.Now(), token.Expiry)},
				{"provider", p.Provider},
				{"stored in", cmp.Or(p.Location, p.Store)},
				{"subscription", p.Subscription},
				{"scopes", strings.Join(p.Scopes, " ")},
			}
			if p.LastError != "" {
				t = append(t, []string{"last error", p.LastError})
			}
			for hint := range strings.Lines(p.LastHint) {
				t = append(t, []string{"hint", strings.TrimSpace(hint)})
			}
			return t.WritePairs(c.App.Writer)
		},
	}
}

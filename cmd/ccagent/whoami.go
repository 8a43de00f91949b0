package main

import (
	"cmp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// whoamiJSON is the output of `ccagent whoami --json` (docs/json.md).
type whoamiJSON struct {
	Profile        string     `json:"profile"`
	Account        string     `json:"account"`
	Email          string     `json:"email"`
	Name           string     `json:"name"`
	Organization   string     `json:"organization"`
	OrganizationID string     `json:"organization_id"`
	Subscription   string     `json:"subscription"`
	Scopes         []string   `json:"scopes"`
	Fetched        *time.Time `json:"fetched"`
}

func whoamiCommand() *cli.Command {
	return &cli.Command{
		Name:      "whoami",
		Usage:     "show who is signed in",
		ArgsUsage: "[PROFILE]",
		Description: `Shows the account, organization, subscription and scopes, as the provider gave them when it was last
asked. With --refresh the provider is asked again. If it can't be reached then, only this command
fails.

EXAMPLE:
   ccagent whoami
   ccagent whoami gateway --refresh --json`,
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "refresh", Usage: "ask the provider again"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			profile := cmp.Or(c.Args().First(), c.String("profile"))
			if err := atMost(c, 1); err != nil {
				return err
			}
			if profile != "" {
				if err := protocol.CheckProfile(profile); err != nil {
					return err
				}
			}
			conn, err := connect(c, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			id, err := conn.Identify(conn.Ctx, protocol.IdentifyRequest{Profile: profile, Refresh: c.Bool("refresh")})
			if err != nil {
				return conn.Explain(profile, err)
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, whoamiJSON{
					Profile: id.Profile, Account: id.Account, Email: id.Email, Name: id.Name, Organization: id.Organization,
					OrganizationID: id.OrganizationID, Subscription: id.Subscription, Scopes: append([]string{}, id.Scopes...),
					Fetched: jsonTime(id.Fetched),
				})
			}
			asked := "never"
			if !id.Fetched.IsZero() {
				asked = terminal.LocalTime(id.Fetched)
			}
			rows := terminal.Table{
				{"profile", id.Profile},
				{"account", cmp.Or(strings.TrimSpace(id.Name+" "+bracketed(id.Email)), id.Account)},
				{"organization", cmp.Or(id.Organization, id.OrganizationID)},
				{"subscription", id.Subscription},
				{"scopes", strings.Join(id.Scopes, " ")},
				{"asked", asked},
			}
			return rows.WritePairs(c.App.Writer)
		},
	}
}

func bracketed(email string) string {
	if email == "" {
		return ""
	}
	return "<" + email + ">"
}

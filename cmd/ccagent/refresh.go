package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// refreshJSON is the output of `ccagent refresh --json` (docs/json.md).
type refreshJSON struct {
	Profile string     `json:"profile"`
	Kind    string     `json:"kind"`
	Expires *time.Time `json:"expires"`
}

func refreshCommand() *cli.Command {
	return &cli.Command{
		Name:  "refresh",
		Usage: "renew a token now",
		Description: `Renews the token whatever the one in hand, for example when a provider refuses it before its time. Several at
once are one renewal. A failure is an error even while the old token lives; a static key can't be renewed.

EXAMPLE:
   ccagent refresh
   ccagent refresh -p work --json`,
		Flags: []cli.Flag{profileFlag(), jsonFlag(), timeoutFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			token, err := askToken(c, protocol.TokenRequest{Force: true})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, refreshJSON{token.Profile, string(token.Kind), jsonTime(token.Expiry)})
			}
			_, err = fmt.Fprintf(c.App.Writer, "%s: renewed, %s\n", token.Profile, terminal.Expires(time.Now(), token.Expiry))
			return err
		},
	}
}

package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// tokenJSON is the output of `ccagent token --json` (docs/json.md). It is the only such document with a token in it.
type tokenJSON struct {
	Profile string     `json:"profile"`
	Token   string     `json:"token"`
	Kind    string     `json:"kind"`
	Expires *time.Time `json:"expires"`
}

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "print a live token",
		Description: `Prints the token and a newline, as cchelper does. Tools should run cchelper, because it is faster.

EXAMPLE:
   ccagent token -p work
   ccagent token --min-ttl 30m
   ccagent token -p cluster --id-token
   curl -H "Authorization: Bearer $(ccagent token)" https://api.example.com/`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.DurationFlag{
				Name:        "min-ttl",
				EnvVars:     []string{"CCAGENT_MIN_TTL"},
				DefaultText: "how long before the expiry the agent renews",
				Usage:       "the token must live at least for `DURATION`; you can ask for up to half of its lifetime",
			},
			&cli.BoolFlag{Name: "id-token", Usage: "print the ID token of the sign-in (OpenID Connect), not its access token"},
			jsonFlag(), timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Duration("min-ttl") < 0 {
				return usagef(c, "--min-ttl must not be negative")
			}
			token, err := askToken(c, protocol.TokenRequest{
				MinTTL: c.Duration("min-ttl"), Derived: protocol.Derived{IDToken: c.Bool("id-token")},
			})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, tokenJSON{token.Profile, token.Value.Reveal(), string(token.Kind), jsonTime(token.Expiry)})
			}
			if err := token.CheckBearer(); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, token.Value.Reveal())
			return err
		},
	}
}

// askToken asks the agent for a token of the --profile, and prints the notice that comes with it.
func askToken(c *cli.Context, req protocol.TokenRequest) (protocol.Token, error) {
	conn, err := connect(c, true)
	if err != nil {
		return protocol.Token{}, err
	}
	defer conn.Close()
	req.Profile = c.String("profile")
	token, err := conn.Token(conn.Ctx, req)
	if err == nil {
		terminal.Notice(c.App.ErrWriter, token.Notice)
	}
	return token, protocol.Late(conn.Ctx, conn.Client, req.Profile, err)
}

// jsonTime returns a time as JSON shows it: in UTC, and null for none.
func jsonTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

package main

import (
	"fmt"
	"strings"
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
   ccagent token -p work --scope jobs:read --audience jobs
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
			&cli.StringSliceFlag{Name: "scope", Usage: "a token for this `SCOPE`, and no others (may be repeated)"},
			&cli.StringFlag{Name: "audience", Usage: "a token for this `AUDIENCE`, by token exchange (RFC 8693)"},
			&cli.StringSliceFlag{Name: "resource", Usage: "a token for the service at this `URI` (RFC 8707; may be repeated)"},
			jsonFlag(), timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Duration("min-ttl") < 0 {
				return usagef(c, "--min-ttl must not be negative")
			}
			derived, err := derivedFrom(c)
			if err != nil {
				return err
			}
			token, err := askToken(c, protocol.TokenRequest{MinTTL: c.Duration("min-ttl"), Derived: derived})
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

// derivedFrom is the token that --id-token, --scope, --audience and --resource ask for.
func derivedFrom(c *cli.Context) (protocol.Derived, error) {
	scope, resource := strings.Join(c.StringSlice("scope"), " "), strings.Join(c.StringSlice("resource"), " ")
	for name, value := range map[string]string{"scope": scope, "audience": c.String("audience"), "resource": resource} {
		if c.IsSet(name) && strings.TrimSpace(value) == "" { // to leave it out would give another token
			return protocol.Derived{}, usagef(c, "--%s is empty", name)
		}
	}
	derived, err := protocol.Derived{
		IDToken: c.Bool("id-token"), Scope: scope, Audience: c.String("audience"), Resource: resource,
	}.Normal()
	if err != nil {
		return derived, usagef(c, "%v", err)
	}
	return derived, nil
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
	return token, conn.Explain(req.Profile, err)
}

// jsonTime returns a time as JSON shows it: in UTC, and null for none.
func jsonTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

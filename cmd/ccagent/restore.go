package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "bring back an earlier sign-in",
		ArgsUsage: "[ID]",
		Description: `ccagent keeps the newest record of each of a profile's last three sign-ins. Without ID this command
lists them. With ID that sign-in is used again, and the one that was used until now is kept. A
sign-in whose refresh token is known to be used up can't be brought back.

With --views the profile's views are written anew, over what another program has made of them.

EXAMPLE:
   ccagent restore -p work
   ccagent restore 0a1b2c3d -p work`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.BoolFlag{Name: "views", Usage: "write the profile's views anew"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := atMost(c, 1); err != nil {
				return err
			}
			conn, err := connect(c, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			if c.Bool("views") {
				if c.Args().Present() {
					return usagef(c, "--views can't be used with an ID")
				}
				reply, err := conn.Keep(conn.Ctx, protocol.KeepRequest{Action: protocol.KeepShow, Profile: c.String("profile")})
				if err == nil {
					_, err = fmt.Fprintf(c.App.Writer, "written: %s\n", terminal.Sanitize(reply.Notice))
				}
				return err
			}
			if id := c.Args().First(); id != "" {
				reply, err := conn.Keep(conn.Ctx,
					protocol.KeepRequest{Action: protocol.KeepRestore, Profile: c.String("profile"), SignIn: id})
				if err != nil {
					return err
				}
				terminal.Notice(c.App.ErrWriter, reply.Notice)
				_, err = fmt.Fprintf(c.App.Writer, "sign-in %s is used now; it is in %s\n", terminal.Sanitize(id),
					terminal.Sanitize(reply.Location))
				return err
			}
			reply, err := conn.Keep(conn.Ctx, protocol.KeepRequest{Action: protocol.KeepHistory, Profile: c.String("profile")})
			if err != nil {
				return err
			}
			if len(reply.Past) == 0 {
				terminal.Notice(c.App.ErrWriter, "there are no earlier sign-ins")
				return nil
			}
			t := terminal.Table{{"ID", "SAVED", "ACCOUNT", "TOKEN", ""}}
			for _, p := range reply.Past {
				t = append(t, []string{p.ID, terminal.LocalTime(p.Saved), terminal.Dash(p.Account), terminal.Expires(time.Now(), p.Expiry),
					judged(p)})
			}
			return t.Write(c.App.Writer, 0)
		},
	}
}

// judged says what can be done with an earlier sign-in.
func judged(p protocol.PastSignIn) string {
	switch {
	case p.Current:
		return "in force"
	case p.Problem != "":
		return terminal.Sanitize(p.Problem)
	case !p.Renewable:
		return "until it expires"
	}
	return "can be brought back"
}

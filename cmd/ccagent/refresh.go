package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// refreshJSON is the output of `ccagent refresh --json` (docs/json.md).
type refreshJSON struct {
	Profile     string     `json:"profile"`
	Kind        string     `json:"kind"`
	Expires     *time.Time `json:"expires"`
	LastRenewal *time.Time `json:"last_renewal"`
}

func refreshCommand() *cli.Command {
	return &cli.Command{
		Name:  "refresh",
		Usage: "renew a token now",
		Description: `Renews the token even if it has not expired, for example because a provider refuses it. Requests
that come at the same time share one renewal. If the last renewal was two seconds ago or less, there
is no second one: you get its token, and are told when it was renewed. If the renewal fails, that is
an error, even while the old token is still good. A static key can't be renewed.

EXAMPLE:
   ccagent refresh
   ccagent refresh -p work --json`,
		Flags:  []cli.Flag{profileFlag(), jsonFlag(), timeoutFlag()},
		Action: refresh,
	}
}

func refresh(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Only the status says whether it was this request that renewed the token. An agent that gives no status has its reason to
	// refuse a renewal too, and says that better.
	before, statusErr := statusOf(conn, c.String("profile"))
	token, err := conn.Token(conn.Ctx, protocol.TokenRequest{Profile: c.String("profile"), Force: true})
	if err != nil {
		return conn.Explain(c.String("profile"), err)
	}
	terminal.Notice(c.App.ErrWriter, token.Notice)
	after, err := statusOf(conn, token.Profile)
	if err = cmp.Or(statusErr, err); err != nil {
		return err
	}
	now, last := time.Now(), after.LastRenewal
	var done string
	switch {
	case !last.Equal(before.LastRenewal):
		done = "renewed,"
	case !last.IsZero() && before.HasToken && before.Expiry.Equal(token.Expiry):
		done = "not renewed again, because it was renewed " + terminal.Span(max(now.Sub(last), time.Second)) + " ago;"
	default:
		last, done = time.Time{}, "not renewed, because another program has stored a new token meanwhile;"
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, refreshJSON{token.Profile, string(token.Kind), jsonTime(token.Expiry), jsonTime(last)})
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %s %s\n", token.Profile, done, terminal.Expires(now, token.Expiry))
	return err
}

// statusOf asks for the status of one profile. An empty name means the profile that is used here.
func statusOf(conn *dial.Conn, profile string) (protocol.ProfileStatus, error) {
	status, err := protocol.StatusAll(conn.Ctx, conn, protocol.StatusRequest{Profile: profile})
	for _, p := range status.Profiles {
		if profile != "" || strings.EqualFold(p.Name, status.Agent.Here) {
			return p, nil
		}
	}
	return protocol.ProfileStatus{}, err
}

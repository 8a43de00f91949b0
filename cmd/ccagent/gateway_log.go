package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// showRequests shows what gateways have written down.
func showRequests(c *cli.Context) error {
	if err := atMost(c, 1); err != nil {
		return err
	}
	folder, err := getenv.GatewayRecords()
	if err != nil {
		return err
	}
	session, found := c.String("session"), false
	each := func(e audit.Entry) error {
		found = true
		if c.Bool("json") {
			return json.NewEncoder(c.App.Writer).Encode(e)
		}
		_, err := io.WriteString(c.App.Writer, requestLine(e))
		return err
	}
	if c.Bool("follow") {
		return errors.Join(audit.Follow(c.Context, folder, session, each), c.Context.Err())
	}
	if err := audit.Read(folder, session, each); err != nil || found || session == "" {
		return err
	}
	return &protocol.Error{Code: protocol.CodeNotFound, Message: fmt.Sprintf("nothing is written down of a session %q", session),
		Hint: "see all with: ccagent gateway log"}
}

// requestLine shows an entry in a line.
func requestLine(e audit.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  ", e.Time.Local().Format(time.DateTime), e.Session)
	if e.Began != nil {
		fmt.Fprintf(&b, "began: %s", began(*e.Began))
		return terminal.Sanitize(b.String()) + "\n"
	}
	fmt.Fprintf(&b, "%s %s%s  %d  %s sent, %s received, %.0f ms", e.Method, e.Host, e.Path, e.Status, size(e.Sent), size(e.Got),
		e.Took)
	for _, remark := range []struct {
		holds bool
		text  string
	}{
		{e.Route != "", "route " + e.Route + " of profile " + e.Profile},
		{e.PID != 0, fmt.Sprintf("from %s (%d)", e.Program, e.PID)},
		{e.Renewed, "the token was renewed"},
		{e.Foreign, "with a credential of the tool's own"},
		{e.Refused != "", "refused: " + e.Refused},
		{e.Lost > 0, fmt.Sprintf("%d requests before it could not be written down", e.Lost)},
	} {
		if remark.holds {
			b.WriteString("; " + remark.text)
		}
	}
	return terminal.Sanitize(b.String()) + "\n"
}

// began says what a session is.
func began(b audit.Began) string {
	who := fmt.Sprintf("process %d", b.PID)
	if b.Program != "" {
		who = fmt.Sprintf("%s, process %d", b.Program, b.Tool)
	}
	return fmt.Sprintf("%s, routes %s, at %s", who, strings.Join(b.Routes, " "), b.Listen)
}

// size shows a number of bytes.
func size(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

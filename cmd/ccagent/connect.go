package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

// defaultWait is how long a command waits for its answer, as cchelper does.
const defaultWait = 90 * time.Second

func profileFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "profile", Aliases: []string{"p"}, EnvVars: []string{"CCAGENT_PROFILE"},
		Usage: "the `PROFILE` that is meant (default: default_profile of config.toml)",
	}
}

func timeoutFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "timeout", EnvVars: []string{"CCAGENT_TIMEOUT"}, Value: defaultWait,
		Usage: "wait for the answer at most `DURATION`",
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON (ccagent help json)"}
}

// given is the value of a flag, nil where it is not set: what config.toml is then not told.
func given(c *cli.Context, flag string) *string {
	if !c.IsSet(flag) {
		return nil
	}
	value := c.String(flag)
	return &value
}

// connection is a command's way to the agent, for as long as its --timeout allows.
type connection struct {
	*protocol.Client
	ctx   context.Context
	close func()
}

// answerTime is how long an agent may take to say that it is there: it does so from memory, also while it waits for a renewal.
const answerTime = 5 * time.Second

// connect makes the connection. With start an agent is started when none answers.
func connect(c *cli.Context, start bool) (*connection, error) {
	wait := c.Duration("timeout")
	if wait <= 0 {
		return nil, usagef(c, "--timeout must be more than 0")
	}
	if profile := c.String("profile"); profile != "" {
		if err := protocol.CheckProfile(profile); err != nil {
			return nil, err
		}
	}
	client, err := protocol.ClientFromEnv(start)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, wait)
	return &connection{client, ctx, func() { cancel(); client.Close() }}, nil
}

// connectAwake is connect for what the agent does by itself: one that is there and says nothing is an error long before the time
// is over. Who asks for what a renewal brings waits, as one waits for an agent that its service manager has started and that
// itself waits for the one before it to end.
func connectAwake(c *cli.Context, start bool) (*connection, error) {
	conn, err := connect(c, start)
	if err != nil {
		return nil, err
	}
	if err := awake(conn.ctx, conn.Client); err != nil {
		conn.close()
		return nil, err
	}
	return conn, nil
}

// awake fails if an agent is there and does not answer. All else is for the request itself to find, and none is started.
func awake(parent context.Context, client *protocol.Client) error {
	ctx, cancel := context.WithTimeout(parent, answerTime)
	defer cancel()
	launch := client.Launch
	client.Launch = nil
	defer func() { client.Launch = launch }()
	_, err := client.Status(ctx, protocol.StatusRequest{Profile: config.BuiltIn})
	if errors.Is(err, protocol.ErrUnavailable) && ctx.Err() != nil && parent.Err() == nil {
		return silent()
	}
	return nil
}

// silent says of the agent that it is there and does not answer.
func silent() error {
	path, _, err := protocol.SocketPath()
	if err != nil {
		return err
	}
	pid := socket.Holder(path)
	if pid == 0 {
		return &protocol.Error{
			Code:    protocol.CodeUnavailable,
			Message: "something listens at " + terminal.Sanitize(path) + " and does not answer",
			Hint: "if the socket is forwarded or shared, see ccagent status where its agent is\nif systemd made it: systemctl --user " +
				"status ccagent.service",
		}
	}
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: fmt.Sprintf("agent %d at %s does not answer", pid, terminal.Sanitize(path)),
		Hint: fmt.Sprintf(
			"end it with: %s\nif it stays for more than a minute: kill -9 %d, which loses what it has not saved",
			endSilent(pid),
			pid,
		),
	}
}

// endSilent is the command that ends an agent that does not answer, also one that was stopped.
func endSilent(pid int) string { return fmt.Sprintf("kill %[1]d; kill -CONT %[1]d", pid) }

// configDeed is an edit of config.toml.
func configDeed(conn *connection, edit *config.Edit, mend string) undo.Step {
	return undo.Step{
		Back: func(ctx context.Context) error {
			if err := edit.Undo(ctx); err != nil {
				return err
			}
			reload(&connection{Client: conn.Client, ctx: ctx}) // if this fails, the agent looks at the file by itself
			return nil
		},
		Left: edit.Path + " still holds the edit", Mend: mend,
	}
}

// reload tells a running agent to read config.toml again; without one there is nobody to tell.
func reload(conn *connection) error {
	_, err := conn.Control(conn.ctx, protocol.ControlRequest{Command: protocol.CommandReload})
	if errors.Is(err, protocol.ErrNoAgent) {
		return nil
	}
	return err
}

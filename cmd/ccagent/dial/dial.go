// Package dial is a command's way to the agent: it connects, starts an agent where none answers, tells it that config.toml has
// changed, and ends it.
package dial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

// Conn is a command's way to the agent, for as long as its --timeout allows.
type Conn struct {
	*protocol.Client
	Ctx    context.Context // how long it may be used for one command
	cancel context.CancelFunc
}

// Open makes a connection that is good for that long, or until ctx ends. With start an agent is started when none answers.
func Open(ctx context.Context, wait time.Duration, start bool) (*Conn, error) {
	client, err := protocol.ClientFromEnv(start)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	return &Conn{client, ctx, cancel}, nil
}

// OpenAwake is open for what the agent does by itself: one that is there and says nothing is an error long before the time is
// over. Who asks for what a renewal brings waits, as one waits for an agent that its service manager has started and that itself
// waits for the one before it to end.
func OpenAwake(ctx context.Context, wait time.Duration, start bool) (*Conn, error) {
	conn, err := Open(ctx, wait, start)
	if err != nil {
		return nil, err
	}
	if err := Awake(conn.Ctx, conn.Client); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Over is a connection by a client that is open already. It need not be closed.
func Over(ctx context.Context, client *protocol.Client) *Conn {
	return &Conn{client, ctx, func() {}}
}

// Close ends the connection, and what is under way on it.
func (conn *Conn) Close() {
	conn.cancel()
	conn.Client.Close()
}

// AnswerTime is how long an agent may take to say that it is there: it does so from memory, also while it waits for a renewal.
const AnswerTime = 5 * time.Second

// Awake fails if an agent is there and does not answer. All else is for the request itself to find, and none is started.
func Awake(parent context.Context, client *protocol.Client) error {
	ctx, cancel := context.WithTimeout(parent, AnswerTime)
	defer cancel()
	launch := client.Launch
	client.Launch = nil
	defer func() { client.Launch = launch }()
	_, err := client.Status(ctx, protocol.StatusRequest{Profile: config.BuiltIn})
	if errors.Is(err, protocol.ErrUnavailable) && ctx.Err() != nil && parent.Err() == nil {
		return Silent()
	}
	return nil
}

// Start asks the agent something cheap, so that one is started if none answers.
func Start(ctx context.Context, agent protocol.Agent) error {
	_, err := agent.Status(ctx, protocol.StatusRequest{Profile: config.BuiltIn})
	if errors.Is(err, protocol.ErrNotFound) {
		return nil // it lives, and has no profile of that name
	}
	return err
}

// Silent says of the agent that it is there and does not answer.
func Silent() error {
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
			EndSilent(pid),
			pid,
		),
	}
}

// EndSilent is the command that ends an agent that does not answer, also one that was stopped.
func EndSilent(pid int) string { return fmt.Sprintf("kill %[1]d; kill -CONT %[1]d", pid) }

// EditStep is the step of an edit of config.toml that was made. Where it can't be taken back, mend is the command that does it.
func (conn *Conn) EditStep(edit *config.Edit, mend string) undo.Step {
	return undo.Step{
		Back: func(ctx context.Context) error {
			if err := edit.Undo(ctx); err != nil {
				return err
			}
			Over(ctx, conn.Client).Reload() // if this fails, the agent looks at the file by itself
			return nil
		},
		Left: edit.Path + " still holds the edit", Mend: mend,
	}
}

// Reload tells a running agent to read config.toml again; without one there is nobody to tell.
func (conn *Conn) Reload() error {
	_, err := conn.Control(conn.Ctx, protocol.ControlRequest{Command: protocol.CommandReload})
	if errors.Is(err, protocol.ErrNoAgent) {
		return nil
	}
	return err
}

// Stop ends the agent if there is one, and returns once it does not answer any more. Without force, one that holds what no store
// has refuses (ErrStorage).
func (conn *Conn) Stop(force bool) error {
	conn.Home = protocol.Home{} // an agent of the wrong home is one to be stopped: it must not refuse that
	before, err := conn.Status(conn.Ctx, protocol.StatusRequest{})
	if err == nil {
		_, err = conn.Control(conn.Ctx, protocol.ControlRequest{Command: protocol.CommandStop, Force: force})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for err == nil {
		var now protocol.Status
		now, err = conn.Status(conn.Ctx, protocol.StatusRequest{})
		if err == nil && now.Agent.PID != before.Agent.PID {
			return nil // somebody has started the next one
		}
		select {
		case <-tick.C:
		case <-conn.Ctx.Done():
			return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the agent is still finishing what is under way",
				Hint: "it ends by itself then; ccagent status says what is under way, and --timeout waits longer"}
		}
	}
	if errors.Is(err, protocol.ErrNoAgent) {
		return nil
	}
	return err
}

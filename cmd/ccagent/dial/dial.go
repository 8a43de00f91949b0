// Package dial connects a command to the agent. It starts an agent if none answers, tells a running one that config.toml has
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

// Conn is a command's connection to the agent. It lasts as long as --timeout allows.
type Conn struct {
	*protocol.Client
	Ctx    context.Context // ends when the time for the command is over
	cancel context.CancelFunc
}

// Open makes a connection that can be used until the time wait is over, or ctx ends. With start, an agent is started if none
// answers.
func Open(ctx context.Context, wait time.Duration, start bool) (*Conn, error) {
	client, err := protocol.ClientFromEnv(start)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	return &Conn{client, ctx, cancel}, nil
}

// OpenAwake is Open for a request that the agent answers by itself, without a provider. If an agent is there and does not answer,
// it returns an error soon, long before wait is over. A request that needs a renewal uses Open. It has to wait, also for an agent
// that a service manager has just started and that waits for the agent before it to end.
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

// Over returns a Conn for a client that is connected already. It need not be closed.
func Over(ctx context.Context, client *protocol.Client) *Conn {
	return &Conn{client, ctx, func() {}}
}

// Explain adds to the error of a request for the profile's token what the agent says of it: see [protocol.Late] and
// [protocol.Elsewhere]. nil stays nil.
func (conn *Conn) Explain(profile string, err error) error {
	if err == nil {
		return nil
	}
	return conn.elsewhere(conn.Ctx, protocol.Late(conn.Ctx, conn.Client, profile, err))
}

// Put is [protocol.Client.Put], and explains an error as [protocol.Elsewhere] does.
func (conn *Conn) Put(ctx context.Context, req protocol.PutRequest) (protocol.PutReply, error) {
	reply, err := conn.Client.Put(ctx, req)
	return reply, conn.elsewhere(ctx, err)
}

// Keep is [protocol.Client.Keep], and explains an error as [protocol.Elsewhere] does.
func (conn *Conn) Keep(ctx context.Context, req protocol.KeepRequest) (protocol.KeepReply, error) {
	reply, err := conn.Client.Keep(ctx, req)
	return reply, conn.elsewhere(ctx, err)
}

// Control is [protocol.Client.Control], and explains an error about a profile's record as [protocol.Elsewhere] does.
func (conn *Conn) Control(ctx context.Context, req protocol.ControlRequest) (protocol.ControlReply, error) {
	reply, err := conn.Client.Control(ctx, req)
	if req.Profile != "" {
		err = conn.elsewhere(ctx, err)
	}
	return reply, err
}

func (conn *Conn) elsewhere(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return protocol.Elsewhere(ctx, conn.Client, err)
}

// Close ends the connection, and a request that is under way on it.
func (conn *Conn) Close() {
	conn.cancel()
	conn.Client.Close()
}

// AnswerTime is how long an agent may take to answer Awake. It answers from memory, even while it waits for a renewal.
const AnswerTime = 5 * time.Second

// Awake returns an error if an agent is there and does not answer. It reports nothing else, because the request itself will, and
// starts no agent.
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

// Start sends the agent a small request, so that one is started if none answers.
func Start(ctx context.Context, agent protocol.Agent) error {
	_, err := agent.Status(ctx, protocol.StatusRequest{Profile: config.BuiltIn})
	if errors.Is(err, protocol.ErrNotFound) {
		return nil // it answers, and has no profile of that name
	}
	return err
}

// Silent returns the error for an agent that is there and does not answer.
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
		Hint: fmt.Sprintf("end it with: %s\nif it is still there after a minute: kill -9 %d, which loses what it has not saved",
			EndSilent(pid), pid),
	}
}

// EndSilent returns the shell command that ends an agent that does not answer, even one that a signal has stopped.
func EndSilent(pid int) string { return fmt.Sprintf("kill %[1]d; kill -CONT %[1]d", pid) }

// Edited adds an edit of config.toml to the steps that are done, unless it has changed nothing. mend is the command to run if it
// can't be taken back.
func (conn *Conn) Edited(done *undo.Steps, edit *config.Edit, mend string) {
	if !edit.Changes() {
		return
	}
	done.Did(undo.Step{
		Back: func(ctx context.Context) error {
			if err := edit.Undo(ctx); err != nil {
				return err
			}
			Over(ctx, conn.Client).Reload() // if it fails, the agent notices the change by itself
			return nil
		},
		Left: edit.Path + " still holds the edit", Mend: mend,
	})
}

// Reload tells a running agent to read config.toml again. If none runs, it does nothing.
func (conn *Conn) Reload() error {
	_, err := conn.Control(conn.Ctx, protocol.ControlRequest{Command: protocol.CommandReload})
	if errors.Is(err, protocol.ErrNoAgent) {
		return nil
	}
	return err
}

// Stop ends the agent, if one runs, and returns when it does not answer any more. Without force, an agent that has a record which
// is not saved refuses (ErrStorage).
func (conn *Conn) Stop(force bool) error {
	conn.Home = protocol.Home{} // an agent with another home must not refuse to be stopped
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
				Hint: "it ends by itself after that; ccagent status shows what is under way, and with --timeout you can wait longer"}
		}
	}
	switch {
	case !errors.Is(err, protocol.ErrNoAgent):
		return err
	case before.Agent.PID == 0: // nothing answered from the start
		return noPlace()
	}
	return nil
}

// noPlace is the error that the folder of the default socket is not there, nil if it is. Without the folder an agent may well
// run, and is not found from here.
func noPlace() error {
	path, _, err := protocol.SocketPath()
	if err != nil {
		return err
	}
	return protocol.CheckRoom(protocol.SocketDir(path))
}

package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// Control implements [protocol.Agent].
func (a *Agent) Control(ctx context.Context, req protocol.ControlRequest) (protocol.ControlReply, error) {
	a.noteActivity()
	switch req.Command {
	case protocol.CommandLock, protocol.CommandUnlock, protocol.CommandReload: // a locked agent takes these as well
		return a.controlAgent(ctx, req)
	}
	force := req.Command == protocol.CommandStop && req.Force
	if err := a.lockedError(); err != nil && !force {
		return protocol.ControlReply{}, err
	}
	switch req.Command {
	case protocol.CommandStop:
		return protocol.ControlReply{}, a.stopOnRequest(req.Force)
	case protocol.CommandRemove:
		return a.endSignIn(ctx, req, job.Job{Op: job.Delete})
	case protocol.CommandLogout:
		return a.endSignIn(ctx, req, job.Job{Op: job.Logout, KeepRemote: req.KeepRemote})
	}
	return protocol.ControlReply{}, outdated("command", uint32(req.Command))
}

// controlAgent carries out a command that concerns the whole agent.
func (a *Agent) controlAgent(ctx context.Context, req protocol.ControlRequest) (reply protocol.ControlReply, err error) {
	if err := a.table.Load().checkHome(req.Home, nil); err != nil {
		return reply, err
	}
	switch req.Command {
	case protocol.CommandLock:
		reply.Notice, err = a.lock(req.NewPassphrase)
	case protocol.CommandUnlock:
		a.reloadIfChanged()
		reply.Notice, err = a.unlock(ctx, req)
	case protocol.CommandReload:
		err = a.reload()
		a.hideViews((*entry).toHide)
	}
	return reply, err
}

// stopOnRequest stops the agent. Without force it does not while memory has records that no store has.
func (a *Agent) stopOnRequest(force bool) error {
	var names []string
	for _, e := range a.table.Load().byName {
		if e.aloneHasRecord() {
			names = append(names, e.name())
		}
	}
	if names != nil && !force {
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the agent alone holds the record of " + strings.Join(names, ", "),
			Hint:    "stop it nevertheless with: ccagent stop --force",
		}
	}
	a.log.Info("stopping on request")
	a.Stop()
	return nil
}

// endSignIn runs a job that ends with nothing stored.
func (a *Agent) endSignIn(ctx context.Context, req protocol.ControlRequest, j job.Job) (protocol.ControlReply, error) {
	e, err := a.entry(req.Profile, req.Home)
	if err != nil {
		return protocol.ControlReply{}, err
	}
	r, err := e.exclusive(ctx, j)
	return protocol.ControlReply{Notice: r.Notice}, err
}

// outdated is the error of a request for something that this agent does not know.
func outdated(what string, number uint32) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("unknown %s %d", what, number),
		Hint: "the agent is older than the program that asks: restart it with: ccagent stop"}
}

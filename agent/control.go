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
	var reply protocol.ControlReply
	switch req.Command {
	case protocol.CommandReload, protocol.CommandLock, protocol.CommandUnlock:
	default:
		if err := a.lockedError(); err != nil && !(req.Command == protocol.CommandStop && req.Force) {
			return reply, err
		}
	}
	switch req.Command {
	case protocol.CommandLock:
		if err := a.table.Load().checkHome(req.Home, nil); err != nil {
			return reply, err
		}
		notice, err := a.lock(req.NewPassphrase)
		return protocol.ControlReply{Notice: notice}, err
	case protocol.CommandUnlock:
		if err := a.table.Load().checkHome(req.Home, nil); err != nil {
			return reply, err
		}
		a.reloadIfChanged()
		notice, err := a.unlock(ctx, req)
		return protocol.ControlReply{Notice: notice}, err
	case protocol.CommandReload:
		if err := a.table.Load().checkHome(req.Home, nil); err != nil {
			return reply, err
		}
		return reply, a.reload()
	case protocol.CommandStop:
		var names []string
		for _, e := range a.table.Load().byName {
			if e.aloneHasRecord() {
				names = append(names, e.name())
			}
		}
		if names != nil && !req.Force {
			return reply, &protocol.Error{
				Code:    protocol.CodeStorage,
				Message: "the agent alone holds the record of " + strings.Join(names, ", "),
				Hint:    "stop it nevertheless with: ccagent stop --force",
			}
		}
		a.log.Info("stopping on request")
		a.Stop()
		return reply, nil
	case protocol.CommandRemove, protocol.CommandLogout:
		e, err := a.entry(req.Profile, req.Home)
		if err != nil {
			return reply, err
		}
		j := job.Job{Op: job.Delete}
		if req.Command == protocol.CommandLogout {
			j = job.Job{Op: job.Logout, KeepRemote: req.KeepRemote}
		}
		r, err := e.exclusive(ctx, j)
		reply.Notice = r.Notice
		return reply, err
	}
	return reply, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("unknown command %d", req.Command),
		Hint: "the agent is older than the program that asks: restart it with: ccagent stop"}
}

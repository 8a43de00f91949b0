package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

var _ protocol.Keeper = (*Agent)(nil)

// Keep implements [protocol.Keeper].
func (a *Agent) Keep(ctx context.Context, req protocol.KeepRequest) (protocol.KeepReply, error) {
	a.noteActivity()
	if err := a.lockedError(); err != nil {
		return protocol.KeepReply{}, err
	}
	a.reloadIfChanged()
	e, err := a.entry(req.Profile, req.Home)
	if err != nil {
		return protocol.KeepReply{}, err
	}
	j := job.Job{Target: req.Store, PastID: req.SignIn, Force: req.Force}
	i := slices.Index(
		[]protocol.KeepAction{protocol.KeepMove, protocol.KeepHistory, protocol.KeepRestore, protocol.KeepShow, protocol.KeepGuard},
		req.Action,
	)
	if i < 0 {
		return protocol.KeepReply{}, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("unknown action %d", req.Action),
			Hint: "the agent is older than the program that asks: restart it with: ccagent stop"}
	}
	j.Op = []job.Op{job.Move, job.History, job.Restore, job.Show, job.Guard}[i]
	r, err := e.exclusive(ctx, j)
	if err != nil {
		return protocol.KeepReply{}, err
	}
	return protocol.KeepReply{Location: r.Location, Notice: r.Notice, Past: r.Past}, nil
}

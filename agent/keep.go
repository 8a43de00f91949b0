package agent

import (
	"context"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

var _ protocol.Keeper = (*Agent)(nil)

// keepOps are the jobs of [protocol.KeepAction].
var keepOps = map[protocol.KeepAction]job.Op{
	protocol.KeepMove:    job.Move,
	protocol.KeepHistory: job.History,
	protocol.KeepRestore: job.Restore,
	protocol.KeepShow:    job.Show,
	protocol.KeepGuard:   job.Guard,
	protocol.KeepSecret:  job.Rekey,
}

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
	op, known := keepOps[req.Action]
	if !known {
		return protocol.KeepReply{}, outdated("action", uint32(req.Action))
	}
	r, err := e.exclusive(ctx, job.Job{
		Op: op, Target: req.Store, PastID: req.SignIn, Force: req.Force, ClientSecret: req.Secret,
	})
	if err != nil {
		return protocol.KeepReply{}, err
	}
	return protocol.KeepReply{Location: r.Location, Notice: r.Notice, Past: r.Past}, nil
}

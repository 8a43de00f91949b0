package agent

import (
	"context"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// watchTime bounds one watch (docs/protocol.md §4.8): a peer that is gone is noticed when it gets its reply.
const watchTime = 30 * time.Second

var _ protocol.Watcher = (*Agent)(nil)

// Watch implements [protocol.Watcher].
func (a *Agent) Watch(ctx context.Context, req protocol.WatchRequest) (protocol.WatchReply, error) {
	e, err := a.entry(req.Profile, req.Home)
	if err != nil {
		return protocol.WatchReply{}, err
	}
	version, changed := e.versionAndChange()
	if version != req.Known {
		return protocol.WatchReply{Version: version}, nil
	}
	timer := time.NewTimer(watchTime)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return protocol.WatchReply{}, waitError(ctx, e.name())
	case <-a.stopping:
		return protocol.WatchReply{}, &protocol.Error{Code: protocol.CodeUnavailable, Message: "the agent is stopping"}
	}
	version, _ = e.versionAndChange()
	return protocol.WatchReply{Version: version}, nil
}

// watch returns the version, and what is closed when it changes.
func (e *entry) versionAndChange() (uint64, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.version, e.changed
}

// altered gives what the profile answers a new version. e.mu is held.
func (e *entry) bumpVersionLocked() {
	e.version = e.agent.versions.Add(1)
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

// altered says that whatever the profiles answer may have changed: settings, hosts, which of them is the default.
func (t *table) bumpVersions() {
	for _, e := range t.byName {
		e.mu.Lock()
		e.bumpVersionLocked()
		e.mu.Unlock()
	}
}

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
	number, changed := e.currentVersion()
	if number != req.Known {
		return protocol.WatchReply{Version: number}, nil
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
	number, _ = e.currentVersion()
	return protocol.WatchReply{Version: number}, nil
}

// version numbers what a request for a profile's token would be answered with.
type version struct {
	number  uint64
	changed chan struct{} // closed when number changes; nil: nobody waits
}

// currentVersion returns the number, and a channel that is closed when it changes.
func (e *entry) currentVersion() (uint64, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.version.changed == nil {
		e.version.changed = make(chan struct{})
	}
	return e.version.number, e.version.changed
}

// bumpVersionLocked says that what the profile answers may have changed.
func (e *entry) bumpVersionLocked() {
	e.version.number = e.agent.versions.Add(1)
	if e.version.changed != nil {
		close(e.version.changed)
		e.version.changed = nil
	}
}

// bumpVersions says that what any profile answers may have changed: settings, hosts, which of them is the default.
func (t *table) bumpVersions() {
	for _, e := range t.byName {
		e.mu.Lock()
		e.bumpVersionLocked()
		e.mu.Unlock()
	}
}

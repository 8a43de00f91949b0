package agent

import (
	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/protocol"
)

// limits are those of an agent's own socket (docs/protocol.md §6). A request that finds no place is turned away without an
// answer: its client asks again until there is one, so that a herd that waits for a slow provider is served in the end.
var limits = server.Limits{Connections: protocol.MaxConnections, Reserved: 32}

// Serve answers on l until Stop, then answers whoever came before it, and returns nil. Its error is the listener's. admit judges
// the peer of each connection (socket.OnlyUser). Serve may be called for several listeners; the caller releases them.
func (a *Agent) Serve(l server.Listener, admit func(protocol.Peer) error) error {
	return a.server.Serve(l, admit, a.stopping)
}

// peerGone notes that a connection has ended: the idle time-out counts from here.
func (a *Agent) peerGone() {
	a.noteActivity()
	if a.opts.IdleTimeout > 0 {
		a.wakeClock()
	}
}

// cachedReply returns the reply to a request's payload where that is the cached token, nil where the request needs more than a
// look. It takes no lock and allocates nothing.
func (a *Agent) cachedReply(payload []byte) []byte {
	if protocol.Op(payload[1]) != protocol.OpToken {
		return nil
	}
	req, err := protocol.DecodeTokenRequest(payload)
	if err != nil || req.Force || req.HalfLife || req.ReaskWindow > 0 || req.ForHost() || req.Derived.Wanted() {
		return nil
	}
	if cached := a.cachedFor(&req); cached != nil {
		return cached.reply
	}
	return nil
}

// cachedFor returns the cached token if it answers req at once, without a notice of its own and without a look that may take
// long.
func (a *Agent) cachedFor(req *protocol.TokenRequest) *cachedToken {
	t := a.table.Load()
	e := t.find(req.Profile, req.Home)
	if e == nil || t.checkHome(req.Home, e) != nil {
		return nil
	}
	cached, now := e.cached.Load(), a.now()
	if cached == nil || !cached.fresh(now, req.MinTTL, false) || !cached.livesFor(req.MinTTL, now) ||
		!req.Quiet && e.reminderDue(cached, now) ||
		!e.snapshot.Load().knownUnchanged() {
		return nil
	}
	a.requests.Add(1)
	a.lastActivity.Store(now.UnixMilli())
	e.lastUsed.Store(now.Unix())
	return cached
}

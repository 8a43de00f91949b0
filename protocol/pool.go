//go:build unix

package protocol

import "context"

// DefaultPoolSize is how many connections a [Pool] has at most by default. The agent answers with a live token within tens of
// microseconds, so a few connections are enough for all requests of a program. Only renewals take longer.
const DefaultPoolSize = 8

// Pool is a [Client] for a program that runs for long and asks from many goroutines at a time. The number of its connections is
// bounded. A caller that finds all of them in use waits for one until its context ends. So a thousand goroutines that wait for
// one renewal cost the agent a few connections and the program a few threads, and not a thousand of each.
//
// Like a Client it keeps its connections open between requests, replaces those that an agent has closed, finds an agent that was
// restarted, and returns errors for which errors.Is finds the sentinels of this package. When a context ends, its call returns at
// once with ErrUnavailable; a renewal goes on.
//
// All methods may be called concurrently.
type Pool struct {
	client *Client
	slots  chan struct{}
}

var (
	_ Agent   = (*Pool)(nil)
	_ Watcher = (*Pool)(nil)
)

// NewPool returns a pool of at most size connections (0: [DefaultPoolSize]) that asks with c. The caller must not use c itself
// any more. NewPool does not connect yet.
func NewPool(c *Client, size int) *Pool {
	if size <= 0 {
		size = DefaultPoolSize
	}
	return &Pool{client: c, slots: make(chan struct{}, size)}
}

// PoolFromEnv returns a pool of [DefaultPoolSize] for this environment's agent: see [ClientFromEnv].
func PoolFromEnv(start bool) (*Pool, error) {
	c, err := ClientFromEnv(start)
	if err != nil {
		return nil, err
	}
	return NewPool(c, 0), nil
}

// Close closes the connections that are not in use. Requests under way go on.
func (p *Pool) Close() error { return p.client.Close() }

// Token implements [Agent].
func (p *Pool) Token(ctx context.Context, req TokenRequest) (Token, error) {
	return pooled(ctx, p, req, p.client.Token)
}

// Status implements [Agent].
func (p *Pool) Status(ctx context.Context, req StatusRequest) (Status, error) {
	return pooled(ctx, p, req, p.client.Status)
}

// Put implements [Agent].
func (p *Pool) Put(ctx context.Context, req PutRequest) (PutReply, error) {
	return pooled(ctx, p, req, p.client.Put)
}

// Control implements [Agent].
func (p *Pool) Control(ctx context.Context, req ControlRequest) (ControlReply, error) {
	return pooled(ctx, p, req, p.client.Control)
}

// Identify implements [Agent].
func (p *Pool) Identify(ctx context.Context, req IdentifyRequest) (Identity, error) {
	return pooled(ctx, p, req, p.client.Identify)
}

// Watch implements [Watcher]. A watch mostly waits, so it uses a connection of its own and does not count for the pool's bound.
func (p *Pool) Watch(ctx context.Context, req WatchRequest) (WatchReply, error) {
	return p.client.Watch(ctx, req)
}

// pooled asks when there is a connection for it. If ctx has ended already, it does not ask.
func pooled[Req, Reply any](ctx context.Context, p *Pool, req Req, ask func(context.Context, Req) (Reply, error)) (Reply, error) {
	var none Reply
	if ctx.Err() != nil {
		return none, waitError(ctx)
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
		return ask(ctx, req)
	case <-ctx.Done():
		return none, waitError(ctx)
	}
}

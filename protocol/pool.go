//go:build unix

package protocol

import "context"

// DefaultPoolSize is how many connections a [Pool] has at most that was told no number. A live token takes the agent tens of
// microseconds, so a few connections carry more requests than a program has; only renewals are waited for.
const DefaultPoolSize = 8

// Pool is a [Client] for a program that lives long and asks from many goroutines at a time. It has a bounded number of
// connections: whoever finds them all busy waits for one, within its own context. A thousand goroutines that wait for one
// renewal then cost the agent a few connections and the program a few threads, and not a thousand of each.
//
// Like a Client it keeps its connections open between requests, replaces those that an agent has closed, finds an agent that
// was restarted, and returns errors for which errors.Is finds the sentinels of this package. A context that ends is obeyed at
// once, waiting or asking; what ends is the caller's wait (ErrUnavailable), never a renewal.
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

// NewPool returns a pool of at most size connections (0: [DefaultPoolSize]) that asks by way of c, which is the pool's from
// then on. It does not connect yet.
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

// Close closes the connections that are not in use. A request under way is answered.
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

// Watch implements [Watcher]. It waits most of its life, so it takes a connection beside the pool's.
func (p *Pool) Watch(ctx context.Context, req WatchRequest) (WatchReply, error) {
	return p.client.Watch(ctx, req)
}

// pooled asks once a connection is free. A context that has ended already asks nothing.
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

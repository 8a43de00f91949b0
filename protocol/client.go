//go:build unix

package protocol

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Client is an [Agent] at the other end of a socket. It keeps a few connections open between requests, makes one where none
// is free, and repeats a request whose connection broke before the reply (docs/protocol.md §7), within the context: a
// context without a deadline waits for ever. Beyond what the agent itself answers, errors are ErrNoAgent (nobody listens),
// ErrDenied (the socket or its folder is not the caller's own), ErrUnavailable (the context ended first) and, of code
// CodeInternal, an answer that can't be read. All methods may be called concurrently.
type Client struct {
	// Home is sent with each request that carries none. Set it before the first request.
	Home Home
	// Launch starts an agent. It is called when nobody listens, once for each request, before that gives up; nil: ErrNoAgent at
	// once. Set it before the first request.
	Launch func(context.Context) error

	path   string
	mu     sync.Mutex
	idle   []*conn
	closed bool
}

var (
	_ Agent   = (*Client)(nil)
	_ Watcher = (*Client)(nil)
	_ Keeper  = (*Client)(nil)
)

const (
	maxIdle     = 4   // connections kept between requests
	requestRoom = 256 // enough for nearly every request: to grow into it costs the helper more than to have it
	replyRoom   = 4096
)

// NewClient returns a client of the agent at the socket path. It does not connect yet. It starts no agent, and says
// nothing of a home.
func NewClient(path string) *Client { return &Client{path: path} }

// ClientFromEnv returns a client of this environment's agent (see [SocketPath]). On the default path it sends the
// environment's [Home] and, if start is set, starts an agent when none answers (see [Start]). On any path, an environment of
// which nobody can tell whose account it means is refused: see [CheckClaudeDir].
func ClientFromEnv(start bool) (*Client, error) {
	path, isDefault, err := SocketPath()
	if err == nil {
		_, err = ClaudeDir(os.LookupEnv)
	}
	if err != nil {
		return nil, err
	}
	c := NewClient(path)
	if isDefault {
		c.Home = HomeFromEnv()
		if start {
			c.Launch = newStarter(path).start
		}
	}
	return c, nil
}

// Close closes the connections that are kept. Requests under way are not touched.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		conn.close()
	}
	c.idle = nil
	return nil
}

// Token asks for a token. One that could not be put on a line safely is refused (ErrInvalid; see [CheckToken]).
func (c *Client) Token(ctx context.Context, req TokenRequest) (token Token, err error) {
	c.fill(&req.Home)
	if req.Force && req.Since.IsZero() {
		req.Since = time.Now()
	}
	frame, err := AppendTokenRequest(make([]byte, 0, requestRoom), req)
	if err != nil {
		return Token{}, tooLarge()
	}
	err = c.do(ctx, OpToken, frame, func(d *Decoder) (err error) {
		token, err = decodeToken(d)
		return err
	})
	return token, err
}

// Status asks for a page of status.
func (c *Client) Status(ctx context.Context, req StatusRequest) (status Status, err error) {
	c.fill(&req.Home)
	frame, err := AppendStatusRequest(nil, req)
	if err != nil {
		return Status{}, tooLarge()
	}
	err = c.do(ctx, OpStatus, frame, func(d *Decoder) (err error) {
		status, err = decodeStatus(d)
		if status.Next != "" && status.Next <= req.After { // it would page for ever
			return ErrMalformed
		}
		return err
	})
	return status, err
}

// Put hands a record in. One that does not fit a frame is ErrInvalid.
func (c *Client) Put(ctx context.Context, req PutRequest) (reply PutReply, err error) {
	c.fill(&req.Home)
	frame, err := AppendPutRequest(nil, req)
	if err != nil {
		return PutReply{}, tooLarge()
	}
	err = c.do(ctx, OpPut, frame, func(d *Decoder) (err error) {
		reply, err = decodePutReply(d)
		return err
	})
	return reply, err
}

// Control changes the agent itself, or ends a sign-in.
func (c *Client) Control(ctx context.Context, req ControlRequest) (reply ControlReply, err error) {
	c.fill(&req.Home)
	frame, err := AppendControlRequest(nil, req)
	if err != nil {
		return ControlReply{}, tooLarge()
	}
	err = c.do(ctx, OpControl, frame, func(d *Decoder) (err error) {
		reply, err = decodeControlReply(d)
		return err
	})
	return reply, err
}

// Identify asks who is signed in.
func (c *Client) Identify(ctx context.Context, req IdentifyRequest) (identity Identity, err error) {
	c.fill(&req.Home)
	frame, err := AppendIdentifyRequest(nil, req)
	if err != nil {
		return Identity{}, tooLarge()
	}
	err = c.do(ctx, OpIdentify, frame, func(d *Decoder) (err error) {
		identity, err = decodeIdentity(d)
		return err
	})
	return identity, err
}

// Watch waits for a change of a profile's token: see [Watcher].
func (c *Client) Watch(ctx context.Context, req WatchRequest) (answer WatchReply, err error) {
	c.fill(&req.Home)
	frame, err := AppendWatchRequest(nil, req)
	if err != nil {
		return WatchReply{}, tooLarge()
	}
	err = c.do(ctx, OpWatch, frame, func(d *Decoder) (err error) {
		answer, err = decodeWatchReply(d)
		return err
	})
	return answer, err
}

// Keep moves a record, or brings back an earlier one: see [Keeper].
func (c *Client) Keep(ctx context.Context, req KeepRequest) (answer KeepReply, err error) {
	c.fill(&req.Home)
	frame, err := AppendKeepRequest(nil, req)
	if err != nil {
		return KeepReply{}, tooLarge()
	}
	err = c.do(ctx, OpKeep, frame, func(d *Decoder) (err error) {
		answer, err = decodeKeepReply(d)
		return err
	})
	return answer, err
}

// StatusAll collects all pages of a's status.
func StatusAll(ctx context.Context, a Agent, req StatusRequest) (Status, error) {
	all, err := a.Status(ctx, req)
	for err == nil && all.Next != "" {
		req.After = all.Next
		var page Status
		page, err = a.Status(ctx, req)
		all.Profiles, all.Next = append(all.Profiles, page.Profiles...), page.Next
	}
	if err != nil {
		return Status{}, err
	}
	return all, nil
}

func (c *Client) fill(h *Home) {
	if *h == (Home{}) {
		*h = c.Home
	}
}

// maxEnds is how often an agent that is not ours to start may end a connection without a reply, some two seconds long.
const maxEnds = 15

// do sends a request until it has a reply, and reads that with decode.
func (c *Client) do(ctx context.Context, op Op, request []byte, decode func(*Decoder) error) error {
	const firstDelay, lastDelay = time.Millisecond, 250 * time.Millisecond // §7
	launch := c.Launch
	ends := 0
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		used, err := c.try(ctx, op, request, decode)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return gaveUp(ctx, err)
		case errors.Is(err, ErrNoAgent) && launch != nil:
			if err := launch(ctx); err != nil {
				if ctx.Err() != nil {
					return waitError(ctx)
				}
				return err
			}
			launch = nil
			continue
		case used && broken(err): // the agent closed an idle connection: nothing is wrong, and no delay due
			continue
		case !broken(err):
			return clientError(err)
		}
		// A connection that is taken and ended at once, again and again, is one that ssh forwards to nobody.
		// One that is not taken (EAGAIN) is in the queue of an agent that is there.
		if err != unix.EAGAIN {
			ends++
		}
		if ends == maxEnds && c.Launch == nil {
			return &Error{Code: CodeNoAgent, Message: "nobody answers behind " + quotePath(c.path),
				Hint: "if that socket is forwarded, its agent is gone: see ccagent status at the machine that it comes from"}
		}
		if sleep(ctx, delay) != nil {
			return gaveUp(ctx, err)
		}
	}
}

// try sends a request once. used says that it went over a connection that had served before.
func (c *Client) try(ctx context.Context, op Op, request []byte, decode func(*Decoder) error) (used bool, err error) {
	conn, err := c.take(ctx)
	if err != nil {
		return false, err
	}
	used = conn.served
	payload, err := conn.roundTrip(ctx, request)
	if err != nil {
		conn.close()
		return used, err
	}
	got, d, err := OpenFrame(payload)
	if err != nil {
		conn.close()
		return used, err
	}
	switch got {
	case op.Reply():
		err = decode(&d)
	case OpError:
		err = decodeError(&d)
	default:
		err = ErrMalformed
	}
	if err == ErrMalformed {
		conn.close()
	} else {
		c.give(conn)
	}
	return used, err
}

// take returns a connection that is free, or a new one.
func (c *Client) take(ctx context.Context) (*conn, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return conn, nil
	}
	c.mu.Unlock()
	return connect(ctx, c.path)
}

func (c *Client) give(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		conn.close()
		return
	}
	c.idle = append(c.idle, conn)
}

// connect makes a connection to the caller's own agent (§2.2).
func connect(ctx context.Context, path string) (*conn, error) {
	if err := checkPath("the socket's path", path); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if owner := os.Getenv("CCAGENT_SOCK_UID"); owner != "" {
		if err := checkShared(path, owner); err != nil {
			return nil, err
		}
	} else if err := CheckDir(SocketDir(path)); errors.Is(err, ErrNoAgent) {
		return nil, noAgent(path)
	} else if err != nil {
		return nil, err
	} else if err := checkSocket(path); err != nil {
		return nil, err
	}
	conn, err := dial(ctx, path)
	if err == unix.ECONNREFUSED || err == unix.ENOENT {
		return nil, noAgent(path)
	}
	return conn, err
}

// broken reports whether a request that failed with err may be sent again (§7).
func broken(err error) bool {
	switch err {
	case unix.EAGAIN, unix.ECONNRESET, unix.EPIPE, io.ErrUnexpectedEOF:
		return true
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

func noAgent(path string) error {
	return &Error{
		Code:    CodeNoAgent,
		Message: "no agent is listening at " + quotePath(path),
		Hint:    "start one with `ccagent serve`, or with eval \"$(ccagent env)\"",
	}
}

func tooLarge() error {
	return &Error{Code: CodeInvalid, Message: "the request does not fit a frame of 65536 bytes",
		Hint: "a sign-in may have 60000 bytes or so; HOME, XDG_CONFIG_HOME and the folder of Claude Code are a part of each request"}
}

// clientError gives what went wrong on this side of the socket a code.
func clientError(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if err == ErrFrame || err == ErrVersion || err == ErrMalformed {
		return &Error{
			Code:    CodeInternal,
			Message: "the agent's answer can't be read: " + err.Error(),
			Hint:    "agent and helper may be of different versions: stop the agent with `ccagent stop`, and try again",
		}
	}
	return &Error{Code: CodeInternal, Message: "can't talk to the agent: " + err.Error()}
}

// gaveUp is the end of the caller's time after a try that failed with err. An agent that closed the connection does not say
// why: it tells nothing to a peer that it refuses (§2.3).
func gaveUp(ctx context.Context, err error) error {
	if !broken(err) || err == unix.EAGAIN || ctx.Err() == context.Canceled {
		return waitError(ctx)
	}
	return &Error{
		Code:    CodeUnavailable,
		Message: "the agent closes the connection before it answers",
		Hint:    "it serves its own user alone, and a limited number of connections: its log says which it was",
	}
}

// waitError is a wait that the caller's context ended.
func waitError(ctx context.Context) error {
	if ctx.Err() == context.Canceled {
		return &Error{Code: CodeUnavailable, Message: "interrupted while waiting for the agent"}
	}
	return &Error{
		Code:    CodeUnavailable,
		Message: "no answer from the agent in time",
		Hint: "a renewal goes on without you: try again, or wait longer with --timeout\nwhether the agent answers at all says: " +
			"ccagent status",
	}
}

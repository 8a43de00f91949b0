//go:build unix

package protocol

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Client is an [Agent] at the other end of a socket. It keeps a few connections open between requests and opens a new one if none
// is free. It repeats a request whose connection broke before the reply (docs/protocol.md §7), until the context ends; a context
// without a deadline waits for ever. Besides the errors that the agent replies with, there are ErrNoAgent (nobody listens),
// ErrDenied (the socket or its folder is not the caller's own), ErrUnavailable (the context ended first), and an error of code
// CodeInternal for a reply that can't be read. All methods may be called concurrently.
type Client struct {
	// Home is sent with each request whose own Home is zero. Set it before the first request.
	Home Home
	// Launch starts an agent. It is called if nobody listens, once for each request. If it is nil, such a request fails with
	// ErrNoAgent. Set it before the first request.
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
	requestRoom = 512 // bytes, enough for nearly every request; to grow a buffer costs the helper more
	replyRoom   = 4096
)

// NewClient returns a client of the agent at the socket path. It does not connect yet. Its Home is zero and its Launch is nil.
func NewClient(path string) *Client { return &Client{path: path} }

// ClientFromEnv returns a client of this environment's agent (see [SocketPath]). On the default path it sends the environment's
// [Home] and, if start is set, starts an agent if none answers (see [Start]). The error is ErrConfig for a path that no socket
// can have, and for an environment that does not say which account it means (see [CheckClaudeDir]).
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

// Close closes the connections that are not in use. Requests under way go on.
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

// Token asks for a token. A reply whose token does not pass [CheckToken] is refused (ErrInvalid).
func (c *Client) Token(ctx context.Context, req TokenRequest) (token Token, err error) {
	req.Home = c.home(req.Home, req.Profile)
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
	if err == nil && req.Derived.Wanted() && !token.Derived {
		return Token{}, notDerived()
	}
	return token, err
}

// Status asks for a page of status.
func (c *Client) Status(ctx context.Context, req StatusRequest) (status Status, err error) {
	req.Home = c.home(req.Home, req.Profile)
	frame, err := AppendStatusRequest(nil, req)
	if err != nil {
		return Status{}, tooLarge()
	}
	err = c.do(ctx, OpStatus, frame, func(d *Decoder) (err error) {
		status, err = decodeStatus(d)
		if status.Next != "" && status.Next <= req.After { // the caller would ask for pages for ever
			return ErrMalformed
		}
		return err
	})
	return status, err
}

// Put gives the agent a record to store. A record that does not fit a frame is ErrInvalid.
func (c *Client) Put(ctx context.Context, req PutRequest) (reply PutReply, err error) {
	req.Home = c.home(req.Home, req.Profile)
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
	req.Home = c.home(req.Home, req.Profile)
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
	req.Home = c.home(req.Home, req.Profile)
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
func (c *Client) Watch(ctx context.Context, req WatchRequest) (reply WatchReply, err error) {
	req.Home = c.home(req.Home, req.Profile)
	frame, err := AppendWatchRequest(nil, req)
	if err != nil {
		return WatchReply{}, tooLarge()
	}
	err = c.do(ctx, OpWatch, frame, func(d *Decoder) (err error) {
		reply, err = decodeWatchReply(d)
		return err
	})
	return reply, err
}

// Keep moves a record or brings back an earlier one: see [Keeper].
func (c *Client) Keep(ctx context.Context, req KeepRequest) (reply KeepReply, err error) {
	req.Home = c.home(req.Home, req.Profile)
	frame, err := AppendKeepRequest(nil, req)
	if err != nil {
		return KeepReply{}, tooLarge()
	}
	err = c.do(ctx, OpKeep, frame, func(d *Decoder) (err error) {
		reply, err = decodeKeepReply(d)
		return err
	})
	return reply, err
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

// home returns the home of a request: its own, or if that is zero the client's. A request that names a profile needs no Dir.
func (c *Client) home(h Home, profile string) Home {
	if h == (Home{}) {
		h = c.Home
	}
	if profile != "" {
		h.Dir = ""
	}
	return h
}

// maxEnds is how many connections may end without a reply, over some two seconds, before a client that may not start an agent
// gives up (§7).
const maxEnds = 15

// do sends a request until there is a reply, and reads the reply with decode.
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
			return gaveUp(ctx, err, ends)
		case errors.Is(err, ErrNoAgent) && launch != nil:
			if err := launch(ctx); err != nil {
				if ctx.Err() != nil {
					return waitError(ctx)
				}
				return err
			}
			launch = nil
			continue
		case used && broken(err): // the agent has closed an idle connection, which needs no delay
			continue
		case !broken(err):
			return ClientError(err)
		}
		// If connections are accepted and end at once, again and again, then ssh accepts them and nobody is behind it.
		// EAGAIN is another case: there is an agent, whose queue of connections is full.
		if err != unix.EAGAIN {
			ends++
		}
		if ends == maxEnds && c.Launch == nil {
			hint := "if that socket is forwarded, its agent is gone: run `ccagent status` on the machine that it is forwarded from"
			if os.Getenv("CCAGENT_SOCK_UID") != "" { // who is not let in gets no answer either
				hint += "\nif it is exported, it may not let you in: that takes ccagent serve --export with --allow-uid " +
					strconv.Itoa(os.Geteuid())
			}
			return &Error{Code: CodeNoAgent, Message: "nobody answers behind " + quotePath(c.path), Hint: hint}
		}
		if sleep(ctx, delay) != nil {
			return gaveUp(ctx, err, ends)
		}
	}
}

// try sends a request once. used says that it was sent over a connection that has brought a reply before.
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

// take returns a connection that is not in use, or a new one.
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

// give takes a connection back that is no longer in use.
func (c *Client) give(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		conn.close()
		return
	}
	c.idle = append(c.idle, conn)
}

// connect makes the checks of §2.2 and connects.
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
		if around := CheckRoom(SocketDir(path)); around != nil {
			return nil, around
		}
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

// sleep waits for d or until ctx ends, and returns the error of ctx.
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

func tooLarge() error {
	return &Error{Code: CodeInvalid, Message: "the request does not fit a frame of " + strconv.Itoa(MaxFrame) + " bytes",
		Hint: "a sign-in may have about 60000 bytes; HOME, XDG_CONFIG_HOME and the folder of Claude Code are a part of each request"}
}

// ClientError returns err as a [Client] does: an [*Error] as it is, and with code CodeInternal what went wrong between the agent
// and the caller. nil stays nil.
func ClientError(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if err == ErrFrame || err == ErrVersion || err == ErrMalformed {
		return &Error{
			Code:    CodeInternal,
			Message: "the agent's answer can't be read: " + err.Error(),
			Hint:    "the agent and this program may be of different versions: stop the agent with `ccagent stop`, and try again",
		}
	}
	return &Error{Code: CodeInternal, Message: "can't talk to the agent: " + err.Error()}
}

// gaveUp is the error when the caller's time ends after a try that failed with err, and after ends connections that ended without
// a reply. If the agent closes one after another, it does not say why: it tells nothing to a peer that it refuses (§2.3). An
// agent that is only just starting, or ending, closes one or two.
func gaveUp(ctx context.Context, err error, ends int) error {
	if !broken(err) || err == unix.EAGAIN || ends < 3 || ctx.Err() == context.Canceled {
		return waitError(ctx)
	}
	return &Error{
		Code:    CodeUnavailable,
		Message: "the agent closes the connection before it answers",
		Hint:    "it serves only its own user, and a limited number of connections: its log says which of these was the reason",
	}
}

// waitError is the error of a wait that the caller's context ended.
func waitError(ctx context.Context) error {
	if ctx.Err() == context.Canceled {
		return &Error{Code: CodeUnavailable, Message: "interrupted while waiting for the agent"}
	}
	return &Error{
		Code:    CodeUnavailable,
		Message: "no answer from the agent in time",
		Hint: "a renewal goes on without you: try again, or wait longer with --timeout\n" +
			"to see whether the agent answers at all: ccagent status",
	}
}

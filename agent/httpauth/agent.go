package httpauth

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// maxUnwatched is how long a token is cached at most while nobody tells us that it has changed.
	maxUnwatched = 30 * time.Second
	// awayPause is how long a token that is still valid is served without asking again while the agent can't be reached.
	awayPause = time.Second
	// callTimeout bounds one request to the agent, for which several callers may wait.
	callTimeout = 90 * time.Second
	// refusedPause is how long no further renewal is forced after a server has refused a brand-new token, and failedPause the
	// same after a renewal has failed.
	refusedPause, failedPause = 30 * time.Second, 5 * time.Second
	// maxHosts bounds how many hosts the cache has an entry for.
	maxHosts = 64
)

// never is the expiry of a token that does not expire.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Agent is one profile of an agent: an [Authenticator], and an oauth2.TokenSource. It caches the token, so that a valid one costs
// no request. It drops the token when the agent says that it has changed ([protocol.Watcher]) or, with an agent that can't say
// so, after 30 seconds. While the agent can't be reached, the cached token is used until it expires.
//
// Use [NewAgent], and [Agent.Close] when done, because an Agent has a goroutine that watches the agent. All methods may be called
// concurrently. A context bounds only how long its own caller waits. A request to the agent that others wait for goes on.
type Agent struct {
	agent   protocol.Agent
	profile string
	derived protocol.Derived

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu         sync.Mutex
	cache      map[string]*cached // by host
	calls      map[request]*call  // that are running
	generation uint64             // grows when the whole cache becomes invalid
	noRenewal  time.Time          // no renewal is forced before
	failed     error              // of the renewal because of which none is forced; nil if a brand-new token was refused
	watching   bool               // the watch has been started
	watched    bool               // and it works: the agent tells us of changes
	closed     bool
}

var (
	_ Authenticator      = (*Agent)(nil)
	_ oauth2.TokenSource = (*Agent)(nil)
)

// cached is the token for one host.
type cached struct {
	token  protocol.Token
	header []string  // the value of the Authorization header, as http.Header wants it
	until  time.Time // when to ask the agent again; this field alone changes, under Agent.mu
}

// request is what the agent is asked.
type request struct {
	host  string
	force bool // for a new token, even if the old one is still valid
}

// call is a request to the agent that is running, and that several callers may wait for. entry and err are set before done is
// closed.
type call struct {
	request
	refused *cached // for a forced renewal: the token that the server refused
	done    chan struct{}
	entry   *cached
	err     error
}

var errClosed = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the token source is closed"}

// NewAgent returns a profile of a, or a's default profile for "". It makes no request yet. a is usually a [protocol.Pool], or an
// agent within the program. It stays the caller's, who closes it after the Agent.
func NewAgent(a protocol.Agent, profile string) *Agent {
	return NewDerived(a, profile, protocol.Derived{})
}

// NewDerived is [NewAgent] for another token of the profile than its access token. A profile that has none fails with ErrConfig,
// and a restricted socket that gives none with ErrDenied.
func NewDerived(a protocol.Agent, profile string, want protocol.Derived) *Agent {
	ctx, cancel := context.WithCancel(context.Background())
	return &Agent{
		agent:   a,
		profile: profile,
		derived: want,
		ctx:     ctx,
		cancel:  cancel,
		cache:   map[string]*cached{},
		calls:   map[request]*call{},
	}
}

// Close ends the watch and the requests that are running, and waits for both. Afterwards every request fails with ErrUnavailable.
func (a *Agent) Close() error {
	a.mu.Lock()
	a.closed = true
	a.cache = nil
	a.mu.Unlock()
	a.cancel()
	a.work.Wait()
	return nil
}

// Token implements oauth2.TokenSource. The agent is not told which host the token is for, so the profile's list of hosts is not
// applied.
func (a *Agent) Token() (*oauth2.Token, error) { return hostSource{a, ""}.Token() }

// For returns a token source for one host. The agent refuses it a token (ErrDenied) unless the profile lists that host.
func (a *Agent) For(host string) oauth2.TokenSource { return hostSource{a, hosts.At("https", host)} }

type hostSource struct {
	agent *Agent
	host  string
}

func (s hostSource) Token() (*oauth2.Token, error) {
	c, err := s.agent.get(context.Background(), s.host)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: c.token.Value.Reveal(), TokenType: "Bearer", Expiry: c.token.Expiry}, nil
}

// get returns a token for a host, from the cache as long as it may.
func (a *Agent) get(ctx context.Context, host string) (*cached, error) {
	now := wall()
	a.mu.Lock()
	if c := a.cache[host]; c != nil && now.Before(c.until) {
		a.mu.Unlock()
		return c, nil
	}
	running := a.callLocked(request{host: host}, nil)
	a.mu.Unlock()
	return running.wait(ctx)
}

// renew starts to get another token than the one that a server has refused. If the cache has another one already, or if a renewal
// has just failed, the call is finished. It returns nil where a renewal would be useless.
func (a *Agent) renew(host string, refused *cached) *call {
	now := wall()
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.cache[host]; c != nil && !c.same(refused) && now.Before(c.until) {
		finished := &call{entry: c, done: make(chan struct{})}
		close(finished.done)
		return finished
	}
	switch {
	case !now.Before(a.noRenewal):
		return a.callLocked(request{host, true}, refused)
	case a.failed == nil:
		return nil
	}
	finished := &call{err: a.failed, done: make(chan struct{})}
	close(finished.done)
	return finished
}

// newTokenRefused notes that a server has refused a brand-new token. Another one would fare no better.
func (a *Agent) newTokenRefused() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noRenewal, a.failed = wall().Add(refusedPause), nil
}

// callLocked returns the call that makes a request, and starts it unless it is running. The caller holds a.mu.
func (a *Agent) callLocked(r request, refused *cached) *call {
	if running := a.calls[r]; running != nil {
		return running
	}
	c := &call{request: r, refused: refused, done: make(chan struct{})}
	if a.closed {
		c.err = errClosed
		close(c.done)
		return c
	}
	a.calls[r] = c
	a.work.Go(func() { a.ask(c) })
	return c
}

func (c *call) wait(ctx context.Context) (*cached, error) {
	select {
	case <-c.done:
		return c.entry, c.err
	case <-ctx.Done():
		return nil, &protocol.Error{Code: protocol.CodeUnavailable, Message: "gave up waiting for a token: " + ctx.Err().Error()}
	}
}

// ask makes a call's request to the agent, and finishes the call. It asks again where the cache has become invalid meanwhile:
// then the answer may be an old one.
func (a *Agent) ask(c *call) {
	ctx, cancel := context.WithTimeout(a.ctx, callTimeout)
	defer cancel()
	req := protocol.TokenRequest{Profile: a.profile, Host: c.host, Force: c.force, Quiet: true, Derived: a.derived}
	if c.force {
		req.Since = time.Now()
	}
	for try := 1; ; try++ {
		a.mu.Lock()
		generation := a.generation
		a.mu.Unlock()
		token, err := a.agent.Token(ctx, req)
		if err == nil {
			err = protocol.CheckToken(token.Value) // it becomes a header
		}
		if err == nil {
			err = token.CheckBearer()
		}
		if a.finish(c, token, err, generation, try == 3) {
			return
		}
	}
}

// finish ends a call with an answer that was asked for in a generation of the cache. It returns false, and does nothing, where
// that generation is over, unless this is the last try.
func (a *Agent) finish(c *call, token protocol.Token, err error, generation uint64, last bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if generation != a.generation && !last && !a.closed {
		return false
	}
	now := wall()
	old := a.cache[c.host]
	switch {
	case a.closed:
		c.err = errClosed
	case err == nil:
		c.entry = newCached(token, now)
		if c.force && c.entry.same(c.refused) {
			a.noRenewal, a.failed = now.Add(refusedPause), nil
		} else if c.force {
			a.generation++
			clear(a.cache) // the old token is refused for other hosts as well
			generation = a.generation
		}
	case c.force:
		c.err, a.noRenewal, a.failed = err, now.Add(failedPause), err
	case isAway(err) && old != nil && old.valid(now):
		c.entry = &cached{token: old.token, header: old.header, until: earlier(now.Add(awayPause), old.expiry())}
	default:
		c.err = err
	}
	if c.entry != nil && generation == a.generation {
		if len(a.cache) >= maxHosts {
			clear(a.cache)
		}
		if !a.watched {
			c.entry.until = earlier(c.entry.until, now.Add(maxUnwatched))
		}
		a.cache[c.host] = c.entry
		a.startWatchLocked()
	}
	delete(a.calls, c.request)
	close(c.done)
	return true
}

func newCached(token protocol.Token, now time.Time) *cached {
	c := &cached{token: token, header: []string{"Bearer " + token.Value.Reveal()}}
	c.until = c.expiry()
	if left := c.until.Sub(now); !token.Expiry.IsZero() {
		// No less than the agent's own margin, so that the agent, and not the server, finds the token too old.
		c.until = c.until.Add(-protocol.MarginOf(left))
	}
	return c
}

// same reports whether two entries hold the same token.
func (c *cached) same(other *cached) bool { return c.header[0] == other.header[0] }

// expiry is when the token expires.
func (c *cached) expiry() time.Time {
	if c.token.Expiry.IsZero() {
		return never
	}
	return c.token.Expiry.Round(0)
}

func (c *cached) valid(now time.Time) bool { return now.Before(c.expiry()) }

// isAway reports whether an error says nothing about the token, because the agent could not be asked.
func isAway(err error) bool {
	return errors.Is(err, protocol.ErrNoAgent) || errors.Is(err, protocol.ErrUnavailable)
}

// wall is the time without its monotonic part, which stands still while the machine sleeps and tokens expire.
func wall() time.Time { return time.Now().Round(0) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

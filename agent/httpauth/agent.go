package httpauth

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/ccagent/ccagent/protocol"
)

const (
	// unwatched is how long a token is kept at most while the agent can't say that it changed.
	unwatched = 30 * time.Second
	// outage is how long a token that still lives stands in for an agent that is gone, before that is asked again.
	outage = time.Second
	// patience bounds one question, on whose answer others may wait as well.
	patience = 90 * time.Second
	// calm is how long no further token is forced for a server that refused a fresh one, pause the same where none was to be had.
	calm, pause = 30 * time.Second, 5 * time.Second
	// maxHosts bounds what is kept for a program that goes round the world.
	maxHosts = 64
)

// never is the end of a token that has none.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Agent is one profile of an agent: an [Authenticator], and an oauth2.TokenSource. It keeps the token between uses, so that
// one which lives costs a look, and drops it when the agent says that it changed ([protocol.Watcher]) or, where the agent
// can't say so, after 30 seconds. While an agent is away the token at hand serves until it expires.
//
// Use [NewAgent], and [Agent.Close] when done: it has a goroutine that listens to the agent. All methods may be called
// concurrently. A context bounds its caller's wait alone; a question that others wait for as well goes on.
type Agent struct {
	agent   protocol.Agent
	profile string

	living context.Context // ends with Close
	end    context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	leases   map[string]*lease    // by host
	flights  map[question]*flight // under way
	epoch    uint64               // counts what makes all leases void
	calm     time.Time            // no token is forced before
	watching bool                 // the listener has been started
	watched  bool                 // and is told of changes
	closed   bool
}

var (
	_ Authenticator      = (*Agent)(nil)
	_ oauth2.TokenSource = (*Agent)(nil)
)

// lease is a token in hand for one host.
type lease struct {
	token  protocol.Token
	header []string  // the value of Authorization, as http.Header has it
	until  time.Time // when to ask again; the one field that changes, under Agent.mu
}

type question struct {
	host  string
	force bool
}

// flight is a question under way. lease and err are set before done is closed.
type flight struct {
	question
	refused *lease // of a forced one: what the server refused
	done    chan struct{}
	lease   *lease
	err     error
}

var errClosed = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the token source is closed"}

// NewAgent returns the profile of a: "" is the agent's default one. It asks nothing yet. a is usually a [protocol.Pool], or an
// agent within the program; it stays the caller's, to be closed after the Agent.
func NewAgent(a protocol.Agent, profile string) *Agent {
	living, end := context.WithCancel(context.Background())
	return &Agent{
		agent:   a,
		profile: profile,
		living:  living,
		end:     end,
		leases:  map[string]*lease{},
		flights: map[question]*flight{},
	}
}

// Close ends the listener and what is being asked, and waits for both. Nothing can be asked afterwards (ErrUnavailable).
func (a *Agent) Close() error {
	a.mu.Lock()
	a.closed = true
	a.leases = nil
	a.mu.Unlock()
	a.end()
	a.work.Wait()
	return nil
}

// Token implements oauth2.TokenSource. It does not say which host the token is for: a profile's list of hosts is not applied.
func (a *Agent) Token() (*oauth2.Token, error) { return hostSource{a, ""}.Token() }

// For returns the token source for one host, to which the agent refuses a token (ErrDenied) unless the profile lists it.
func (a *Agent) For(host string) oauth2.TokenSource { return hostSource{a, fold(host)} }

type hostSource struct {
	agent *Agent
	host  string
}

func (s hostSource) Token() (*oauth2.Token, error) {
	l, err := s.agent.take(context.Background(), s.host)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: l.token.Value.Reveal(), TokenType: "Bearer", Expiry: l.token.Expiry}, nil
}

// take returns a token for a host, from memory while it serves.
func (a *Agent) take(ctx context.Context, host string) (*lease, error) {
	now := wall()
	a.mu.Lock()
	if l := a.leases[host]; l != nil && now.Before(l.until) {
		a.mu.Unlock()
		return l, nil
	}
	f := a.fly(question{host: host}, nil)
	a.mu.Unlock()
	return f.wait(ctx)
}

// fresh starts to get another token than the one that a server refused, and returns nil where that is no use: the flight is
// over already if one is at hand.
func (a *Agent) fresh(host string, refused *lease) *flight {
	now := wall()
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.leases[host]; l != nil && !l.same(refused) && now.Before(l.until) {
		f := &flight{lease: l, done: make(chan struct{})}
		close(f.done)
		return f
	}
	if now.Before(a.calm) {
		return nil
	}
	return a.fly(question{host, true}, refused)
}

// hopeless notes that a server refused a token that was brand new: another one would fare no better.
func (a *Agent) hopeless() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calm = wall().Add(calm)
}

// fly returns the flight that asks q, which it starts unless it is under way. a.mu is held.
func (a *Agent) fly(q question, refused *lease) *flight {
	if f := a.flights[q]; f != nil {
		return f
	}
	f := &flight{question: q, refused: refused, done: make(chan struct{})}
	if a.closed {
		f.err = errClosed
		close(f.done)
		return f
	}
	a.flights[q] = f
	a.work.Go(func() { a.ask(f) })
	return f
}

func (f *flight) wait(ctx context.Context) (*lease, error) {
	select {
	case <-f.done:
		return f.lease, f.err
	case <-ctx.Done():
		return nil, &protocol.Error{Code: protocol.CodeUnavailable, Message: "gave up waiting for a token: " + ctx.Err().Error()}
	}
}

// ask asks f's question, once more while the answer may have been overtaken, and lands it.
func (a *Agent) ask(f *flight) {
	ctx, cancel := context.WithTimeout(a.living, patience)
	defer cancel()
	req := protocol.TokenRequest{Profile: a.profile, Host: f.host, Force: f.force}
	if f.force {
		req.Since = time.Now()
	}
	for tries := 1; ; tries++ {
		a.mu.Lock()
		epoch := a.epoch
		a.mu.Unlock()
		token, err := a.agent.Token(ctx, req)
		if err == nil {
			err = protocol.CheckToken(token.Value) // it becomes a header
		}
		if a.land(f, token, err, epoch, tries == 3) {
			return
		}
	}
}

// land ends a flight with its answer, which is of an epoch. It reports false where that is over, unless it is the last try.
func (a *Agent) land(f *flight, token protocol.Token, err error, epoch uint64, last bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if epoch != a.epoch && !last && !a.closed {
		return false
	}
	now := wall()
	old := a.leases[f.host]
	switch {
	case a.closed:
		f.err = errClosed
	case err == nil:
		f.lease = newLease(token, now)
		if f.force && f.lease.same(f.refused) {
			a.calm = now.Add(calm)
		} else if f.force {
			a.epoch++
			clear(a.leases) // for other hosts it is refused as well
			epoch = a.epoch
		}
	case f.force:
		f.err, a.calm = err, now.Add(pause)
	case away(err) && old != nil && old.alive(now):
		f.lease = &lease{token: old.token, header: old.header, until: earlier(now.Add(outage), old.end())}
	default:
		f.err = err
	}
	if f.lease != nil && epoch == a.epoch {
		if len(a.leases) >= maxHosts {
			clear(a.leases)
		}
		if !a.watched {
			f.lease.until = earlier(f.lease.until, now.Add(unwatched))
		}
		a.leases[f.host] = f.lease
		a.listen()
	}
	delete(a.flights, f.question)
	close(f.done)
	return true
}

func newLease(token protocol.Token, now time.Time) *lease {
	l := &lease{token: token, header: []string{"Bearer " + token.Value.Reveal()}}
	l.until = l.end()
	if left := l.until.Sub(now); !token.Expiry.IsZero() {
		// No less than the agent's own margin, so that the agent, and not the server, finds the token too old.
		l.until = l.until.Add(-protocol.MarginOf(left))
	}
	return l
}

func (l *lease) same(other *lease) bool { return l.header[0] == other.header[0] }

// end is when the token expires.
func (l *lease) end() time.Time {
	if l.token.Expiry.IsZero() {
		return never
	}
	return l.token.Expiry.Round(0)
}

func (l *lease) alive(now time.Time) bool { return now.Before(l.end()) }

// away reports whether an error says nothing of the token: there was nobody to ask.
func away(err error) bool {
	return errors.Is(err, protocol.ErrNoAgent) || errors.Is(err, protocol.ErrUnavailable)
}

// wall is the time without its monotonic part, which stands still while a machine sleeps and tokens expire.
func wall() time.Time { return time.Now().Round(0) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

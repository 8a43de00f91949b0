// Package gateway lets tools use tokens that they never hold. A tool is given a stand-in, which is worthless anywhere else. It
// sends its requests to a [Gateway], which takes the stand-in out, puts the live token of the route in, and sends the request on.
// After a refusal it has the agent renew the token, and sends the same request again.
//
// A request comes to a base URL: http://HOST/NAME and the path, NAME being a route's. What no route covers is refused.
package gateway

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/agent/httpauth"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// maxHeaders bounds the header of a request, and that of an answer, in bytes.
	maxHeaders = 64 << 10
	// maxStreams is how many requests may be under way at a time, unless the options say otherwise.
	maxStreams = 256
	// headerTime bounds how long a tool takes to send a header, and connectTime how long it takes to connect to an upstream.
	headerTime, connectTime = 10 * time.Second, 10 * time.Second
	// idleTime ends a request, or a connection, on which nothing moves. There is no other time limit.
	idleTime = 15 * time.Minute
)

// Options are the settings of a gateway.
type Options struct {
	// Agent is asked for tokens. It stays the caller's, who closes it after the gateway.
	Agent protocol.Agent
	// Routes are where requests may go. Each names its profile.
	Routes route.Table
	// Dial connects to upstreams; nil: to those addresses alone that a route may have.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Proxy says by which proxy an upstream is reached; nil: by none.
	Proxy func(*http.Request) (*url.URL, error)
	// Streams is how many requests may be under way at a time, and how many connections may be open on which no stand-in has come
	// yet; 0: 256.
	Streams int
	// Decided is told of each request when it is over; nil: nobody is. It is called concurrently.
	Decided func(Decision)
}

// Decision is what became of a request. Nothing in it is secret: the query and the body are left out, and stand-ins are hidden.
type Decision struct {
	Began          time.Time
	Took           time.Duration
	Peer           Peer   // who sent the request
	Route, Profile string // "" where no route was found
	Rule           string // that let the request through or forbade it; "" if the route has none for it
	Method         string
	Host, Path     string // where it goes; "" where no route was found
	Status         int    // that the tool got; 0 if it got none
	Sent, Received int64  // of the bodies, in bytes; an upgraded connection included
	Renewed        bool   // the token was renewed because of it
	Foreign        bool   // it went on with a credential of the tool's own
	Refused        string // why the gateway itself refused it; "" if it did not
}

// Gateway serves one session. It is an http.Handler, and [Gateway.Serve] serves a listener with it. All methods may be called
// concurrently.
type Gateway struct {
	options   Options
	routes    route.Table
	standIns  standIns
	secrets   []protocol.Secret // the stand-ins themselves, in the order of routes, until Grants gives them away
	roads     []road
	agents    []*httpauth.Agent
	slots     chan struct{}
	strangers *strangers
	server    *http.Server
}

// road is how the requests of one route are sent: with the token of its profile.
type road struct {
	ordinary, upgraded *httpauth.Transport
	tokens             *tokens // of its profile
	allowance          *allowance
}

// New returns a gateway. It asks the agent once for the token of each route, so that a sign-in that is missing is noticed now:
// that is an error, as the agent has it. An agent or a provider that can't be asked at the moment is none.
func New(ctx context.Context, o Options) (*Gateway, error) {
	if o.Streams == 0 {
		o.Streams = maxStreams
	}
	given := map[string]*tokens{}
	for _, r := range o.Routes {
		if given[r.Profile] == nil {
			given[r.Profile] = &tokens{}
		}
	}
	o.Agent = noting(o.Agent, given)
	g := &Gateway{options: o, slots: make(chan struct{}, o.Streams), strangers: &strangers{most: o.Streams}}
	if err := g.settle(ctx); err != nil {
		return nil, err
	}
	agents := map[string]*httpauth.Agent{}
	for i := range g.routes {
		r := &g.routes[i]
		if agents[r.Profile] == nil {
			agents[r.Profile] = httpauth.NewAgent(o.Agent, r.Profile)
			g.agents = append(g.agents, agents[r.Profile])
		}
		secret := g.standIns.add(i)
		g.secrets = append(g.secrets, secret)
		ordinary, upgraded := transports(&o, r)
		sends := func(base *http.Transport) *httpauth.Transport {
			return &httpauth.Transport{Agent: agents[r.Profile], Base: base, Place: r.Place, RenewOn: r.RenewOn, RecordBodies: true,
				Renewed: renewed}
		}
		g.roads = append(g.roads, road{sends(ordinary), sends(upgraded), given[r.Profile], newAllowance(r.Limit)})
	}
	g.server = &http.Server{
		Handler: g, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaders,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return g.strangers.come(withPeer(ctx, c), c) },
		ConnState:   g.strangers.changed,
		ErrorLog:    log.New(io.Discard, "", 0), // it would quote requests
	}
	return g, nil
}

// settle asks for the token of each route, because its kind may decide where it goes.
func (g *Gateway) settle(ctx context.Context) error {
	g.routes = make(route.Table, len(g.options.Routes))
	failed := make([]error, len(g.routes))
	var asked sync.WaitGroup
	for i, r := range g.options.Routes {
		asked.Go(func() {
			token, err := g.options.Agent.Token(ctx, protocol.TokenRequest{Profile: r.Profile, Host: r.Host(), Quiet: true})
			if err == nil {
				err = token.CheckBearer()
			}
			if err != nil && (ctx.Err() != nil || !errors.Is(err, protocol.ErrUnavailable)) {
				failed[i] = err
			}
			g.routes[i] = r.For(string(token.Kind))
		})
	}
	asked.Wait()
	for _, err := range failed {
		if err != nil {
			return err // one line is what a person reads
		}
	}
	return nil
}

// Grant is what a tool is given for a route.
type Grant struct {
	Route   string
	StandIn protocol.Secret
	Env     map[string]route.Value // the variables that hold the base URL and the stand-in
	Tools   []route.Tool           // those that are told in a way of their own
	For     string                 // the URL that the base URL is in place of
}

// Grants returns what the tool is given, once: afterwards the gateway knows only the digests of the stand-ins. A second call
// returns nil.
func (g *Gateway) Grants() []Grant {
	var grants []Grant
	for i, secret := range g.secrets {
		grants = append(grants, Grant{g.routes[i].Name, secret, g.routes[i].Env, g.routes[i].Tools, g.routes[i].Upstream.String()})
	}
	g.secrets = nil
	return grants
}

// Serve serves a listener until Close. Then it returns nil.
func (g *Gateway) Serve(l net.Listener) error {
	if err := g.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends all that is under way, and closes the listeners.
func (g *Gateway) Close() error {
	err := g.server.Close()
	for _, a := range g.agents {
		a.Close()
	}
	for _, r := range g.roads {
		for _, t := range []*httpauth.Transport{r.ordinary, r.upgraded} {
			t.Base.(*http.Transport).CloseIdleConnections()
		}
	}
	return err
}

// ServeHTTP decides on a request, and sends it on or refuses it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{gateway: g, began: time.Now()}
	x.Method, x.Peer = r.Method, peerOf(r)
	defer x.over()
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		x.refuse(w, &refusal{status: http.StatusServiceUnavailable, kind: overloaded, retry: time.Second,
			message: "too many requests are under way through this gateway"})
		return
	}
	if no := x.decide(r); no != nil {
		x.refuse(w, no)
		return
	}
	g.strangers.known(r.Context())
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	x.idle = time.AfterFunc(idleTime, func() { cancel(errIdle) })
	defer x.idle.Stop()
	// Without this the server would take the rest of the request's body away from a service that answers before it has read it.
	http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is, and says that it knows no such thing
	// A proxy sends events, and bodies of which the length is not stated, at once. The others may wait for a millisecond, so that a
	// short answer is written in one piece.
	(&httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: x, FlushInterval: time.Millisecond, BufferPool: buffers{x}, ModifyResponse: x.answer,
		ErrorHandler: x.failed, ErrorLog: g.server.ErrorLog,
	}).ServeHTTP(cleaning{w, x}, r.WithContext(context.WithValue(ctx, exchangeKey{}, x)))
}

// A body is copied through a buffer. Many streams may be open for long, of which each event is small.
const smallBuffer, largeBuffer = 2 << 10, 64 << 10

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// buffers are those for the answer of an exchange.
type buffers struct{ of *exchange }

func (b buffers) Get() []byte {
	if b.of.stream {
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:]
}

func (b buffers) Put(p []byte) {
	if len(p) == smallBuffer {
		smallBuffers.Put((*[smallBuffer]byte)(p))
	} else {
		largeBuffers.Put((*[largeBuffer]byte)(p))
	}
}

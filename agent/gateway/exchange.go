package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/route"
)

var errIdle = errors.New("nothing has moved on it for 15 minutes")

// exchange is one request and its answer.
type exchange struct {
	gateway *Gateway
	began   time.Time
	base    string // the host at which the tool has found us; "" if it takes us for the service
	route   *route.Route
	to      *url.URL
	road    road
	idle    *time.Timer
	stream  bool // the answer is a stream of events

	Decision
	sent, received atomic.Int64
	renewed        error // why a renewal failed
}

// exchangeKey is the key of an exchange in the context of its request.
type exchangeKey struct{}

// renewed notes that a refusal has led to a renewal, or why that failed. A Transport calls it within RoundTrip.
func renewed(req *http.Request, err error) {
	if x, ok := req.Context().Value(exchangeKey{}).(*exchange); ok {
		x.Renewed, x.renewed = err == nil, err
	}
}

// decide finds the route of a request and judges the request by it. It returns why it is refused, nil if it is not.
func (x *exchange) decide(r *http.Request) *refusal {
	table := x.gateway.routes
	x.base = r.Host
	var err error
	target, to, found := table.ByHost(r.Host, r.RequestURI)
	if found {
		x.base = ""
	} else if target, to, err = table.Base(r.RequestURI); err != nil {
		return judged(err)
	}
	x.route, x.to, x.Route, x.Profile = target, to, target.Name, target.Profile
	x.Host, x.Path = to.Host, to.EscapedPath()
	if err := route.CheckMethod(r.Method); err != nil {
		return judged(err)
	}
	i := slices.IndexFunc(table, func(other route.Route) bool { return other.Name == target.Name })
	x.road = x.gateway.roads[i]
	carried := x.gateway.standIns.examine(r, target, i)
	switch {
	case carried.elsewhere:
		return &refusal{status: http.StatusForbidden, kind: denied,
			message: "the stand-in in this request is for another route than " + target.Name}
	case carried.unknown:
		return &refusal{status: http.StatusUnauthorized, kind: unauthenticated,
			message: "the stand-in in this request is of another session: start the tool anew with ccagent run"}
	case carried.own:
	case carried.foreign == "":
		return &refusal{status: http.StatusUnauthorized, kind: unauthenticated,
			message: "this request has no stand-in: give the tool what ccagent run gives it"}
	case target.Foreign != route.Pass:
		return &refusal{status: http.StatusForbidden, kind: denied, message: fmt.Sprintf("this request has a credential of its own in "+
			"%s, which route %s does not pass on: take it away from the tool, or write foreign = \"pass\" for the route",
			carried.foreign, target.Name)}
	default:
		x.Foreign = true
	}
	if x.Rule, err = judge(r, target, x.Path); err != nil {
		return judged(err)
	}
	if wait := x.road.allowance.take(); wait > 0 {
		return &refusal{status: http.StatusTooManyRequests, kind: tooMany, retry: wait,
			message: fmt.Sprintf("the limit of route %s is reached (%s)", target.Name, target.Limit)}
	}
	return nil
}

// overriding are headers by which some services take another method for that of the request.
var overriding = []string{"X-Http-Method", "X-Http-Method-Override", "X-Method-Override"}

// rerouting are headers by which some services take another path for that of the request.
var rerouting = []string{"X-Original-Url", "X-Rewrite-Url"}

// judge says by which rule a route lets a request through: both its method and any that a header puts in place of it must be let
// through, and no header may put another path in place of its own.
func judge(req *http.Request, r *route.Route, path string) (rule string, err error) {
	if rule, err = r.Judge(req.Method, path); err != nil {
		return rule, err
	}
	for name, values := range req.Header {
		if slices.Contains(rerouting, headerName(name)) {
			return rule, &route.Refusal{Kind: route.BadTarget, Text: "the header " + name + " would give the request another path"}
		}
		if !slices.Contains(overriding, headerName(name)) {
			continue
		}
		for _, method := range values {
			method = strings.ToUpper(method)
			if err := route.CheckMethod(method); err != nil {
				return rule, err
			}
			if by, err := r.Judge(method, path); err != nil {
				return by, err
			}
		}
	}
	return rule, nil
}

// rewrite makes the request that is sent of the one that has come. Beside the credentials and what is said of the connection
// itself, all stays as it is.
func (x *exchange) rewrite(p *httputil.ProxyRequest) {
	to := *x.to
	p.Out.URL, p.Out.Host = &to, ""
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := p.In.Header[name]; ok { // the proxy takes them away
			p.Out.Header[name] = values
		}
	}
	if !x.Foreign {
		strip(p.Out, x.route)
	}
	if switchesHTTP(p.Out.Header) {
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			delete(p.Out.Header, name)
		}
	}
	askReadable(p.Out.Header)
	if p.Out.Body != nil && p.Out.Body != http.NoBody {
		p.Out.Body = &moving{ReadCloser: p.Out.Body, idle: x.idle, count: &x.sent}
	}
}

// switchesHTTP reports whether a request asks for HTTP in another form on the same connection (RFC 7540 §3.2, RFC 2817). Nobody
// would judge the requests that come in it.
func switchesHTTP(h http.Header) bool {
	for protocol := range strings.SplitSeq(h.Get("Upgrade"), ",") {
		name, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(protocol)), "/")
		if name == "h2c" || name == "http" || name == "tls" {
			return true
		}
	}
	return false
}

// RoundTrip sends the request, with the token unless it carries a credential of its own.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	upgrade := req.Header.Get("Upgrade") != ""
	switch {
	case x.Foreign && upgrade:
		return x.road.upgraded.Base.RoundTrip(req)
	case x.Foreign:
		return x.road.ordinary.Base.RoundTrip(req)
	case upgrade:
		return x.road.upgraded.RoundTrip(req)
	}
	return x.road.ordinary.RoundTrip(req)
}

// answer changes an answer on its way to the tool. Every answer of an upstream comes by here, before anything of it is sent.
func (x *exchange) answer(resp *http.Response) error {
	if no := unrenewed(x.renewed, x.route); no != nil {
		resp.Body.Close()
		return no // failed tells the tool
	}
	x.Status = resp.StatusCode
	x.stream = strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	if at := resp.Header.Get("Location"); at != "" {
		resp.Header.Set("Location", x.location(at))
	}
	if body, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &movingBoth{moving{ReadCloser: body, idle: x.idle, count: &x.received}, body, &x.sent}
	} else {
		resp.Body = &moving{ReadCloser: resp.Body, idle: x.idle, count: &x.received, ended: func() { x.clean(resp.Trailer) }}
	}
	if no := readable(resp, x.Method); no != nil {
		resp.Body.Close()
		return no
	}
	if len(resp.Trailer) > 0 {
		resp.Header.Del("Content-Length") // HTTP/1.1 has no trailer behind a body of stated length, as HTTP/2 has
	}
	x.clean(resp.Header)
	x.clean(resp.Trailer)
	resp.Status = x.road.tokens.scrubber().String(resp.Status) // it is sent before an upgrade
	resp.Body = x.road.tokens.scrubber().Reader(resp.Body)
	return nil
}

// clean takes out of a header what must not come to the tool: tokens, and another way to the upstream, which would lead past us.
func (x *exchange) clean(h http.Header) {
	delete(h, "Alt-Svc")
	x.road.tokens.header(h)
}

// cleaning writes to the tool. Through it go the informational answers, which no ModifyResponse sees.
type cleaning struct {
	http.ResponseWriter
	x *exchange
}

func (c cleaning) WriteHeader(status int) {
	if status < http.StatusOK {
		c.x.clean(c.Header())
	}
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (c cleaning) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// location returns where the tool finds what a Location leads to: through us, if a route covers it.
func (x *exchange) location(at string) string {
	to, err := x.to.Parse(at)
	if err != nil {
		return at
	}
	if there := x.gateway.routes.Location("http://"+x.base, to); there != "" && x.base != "" {
		return there
	}
	return to.String()
}

// failed tells the tool why there is no answer.
func (x *exchange) failed(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	if !errors.As(err, &no) {
		if r.Context().Err() != nil && !errors.Is(context.Cause(r.Context()), errIdle) {
			return // the tool has gone
		}
		no = unsent(err, x.route)
		no.message = x.road.tokens.scrubber().String(no.message) // it may quote an answer that can't be read
	}
	x.refuse(w, no)
}

// refuse answers a request in the gateway's own words.
func (x *exchange) refuse(w http.ResponseWriter, no *refusal) {
	x.Status, x.Refused = no.status, no.message
	if no.quotes {
		x.Refused, _, _ = strings.Cut(no.message, ` "`)
	}
	shape := route.Plain
	if x.route != nil {
		shape = x.route.Errors
	}
	no.write(w, shape, x.route)
}

// over tells of the exchange at its end. It is the one place where what was decided is passed on.
func (x *exchange) over() {
	if x.gateway.options.Decided == nil {
		return
	}
	d := x.Decision
	d.Began, d.Took, d.Sent, d.Received = x.began, time.Since(x.began), x.sent.Load(), x.received.Load()
	for _, text := range []*string{&d.Method, &d.Host, &d.Path, &d.Refused} { // a tool puts a stand-in anywhere
		*text = hide(*text)
	}
	x.gateway.options.Decided(d)
}

// moving is a body that keeps its exchange from being idle, and counts its bytes.
type moving struct {
	io.ReadCloser
	idle  *time.Timer
	count *atomic.Int64
	ended func() // nil: nobody is told of the end
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.moved(n, m.count)
	if err != nil && m.ended != nil {
		m.ended()
	}
	return n, err
}

func (m *moving) moved(n int, count *atomic.Int64) {
	if n > 0 {
		count.Add(int64(n))
		m.idle.Reset(idleTime)
	}
}

// movingBoth is a connection that has been upgraded to another protocol.
type movingBoth struct {
	moving
	to   io.Writer
	sent *atomic.Int64
}

func (m *movingBoth) Write(p []byte) (int, error) {
	n, err := m.to.Write(p)
	m.moved(n, m.sent)
	return n, err
}

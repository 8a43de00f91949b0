package httpauth

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// Transport is an http.RoundTripper that sends each request with an agent's token in its Authorization header, in place of
// any that is there.
//
//   - The agent refuses a token for a host that the profile does not list: the request fails with ErrDenied and is not sent.
//   - A request over plain HTTP is not sent either (ErrDenied), unless it goes to this machine.
//   - A request that a redirect made, and that goes to another origin than the one it began at, is sent without the token.
//   - A 401 is answered once: with a fresh token, if there is one, and if the request has no body or a GetBody to send it
//     again. A server that refuses a fresh token as well causes no further renewal for 30 seconds.
//   - The request's context bounds the wait for the token too.
//
// The token is in no error, and not in Response.Request: that is the request as the caller made it. To the server's answer and
// its body nothing is done.
type Transport struct {
	// Agent is where the token comes from.
	Agent *Agent
	// Base sends the requests; nil: http.DefaultTransport.
	Base http.RoundTripper
}

var _ http.RoundTripper = (*Transport)(nil)

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if strayed(req) {
		return base.RoundTrip(req)
	}
	host := strings.ToLower(req.URL.Hostname())
	l, err := t.permit(req, host)
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // RoundTrip must, whatever happens
		}
		return nil, err
	}
	resp, err := base.RoundTrip(with(req, l, req.Body))
	if err != nil {
		return nil, err
	}
	resp.Request = req
	if resp.StatusCode != http.StatusUnauthorized {
		return resp, nil
	}
	return t.again(base, req, resp, host, l)
}

// permit is a token for a request that may carry one.
func (t *Transport) permit(req *http.Request, host string) (*lease, error) {
	if req.URL.Scheme != "https" && !secureurl.Loopback(host) {
		return nil, &protocol.Error{
			Code:    protocol.CodeDenied,
			Message: "a token is not sent unencrypted to another machine",
			Hint:    "use an https:// URL",
		}
	}
	return t.Agent.take(req.Context(), host)
}

// again answers a refusal of l: with the response to a second try, or where none can be made with the one there is.
func (t *Transport) again(
	base http.RoundTripper,
	req *http.Request,
	refusal *http.Response,
	host string,
	l *lease,
) (*http.Response, error) {
	f := t.Agent.fresh(host, l)
	if f == nil {
		return refusal, nil
	}
	body := req.Body
	if body != nil && body != http.NoBody {
		if req.GetBody == nil {
			return refusal, nil // the next request has the benefit
		}
		var err error
		if body, err = req.GetBody(); err != nil {
			return refusal, nil
		}
	}
	fresh, err := f.wait(req.Context())
	if err != nil || fresh.same(l) {
		if body != nil {
			body.Close()
		}
		return refusal, nil
	}
	io.CopyN(io.Discard, refusal.Body, 16<<10) // read to its end, the connection serves again
	refusal.Body.Close()
	resp, err := base.RoundTrip(with(req, fresh, body))
	if err != nil {
		return nil, err
	}
	resp.Request = req
	if resp.StatusCode == http.StatusUnauthorized {
		t.Agent.hopeless()
	}
	return resp, nil
}

// with is req with a token and a body. A RoundTripper leaves the request itself as it is.
func with(req *http.Request, l *lease, body io.ReadCloser) *http.Request {
	sent := new(http.Request)
	*sent = *req
	sent.Body = body
	if sent.Header = maps.Clone(req.Header); sent.Header == nil {
		sent.Header = http.Header{}
	}
	sent.Header["Authorization"] = l.header
	return sent
}

// strayed reports whether redirects have led a request away from the origin that it was made for. Once is enough: what
// another origin sends back here is that origin's request.
func strayed(req *http.Request) bool {
	for resp := req.Response; resp != nil; resp = resp.Request.Response {
		if resp.Request == nil || !sameOrigin(resp.Request.URL, req.URL) {
			return true
		}
	}
	return false
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// fold is a host as the agent compares it: a name without its port, in lower case.
func fold(host string) string {
	if strings.Contains(host, ":") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
	}
	return strings.ToLower(host)
}

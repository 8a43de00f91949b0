package httpauth

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// Transport is an http.RoundTripper that sends each request with an agent's token at the place for it. It replaces what the
// request has there.
//
//   - The agent refuses a token for a host that the profile does not list. Then the request fails with ErrDenied and is not sent.
//   - A request over plain HTTP is not sent either (ErrDenied), unless it goes to this machine.
//   - A request that follows a redirect to another origin than the first one is sent without the token.
//   - After a 401 the request is sent a second time, with a new token, if there is one and if the request has no body or one that
//     can be sent again (GetBody, RecordBodies). If the server refuses the new token as well, no further renewal is forced for 30
//     seconds.
//   - The request's context bounds the wait for the token too.
//
// The token is in no error, and not in Response.Request, which is the request as the caller made it. The server's answer and its
// body are passed on unchanged. RoundTrip may be called concurrently; the fields must not change meanwhile.
type Transport struct {
	// Agent is where the token comes from.
	Agent *Agent
	// Base sends the requests; nil: http.DefaultTransport.
	Base http.RoundTripper
	// Place is where the token goes; the zero value is the Authorization header with the scheme Bearer.
	Place place.Place
	// RenewOn are the statuses by which the server refuses a token; nil: 401 alone.
	RenewOn []int
	// RecordBodies keeps the bodies of requests without GetBody while they are sent, so that these can be sent again too: up to
	// 1 MiB of each, and 64 MiB in all.
	RecordBodies bool
	// Renewed is called after a refusal for which another token was asked for. err says why there is none: the refusal is returned.
	// Otherwise the request is sent again where that is possible. nil: nobody is told.
	Renewed func(req *http.Request, err error)

	recorded atomic.Int64 // bytes that are kept now
}

var _ http.RoundTripper = (*Transport)(nil)

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if leftOrigin(req) {
		return base.RoundTrip(req)
	}
	host := hosts.Name(req.URL.Scheme, req.URL.Hostname(), req.URL.Port())
	token, err := t.token(req, host)
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // a RoundTripper must close it in any case
		}
		return nil, err
	}
	body := req.Body
	var record *recording
	if t.RecordBodies && body != nil && body != http.NoBody && req.GetBody == nil {
		record = &recording{body: body, all: &t.recorded}
		body = record.first()
	}
	resp, err := base.RoundTrip(t.withToken(req, token, body))
	if err == nil && t.refused(resp) {
		resp, err = t.retry(base, req, resp, host, token, record)
	}
	if record != nil {
		record.settle()
	}
	if err != nil {
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// refused reports whether a server has refused the token.
func (t *Transport) refused(resp *http.Response) bool {
	if t.RenewOn == nil {
		return resp.StatusCode == http.StatusUnauthorized
	}
	return slices.Contains(t.RenewOn, resp.StatusCode)
}

// token returns the token for a request. It fails with ErrDenied where the request must not carry one.
func (t *Transport) token(req *http.Request, host string) (*cached, error) {
	if req.URL.Scheme != "https" && !secureurl.Loopback(req.URL.Hostname()) {
		return nil, &protocol.Error{
			Code:    protocol.CodeDenied,
			Message: "a token is not sent unencrypted to another machine",
			Hint:    "use an https:// URL",
		}
	}
	return t.Agent.get(req.Context(), host)
}

// retry sends a request again whose token the server has refused, and returns the second answer. Where the request can't be sent
// again, it returns the first answer. record is the recording of the body, nil if there is none.
func (t *Transport) retry(
	base http.RoundTripper, req *http.Request, refusal *http.Response, host string, refused *cached, record *recording,
) (*http.Response, error) {
	renewal := t.Agent.renew(host, refused)
	if renewal == nil || !repeatable(req, record) {
		return refusal, nil // the next request will use the new token
	}
	token, err := renewal.wait(req.Context())
	if t.Renewed != nil {
		t.Renewed(req, err)
	}
	if err != nil || token.same(refused) {
		return refusal, nil
	}
	body := req.Body
	switch {
	case record != nil:
		if body = record.again(); body == nil { // more of it was sent while we waited
			return refusal, nil
		}
	case body != nil && body != http.NoBody:
		if body, err = req.GetBody(); err != nil {
			return refusal, nil
		}
	}
	io.CopyN(io.Discard, refusal.Body, 16<<10) // a connection can be reused when its body has been read to the end
	refusal.Body.Close()
	resp, err := base.RoundTrip(t.withToken(req, token, body))
	if err == nil && t.refused(resp) {
		t.Agent.newTokenRefused()
	}
	return resp, err
}

// repeatable reports whether a request can be sent again. record is the recording of its body, nil if there is none.
func repeatable(req *http.Request, record *recording) bool {
	if record != nil {
		return record.whole()
	}
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// withToken returns a copy of a request with a token and a body. A RoundTripper must not change the request itself.
func (t *Transport) withToken(req *http.Request, token *cached, body io.ReadCloser) *http.Request {
	sent := new(http.Request)
	*sent = *req
	sent.Body = body
	if sent.Header = maps.Clone(req.Header); sent.Header == nil {
		sent.Header = http.Header{}
	}
	switch t.Place {
	case place.Bearer:
		sent.Header["Authorization"] = token.header
	default:
		target := *req.URL
		sent.URL = &target
		t.Place.Put(sent.Header, sent.URL, token.token.Value.Reveal())
	}
	return sent
}

// leftOrigin reports whether redirects have led a request to another origin than its first one, at any time. If another origin
// sends us back, the request is that origin's.
func leftOrigin(req *http.Request) bool {
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

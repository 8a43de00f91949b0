package httpauth

import (
	"net/http"
	"net/url"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

const (
	// askTimeout bounds one request to an issuer.
	askTimeout = 10 * time.Second
	// maxReply bounds its answer.
	maxReply = 1 << 20
)

// checkURL refuses a URL that keys or tokens would travel to and from in the clear.
func checkURL(what, raw string) error {
	if _, err := secureurl.Parse(raw); err != nil {
		return config(what + " " + err.Error())
	}
	return nil
}

// isPlain reports whether a URL is one of plain http, which an https issuer's keys never come by: on this machine any program
// may answer.
func isPlain(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "http"
}

// asking is the client's way to ask issuers: it follows no redirect, and waits for no answer without end.
func asking(c *http.Client) *http.Client {
	if c == nil {
		c = http.DefaultClient
	}
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if own.Timeout == 0 {
		own.Timeout = askTimeout
	}
	return &own
}

// via is the transport of a client.
func via(c *http.Client) http.RoundTripper {
	if c.Transport != nil {
		return c.Transport
	}
	return http.DefaultTransport
}

func notGood(why string) error {
	return &protocol.Error{Code: protocol.CodeDenied, Message: "the token is not good: " + why}
}

func notNow(why string) error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: why}
}

package oauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// endpoint is a URL that secrets may be sent to.
type endpoint struct {
	what  string // token endpoint ...; for messages
	URL   string
	Host  string // with the port where one is named; for messages
	plain bool   // http, so to a loopback address
}

// Origin returns scheme://host[:port] of a URL that secrets may be sent to, in lower case and without a default port. For any
// other it returns ErrConfig.
func Origin(raw string) (string, error) {
	u, err := secureurl.Parse(raw)
	if err != nil {
		return "", refuse(tokenEndpoint, err)
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + strings.TrimSuffix(host, ":"), nil
}

// The endpoints as messages name them.
const tokenEndpoint = "token endpoint"

func parseEndpoint(what, raw string) (endpoint, *protocol.Error) {
	u, err := secureurl.Parse(raw)
	if err != nil {
		return endpoint{}, refuse(what, err)
	}
	return endpoint{what: what, URL: u.String(), Host: clean(u.Host, nil), plain: u.Scheme == "http"}, nil
}

// refuse is an endpoint that no secret is sent to, and why.
func refuse(what string, why error) *protocol.Error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "the " + what + " " + why.Error()}
}

// transport makes one of e for a single request of the client: HTTP/1.1, because HTTP/2's transport resends requests that a
// server refuses to take; no kept connections; no decompression, so that the limit on a body is one on what is read.
func (c *Client) transport(e endpoint) *http.Transport {
	dialer, proxy := &net.Dialer{Timeout: 10 * time.Second}, c.proxyOf
	if e.plain {
		proxy = nil // it would read what is in clear text, and has no way to our loopback interface
		// "localhost" is what the resolver says it is: look at the address itself.
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
				return errNotLoopback
			}
			return nil
		}
	}
	return &http.Transport{
		Proxy: proxy,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return proxyRefused(answer.StatusCode)
			}
			return nil
		},
		DialContext:            dialer.DialContext,
		TLSClientConfig:        c.tls(),
		TLSHandshakeTimeout:    10 * time.Second,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxReplyHeader,
	}
}

var errNotLoopback = errors.New("plain http is for loopback addresses only")

package oauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// endpoint is a URL that secrets may be sent to.
type endpoint struct {
	what  string // token endpoint ...; for messages
	URL   string
	Host  string // with the port where one is named; for messages
	plain bool   // http, so to a loopback address
}

// CheckURL returns an error (ErrConfig) that says why secrets can't be sent to a URL: it must be https, or http to a
// loopback address (127.0.0.0/8, ::1, localhost), and hold no user name, password or fragment.
func CheckURL(raw string) error {
	if _, err := parseEndpoint(tokenEndpoint, raw); err != nil {
		return err
	}
	return nil
}

// Origin returns scheme://host[:port] of a URL that CheckURL accepts, in lower case and without a default port.
func Origin(raw string) (string, error) {
	if _, err := parseEndpoint(tokenEndpoint, raw); err != nil {
		return "", err
	}
	u, _ := url.Parse(raw)
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
	refuse := func(format string, args ...any) (endpoint, *protocol.Error) {
		return endpoint{}, &protocol.Error{Code: protocol.CodeConfig, Message: "the " + what + fmt.Sprintf(format, args...)}
	}
	// A URL that does not parse, or that holds a password, is not repeated in the message.
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return refuse(" is not set")
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return refuse(" is not a URL of the form https://host/path")
	case u.User != nil:
		return refuse("'s URL holds a user name or password")
	case u.Fragment != "":
		return refuse("'s URL has a fragment")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return refuse(" at %s is plain http, which is for loopback addresses only", clean(u.Host, nil))
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse(" at %s is neither https nor http", clean(u.Host, nil))
	}
	return endpoint{what: what, URL: u.String(), Host: clean(u.Host, nil), plain: u.Scheme == "http"}, nil
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
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

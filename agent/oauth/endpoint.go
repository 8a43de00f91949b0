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

// The endpoints by the names that discovery has for them (RFC 8414 section 2, OpenID Connect Discovery section 3).
const (
	authorizationEndpoint = "authorization_endpoint"
	tokenEndpoint         = "token_endpoint"
	DeviceEndpoint        = "device_authorization_endpoint"
	RevocationEndpoint    = "revocation_endpoint"
	introspectionEndpoint = "introspection_endpoint"
	UserinfoEndpoint      = "userinfo_endpoint"
	keysEndpoint          = "jwks_uri"
	registrationEndpoint  = "registration_endpoint"
)

// endpoint is one of a client's endpoints.
type endpoint struct {
	name     string  // as discovery calls it
	what     string  // as messages call it
	url      *string // the field of the client
	isSecret bool    // a secret is sent there, or a person types one there
}

func (c *Client) endpoints() []endpoint {
	return []endpoint{
		{authorizationEndpoint, "sign-in page", &c.AuthorizeURL, true},
		{tokenEndpoint, "token endpoint", &c.TokenURL, true},
		{DeviceEndpoint, "device authorization endpoint", &c.DeviceURL, true},
		{RevocationEndpoint, "revocation endpoint", &c.RevokeURL, true},
		{introspectionEndpoint, "introspection endpoint", &c.IntrospectURL, true},
		{UserinfoEndpoint, "user profile endpoint", &c.ProfileURL, true},
		{keysEndpoint, "address of the signing keys", &c.KeysURL, false},
		{registrationEndpoint, "registration endpoint", &c.RegisterURL, false},
	}
}

// find returns the URL of an endpoint that is needed now. It fails with ErrConfig where there is none, or none that a secret may
// be sent to, and with the reason why discovery did not take it.
func (c *Client) find(name string) (target, *Error) {
	for _, e := range c.endpoints() {
		if e.name != name {
			continue
		}
		if *e.url == "" && c.refused[name] != nil {
			return target{}, &Error{Condition: c.refused[name]}
		}
		return parseURL("the "+e.what, *e.url)
	}
	return target{}, fail(protocol.CodeInternal, "no endpoint is called "+name)
}

// target is a URL that secrets may be sent to.
type target struct {
	name  string // what the URL is of, for messages: "the token endpoint"
	URL   string
	Host  string // with the port where the URL names one, fit to be shown
	plain bool   // plain http, so a loopback address
}

// parseURL returns the target that a URL names. It fails with ErrConfig where no secret may be sent to it.
func parseURL(name, raw string) (target, *Error) {
	u, err := secureurl.Parse(raw)
	if err != nil {
		return target{}, fail(protocol.CodeConfig, name+" "+printable(err.Error()))
	}
	return target{name: name, URL: u.String(), Host: printable(u.Host), plain: u.Scheme == "http"}, nil
}

// Origin returns scheme://host[:port] of a URL that secrets may be sent to, in lower case and without a default port. For any
// other it returns ErrConfig.
func Origin(raw string) (string, error) {
	u, err := secureurl.Parse(raw)
	if err != nil {
		return "", &protocol.Error{Code: protocol.CodeConfig, Message: "the URL " + printable(err.Error())}
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

// transport returns a transport for a single request to a URL. It speaks HTTP/1.1 only, because Go's HTTP/2 transport repeats
// requests that a server refuses to take. It keeps no connections. It does not decompress, so that the limit on a body is a limit
// on what is read.
func (c *Client) transport(to target) *http.Transport {
	dialer, proxy := &net.Dialer{Timeout: 10 * time.Second}, c.proxyFor
	if to.plain {
		proxy = nil // a proxy would read what is not encrypted, and can't reach our loopback interface anyway
		// The resolver decides what "localhost" is, so check the address itself.
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

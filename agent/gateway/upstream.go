package gateway

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/address"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/secureurl"
)

// way is how the requests of one route reach its services.
type way struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error) // nil: to the addresses within reach
	choose func(*http.Request) (*url.URL, error)                                // the proxy; nil: none
	reach  address.Reach

	proxies sync.Map // the addresses of the proxies that were chosen, HOST:PORT
}

// transports returns what sends a route's requests: a transport that speaks HTTP/1.1 and HTTP/2, and one that speaks HTTP/1.1
// alone, for requests that ask for another protocol. Each route has its own, because a connection that one route may make is not
// every other's.
func transports(o *Options, r *route.Route) (ordinary, upgraded *http.Transport) {
	w := &way{dial: o.Dial, choose: o.Proxy}
	if r.Private {
		w.reach = address.Private
	}
	if r.Proxy != nil {
		w.choose = http.ProxyURL(r.Proxy)
	}
	ordinary = &http.Transport{
		DialContext: w.connect, Proxy: w.proxy, TLSClientConfig: r.TLS.Clone(),
		DisableCompression: true, MaxResponseHeaderBytes: maxHeaders,
		TLSHandshakeTimeout: connectTime, ExpectContinueTimeout: time.Second, IdleConnTimeout: 90 * time.Second,
		MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true,
	}
	upgraded = ordinary.Clone()
	upgraded.ForceAttemptHTTP2 = false
	upgraded.Protocols = new(http.Protocols)
	upgraded.Protocols.SetHTTP1(true)
	return ordinary, upgraded
}

// connect makes a connection, of which the address is judged when it is made. The route names every host that it is asked for:
// so one on this machine is meant to be reached there. Where a proxy is may be anywhere.
func (w *way) connect(ctx context.Context, network, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if w.dial != nil {
		return w.dial(ctx, network, to)
	}
	reach := w.reach
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	if _, ok := w.proxies.Load(to); ok || secureurl.Loopback(host) {
		reach = address.Loopback
	}
	return address.Dialer(reach).DialContext(ctx, network, to)
}

// proxy returns the proxy for a request, nil if there is none for it. A proxy looks names up itself: only where the URL has an
// address can that be judged. What is on this machine would be another to a proxy: it is reached without one.
func (w *way) proxy(req *http.Request) (*url.URL, error) {
	if w.choose == nil || secureurl.Loopback(req.URL.Hostname()) {
		return nil, nil
	}
	proxy, err := w.choose(req)
	if proxy == nil || err != nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		if err := address.Check(addr, w.reach); err != nil {
			return nil, err
		}
	}
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	}
	w.proxies.Store(net.JoinHostPort(proxy.Hostname(), port), true)
	return proxy, nil
}

// Package secureurl decides which URLs a secret may be sent to: those of https, and those of plain http that do not leave this
// machine (RFC 6749 §3.1 and §3.2, RFC 8252 §8.3). It also says which proxies they may go through.
package secureurl

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Parse returns a URL that a secret may be sent to. For any other its error says what is wrong, in words that can follow a name:
// "the token endpoint" and "is not set". They repeat no query, nothing of a URL with a user name, and nothing of what can't be
// parsed: there may be a password in each.
func Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return nil, errors.New("is not set")
	case strings.ContainsAny(raw, "{}<>"): // no URL has any of them (RFC 3986 section 2)
		return nil, errors.New("has a placeholder in it, in {} or <>: put what is meant there in its place")
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("is not a URL of the form https://host/path")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("must hold neither a user name nor a fragment")
	case u.Scheme == "https" || u.Scheme == "http" && Loopback(u.Hostname()):
		return u, nil
	}
	u.RawQuery = ""
	return nil, errors.New(strconv.Quote(u.String()) + " must begin with https:// (plain http is for loopback addresses alone)")
}

// KnownProxy reports whether a proxy is of a kind that net/http speaks to. It would take any other for one of kind http.
func KnownProxy(proxy *url.URL) bool {
	return slices.Contains([]string{"http", "https", "socks5", "socks5h"}, proxy.Scheme)
}

// Loopback reports whether a host (without a port or brackets) is this machine: localhost or an address of a loopback interface.
func Loopback(host string) bool {
	if strings.ToLower(host) == "localhost" { // EqualFold would take the letter ſ for an s
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

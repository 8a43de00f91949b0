package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

// hostOf returns the host of a URL, as hostAt does.
func hostOf(url string) (string, error) {
	scheme, authority, err := splitURL(url)
	if err != nil {
		return "", err
	}
	return hostAt(scheme, authority)
}

// hostOfServer returns the host of the MCP server for which Claude Code wants headers, protocol.UnnamedHost if its URL can't be
// read safely, and "" if there is none. A project's settings may name any server beside our command. So a profile that lists
// hosts gives its token to no other.
func hostOfServer(url string) string {
	if url == "" {
		return ""
	}
	if rest, ok := strings.CutPrefix(url, "wss://"); ok {
		url = "https://" + rest
	}
	host, err := hostOf(url)
	if err != nil {
		return protocol.UnnamedHost
	}
	return host
}

// splitURL returns a URL's scheme and authority as they are written. It refuses blanks, control characters and backslashes: some
// programs leave them out or read a backslash as a slash.
func splitURL(url string) (scheme, authority string, err error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok || strings.ContainsFunc(url, func(c rune) bool { return c <= ' ' || c > '~' || c == '\\' }) {
		return "", "", badHost()
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return scheme, rest, nil
}

// hostAt returns the host of host[:port] as a request names it (hosts.Name). It refuses whatever two programs could read in two
// ways, and a host without TLS (RFC 6750 §5.3) unless that is this machine.
func hostAt(scheme, authority string) (string, error) {
	host, port, hasPort := strings.ToLower(authority), "", false
	if literal, ok := strings.CutPrefix(host, "["); ok {
		literal, rest, closed := strings.Cut(literal, "]")
		addr, err := netip.ParseAddr(literal)
		if !closed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", badHost()
		}
		host = addr.String()
		if port, hasPort = strings.CutPrefix(rest, ":"); rest != "" && !hasPort {
			return "", badHost()
		}
	} else if host, port, hasPort = strings.Cut(host, ":"); !hosts.IsName(host) {
		return "", badHost()
	}
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0) {
		return "", badHost()
	}
	here := host == "localhost" || host == "127.0.0.1" || host == "::1"
	switch scheme = strings.ToLower(scheme); {
	case scheme == "https", scheme == "grpcs", (scheme == "http" || scheme == "grpc") && here:
		return hosts.Name(scheme, host, port), nil
	case scheme == "http", scheme == "grpc":
		return "", wrongUsage("a token is not sent to " + host + " without TLS")
	}
	return "", wrongUsage("a token is sent only over https and grpcs")
}

func badHost() error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "the host that the tool names can't be read safely",
		Hint: "write it as a name in ASCII or an IP address, with or without a port: no user name, no dot at the end, no blank"}
}

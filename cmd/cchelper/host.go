package main

import (
	"strconv"
	"strings"
)

// hostOf returns the host of a URL, or of host[:port] with or without a path, in lower case. Whatever two programs could read
// in two ways is refused, and so is a host without TLS (RFC 6750 §5.3) unless it is this machine.
func hostOf(url string) (string, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		scheme, rest = "https", url
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	host := strings.ToLower(rest)
	if strings.HasPrefix(host, "[") { // an IPv6 address
		end := strings.IndexByte(host, ']')
		if end < 0 || len(host) > end+1 && host[end+1] != ':' || !strings.Contains(host[:end], ":") {
			return "", badHost()
		}
		host, rest = host[1:end], host[end+1:]
	} else {
		host, rest, _ = strings.Cut(host, ":")
		if rest != "" {
			rest = ":" + rest
		}
	}
	for _, c := range strings.TrimPrefix(rest, ":") {
		if c < '0' || c > '9' {
			return "", badHost()
		}
	}
	for _, c := range host {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' || c == ':') {
			return "", badHost()
		}
	}
	switch {
	case host == "":
		return "", badHost()
	case scheme == "https", scheme == "http" && (host == "localhost" || host == "127.0.0.1" || host == "::1"):
		return host, nil
	case scheme == "http":
		return "", wrongUsage("a token is not sent to " + host + " without TLS")
	}
	return "", wrongUsage("only https has a use for a token")
}

func badHost() error { return wrongUsage("the host that the tool names can't be read safely") }

// onlyMember reads a JSON object with one member, a string of ASCII: all that bazel sends.
func onlyMember(text, key string) (string, bool) {
	text = strings.TrimSpace(text)
	for _, want := range []string{"{", `"` + key + `"`, ":", `"`} {
		rest, ok := strings.CutPrefix(text, want)
		if !ok {
			return "", false
		}
		if text = rest; want != `"` {
			text = strings.TrimLeft(text, " \t\r\n")
		}
	}
	var value []byte
	for len(text) > 0 && text[0] != '"' {
		c := text[0]
		text = text[1:]
		if c == '\\' {
			var ok bool
			if c, text, ok = escape(text); !ok {
				return "", false
			}
		}
		value = append(value, c)
	}
	rest, ok := strings.CutPrefix(text, `"`)
	return string(value), ok && strings.TrimSpace(rest) == "}"
}

// escape reads what follows a backslash. Bazel writes = and & of a URL as \u003d and \u0026.
func escape(text string) (c byte, rest string, ok bool) {
	switch {
	case text == "":
		return 0, "", false
	case strings.IndexByte(`"\/`, text[0]) >= 0:
		return text[0], text[1:], true
	case text[0] != 'u' || len(text) < 5:
		return 0, "", false
	}
	n, err := strconv.ParseUint(text[1:5], 16, 16)
	return byte(n), text[5:], err == nil && n < 0x80
}

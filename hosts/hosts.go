// Package hosts has the one rule for which hosts a token may go to: how a host is named in a request, what a list of hosts may
// hold, and which names an entry of such a list matches.
package hosts

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// Name returns the host of a URL as requests name it: in lower case, without brackets, and followed by the port if that is not
// the port of the scheme. For this machine the port is always named. host has no port; port is "" if the URL has none.
func Name(scheme, host, port string) string {
	host = strings.ToLower(host)
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	own := ""
	switch strings.ToLower(scheme) {
	case "https", "grpcs":
		own = "443"
	case "http", "grpc":
		own = "80"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		port = strconv.FormatUint(n, 10) // 0443 is 443
	}
	if port == "" {
		port = own
	}
	if port == "" || port == own && !loopback(host) {
		return host
	}
	return join(host, port)
}

// At is [Name] for a host that may be followed by its port.
func At(scheme, authority string) string {
	host, port := split(authority)
	return Name(scheme, host, port)
}

// Pattern returns an entry of a list of hosts in its one spelling. An entry is a name or an address (an IPv6 address with a port
// is in brackets), or *.NAME, and may have a port. The error says why an entry can match no host.
func Pattern(written string) (string, error) {
	host, port := strings.ToLower(written), ""
	bracketed := strings.HasPrefix(host, "[")
	if _, err := netip.ParsePrefix(host); err == nil {
		return "", errors.New("a range of addresses can't be listed: write each address")
	}
	switch {
	case strings.Contains(host, "@"): // before the port, which a password is not
		return "", errors.New("write the name alone, without a path or a user")
	case strings.Contains(host, "://"):
		return "", errors.New("write it without the scheme")
	case bracketed:
		literal, rest, closed := strings.Cut(host[1:], "]")
		if addr, err := netip.ParseAddr(literal); !closed || err != nil || !addr.Is6() || rest != "" && rest[0] != ':' {
			return "", errors.New("only an IPv6 address is written in brackets")
		}
		if host = literal; rest == ":" {
			return "", errors.New("its port is missing")
		}
		port = strings.TrimPrefix(rest, ":")
	case strings.Count(host, ":") == 1:
		if host, port, _ = strings.Cut(host, ":"); port == "" {
			return "", errors.New("its port is missing")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0 || strconv.FormatUint(n, 10) != port) {
		return "", errors.New("its port is not a number from 1 to 65535")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return "", errors.New("the zone of an address has a meaning on this machine only")
		}
		host = addr.String()
	} else if err := checkName(host); err != nil {
		return "", err
	}
	if port == "" || port == "443" && !loopback(host) { // without TLS a token goes to this machine only
		return host, nil
	}
	return join(host, port), nil
}

// checkName says why a name, or a pattern of names, matches no host.
func checkName(name string) error {
	rest, wild := strings.CutPrefix(name, "*.")
	switch {
	case name == "":
		return errors.New("it is empty")
	case name == "*":
		return errors.New("a token may not go to every host: name them, or write *.example.com")
	case strings.HasSuffix(name, "."):
		return errors.New("write it without the dot at the end")
	case strings.HasPrefix(name, "."):
		return errors.New("for the names below it write *" + name)
	case strings.Contains(rest, "*"):
		return errors.New("* stands for one whole label at the beginning, as in *.example.com")
	case wild && (likeAddress(rest) || strings.ContainsAny(rest, "[:")):
		return errors.New("* does not stand for a part of an address")
	case wild && !strings.Contains(rest, "."):
		return errors.New("*." + rest + " is too wide: there must be two labels after the *")
	case strings.ContainsAny(rest, "/?#"):
		return errors.New("write the name alone, without a path or a user")
	case strings.ContainsAny(rest, " \t\r\n"):
		return errors.New("there is a blank in it")
	case likeAddress(rest):
		return errors.New("it is not an IPv4 address: write four numbers from 0 to 255, without zeros before them")
	case strings.ContainsFunc(rest, func(c rune) bool { return c > '~' }):
		return errors.New("an international name is written in its xn-- form")
	case !IsName(rest):
		return errors.New("it is not the name of a host")
	}
	return nil
}

// Match reports whether an entry of a list, in the spelling of [Pattern], is for the host that a request names ([Name]). An entry
// without a port is for the scheme's own port, and for this machine for every port.
func Match(pattern, name string) bool {
	host, port := split(name)
	wanted, wantedPort := split(pattern)
	if wantedPort != port && (wantedPort != "" || !loopback(host)) {
		return false
	}
	rest, wild := strings.CutPrefix(wanted, "*.")
	if !wild {
		return strings.EqualFold(wanted, host)
	}
	label, below, ok := strings.Cut(host, ".")
	return ok && label != "" && strings.EqualFold(below, rest)
}

// Listed reports whether an entry of the list is for the host that a request names.
func Listed(list []string, name string) bool {
	for _, pattern := range list {
		if Match(pattern, name) {
			return true
		}
	}
	return false
}

// IsName reports whether host is an IPv4 address, or a name as it is written in the DNS: in lower case, without a dot at its end,
// and no longer than the DNS allows (RFC 1035 §2.3.4). An international name must be written as xn--... What some programs read
// as an address and others don't, such as 127.1 and 010.0.0.1, is neither.
func IsName(host string) bool {
	if likeAddress(host) {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || strings.ContainsFunc(label, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}) {
			return false
		}
	}
	return true
}

// likeAddress reports whether the last label of a name is a number. Then it is an IPv4 address, or nothing that is valid
// (https://url.spec.whatwg.org/#ends-in-a-number-checker).
func likeAddress(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func join(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// split takes a name or a pattern apart. It allocates nothing.
func split(s string) (host, port string) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, port, _ = strings.Cut(rest, "]")
		return host, strings.TrimPrefix(port, ":")
	}
	if strings.Count(s, ":") == 1 {
		host, port, _ = strings.Cut(s, ":")
		return host, port
	}
	return s, ""
}

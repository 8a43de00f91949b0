// Package address decides which addresses the gateway may connect to. A name that a tool chooses may lead anywhere: to the
// service that gives a cloud machine its credentials, to this machine, into the company's network. So the address is judged after
// the name has been resolved, and the one that was judged is the one that is dialled.
package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// ErrRefused is that a connection may not go to an address.
var ErrRefused = errors.New("the gateway does not connect to this address")

// ErrPrivate is ErrRefused for an address to which a connection of reach [Private] may go.
var ErrPrivate = fmt.Errorf("%w", ErrRefused)

// Reach is how far a connection may go.
type Reach int

const (
	// Public is every address of the public internet.
	Public Reach = iota
	// Private is these and the private networks (RFC 1918, RFC 4193, RFC 6598).
	Private
	// Loopback is all of these and this machine.
	Loopback
)

// reserved is a range of addresses, and what it is, as an error says it.
type reserved struct {
	prefix netip.Prefix
	what   string
	reach  Reach // from which on it may be dialled
}

// never is a reach that nobody has.
const never = Loopback + 1

// special returns the addresses that are not of the public internet: those of IANA's special-purpose registries (RFC 6890), and
// those at which clouds serve credentials. The first row that holds an address counts.
var special = sync.OnceValue(func() []reserved {
	row := func(prefix, what string, reach Reach) reserved {
		return reserved{netip.MustParsePrefix(prefix), what, reach}
	}
	const (
		metadata = "a cloud's metadata service"
		linked   = "a link-local address"
		private  = "a private address"
		itself   = "this machine"
		nobody   = "a reserved address"
	)
	return []reserved{
		row("169.254.0.0/16", metadata, never),     // AWS, Azure, Google, Oracle, and RFC 3927
		row("fd00:ec2::/32", metadata, never),      // AWS over IPv6
		row("fd20:ce::254/128", metadata, never),   // Google over IPv6
		row("100.100.100.200/32", metadata, never), // Alibaba
		row("168.63.129.16/32", metadata, never),   // Azure's wire server
		row("192.0.0.192/32", metadata, never),     // Oracle
		row("127.0.0.0/8", itself, Loopback),
		row("::1/128", itself, Loopback),
		row("0.0.0.0/8", itself, never),
		row("::/128", itself, never),
		row("10.0.0.0/8", private, Private),
		row("172.16.0.0/12", private, Private),
		row("192.168.0.0/16", private, Private),
		row("100.64.0.0/10", private, Private),
		row("fc00::/7", private, Private),
		row("fe80::/10", linked, never),
		row("fec0::/10", linked, never),
		row("224.0.0.0/4", nobody, never),
		row("ff00::/8", nobody, never),
		row("240.0.0.0/4", nobody, never),
		row("192.0.0.0/24", nobody, never),
		row("192.0.2.0/24", nobody, never),
		row("198.18.0.0/15", nobody, never),
		row("198.51.100.0/24", nobody, never),
		row("203.0.113.0/24", nobody, never),
		row("192.88.99.0/24", nobody, never),
		row("2001::/23", nobody, never), // Teredo among others, which holds an IPv4 address
		row("2001:db8::/32", nobody, never),
		row("100::/64", nobody, never),
		row("5f00::/16", nobody, never),
	}
})

// Check returns why a connection of this reach may not go to an address: an error of ErrRefused that says what the address is.
func Check(addr netip.Addr, reach Reach) error {
	addr = embedded(addr)
	for _, r := range special() {
		if r.prefix.Contains(addr) {
			if reach >= r.reach {
				return nil
			}
			err := ErrRefused
			if r.reach == Private {
				err = ErrPrivate
			}
			return fmt.Errorf("%w: %s is %s", err, addr, r.what)
		}
	}
	return nil
}

// embedded returns the IPv4 address that an IPv6 address stands for, or else the address itself without its zone.
func embedded(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if !addr.Is6() {
		return addr
	}
	bytes := addr.As16()
	for _, r := range []struct {
		prefix string
		at     int // where in the address the IPv4 address begins
	}{
		{"64:ff9b::/96", 12}, {"64:ff9b:1::/48", 12}, // NAT64: RFC 6052, RFC 8215
		{"2002::/16", 2}, // 6to4: RFC 3056
		{"::/96", 12},    // RFC 4291 §2.5.5.1
	} {
		if netip.MustParsePrefix(r.prefix).Contains(addr) && !addr.IsLoopback() && !addr.IsUnspecified() {
			return netip.AddrFrom4([4]byte(bytes[r.at : r.at+4]))
		}
	}
	return addr
}

// Dialer returns a dialer that connects to addresses of this reach alone. It judges each address of a name when it is about to
// connect to it, and goes on with the next one if it may not. Where none is left, the error is of ErrRefused.
func Dialer(reach Reach) *net.Dialer {
	return &net.Dialer{
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %q is no address", ErrRefused, address)
			}
			return Check(to.Addr(), reach)
		},
	}
}

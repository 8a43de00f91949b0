package oauth

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
)

// peer says which user is at the other end of a callback's connection. The state parameter does not prove that: another user of
// this machine who has learned it could bring a code of their own, and the person would be signed in to that user's account.
type peer int

const (
	unknownPeer peer = iota // a forwarded connection, or a system that does not tell
	ownPeer                 // the user whom this process runs as
	otherPeer               // another user of this machine
)

// ownerFunc returns the user who has the client's end of a connection. Its errors are errNotTold and errHungUp.
type ownerFunc func(server, client netip.AddrPort) (uid int, err error)

// The reasons why ownerOf returns no user.
var (
	errNotTold = errors.New("the system does not say whose connection this is")
	errHungUp  = errors.New("the other end of the connection is closed")
)

// peerOf returns who sent a request, and for another user the user's id, or -1 where the connection is closed already. It looks
// while the request waits for its answer, so that the two addresses can't belong to another connection.
func (l *Loopback) peerOf(r *http.Request) (who peer, uid int) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if !ok || err != nil {
		return unknownPeer, 0
	}
	uid, err = l.ownerOf(plainAddr(local.AddrPort()), plainAddr(remote))
	own := os.Geteuid()
	switch {
	case errors.Is(err, errHungUp): // a browser would wait for the page, and the owner can't be looked up any more
		return otherPeer, -1
	case err != nil:
		return unknownPeer, 0
	case uid == own:
		return ownPeer, uid
	case uid == 0 || uid == overflowUID():
		// Root may forward for somebody else (sshd, a container's proxy). A user of another namespace has no number here.
		return unknownPeer, 0
	}
	return otherPeer, uid
}

// plainAddr turns an IPv4 address that is written as IPv6 into plain IPv4.
func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

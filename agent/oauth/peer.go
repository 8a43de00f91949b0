package oauth

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
)

// Who is at the other end of a callback's connection. The state alone does not say: another user of this machine who has got hold
// of it could bring a code of his own, and the person would be signed in as him.
type peer int

const (
	unknownPeer peer = iota // nobody can say: a forwarded connection, or a system that does not tell
	ownPeer
	otherPeer // another user of this machine
)

// ownerFunc returns the user who has the client's end of a connection. Its errors are errUntold and errHungUp.
type ownerFunc func(server, client netip.AddrPort) (uid int, err error)

// The reasons for which ownerOf names no user.
var (
	errUntold = errors.New("the system does not say whose connection this is")
	errHungUp = errors.New("the other end of the connection is closed")
)

// peerOf returns who sent a request, and his uid where it is another user, or -1 where he has gone already. It looks while the
// request waits for its answer, so the connection's two addresses belong to no other one.
func (l *Loopback) peerOf(r *http.Request) (who peer, uid int) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if !ok || err != nil {
		return unknownPeer, 0
	}
	uid, err = l.ownerOf(plainAddr(local.AddrPort()), plainAddr(remote))
	own := os.Geteuid()
	switch {
	case errors.Is(err, errHungUp): // a browser waits for the page; its owner can't be looked up any more
		return otherPeer, -1
	case err != nil:
		return unknownPeer, 0
	case uid == own:
		return ownPeer, uid
	case uid == 0 || uid == overflowUID():
		return unknownPeer, 0 // root forwards for others (sshd, a container's proxy); a user of another namespace has no number here
	}
	return otherPeer, uid
}

// plainAddr is an address as IPv4 where it is one that is written as IPv6.
func plainAddr(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

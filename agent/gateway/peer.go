package gateway

import (
	"context"
	"net"
	"net/http"
	"syscall"

	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// Peer is the process that has connected, by the kernel's word. On a Unix socket it is known, on TCP it is not: to find it there,
// the open files of all processes would have to be read.
type Peer struct {
	PID     int32  // 0: not known
	Program string // as the kernel names it
}

// peerKey is the key of a connection's peer in the context of its requests.
type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	if _, ok := c.(*net.UnixConn); !ok {
		return ctx
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return ctx
	}
	var p protocol.Peer
	raw.Control(func(fd uintptr) { p, err = protocol.PeerOf(int(fd)) })
	if err != nil || p.PID <= 0 {
		return ctx
	}
	info, _ := process.Of(p.PID)
	return context.WithValue(ctx, peerKey{}, Peer{p.PID, info.Name})
}

func peerOf(r *http.Request) Peer {
	p, _ := r.Context().Value(peerKey{}).(Peer)
	return p
}

package gateway

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
)

// strangers are the connections on which no stand-in has come yet. Any program of this machine may make them. Where there are too
// many, the oldest is closed: a tool shows its stand-in as soon as it is connected.
type strangers struct {
	most  int
	mu    sync.Mutex
	conns []net.Conn // the oldest first
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// come notes a new connection, and returns the context of its requests.
func (s *strangers) come(ctx context.Context, c net.Conn) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns = append(s.conns, c); len(s.conns) > s.most {
		s.conns[0].Close()
		s.conns = slices.Delete(s.conns, 0, 1)
	}
	return context.WithValue(ctx, connKey{}, c)
}

// known notes that a request which is let through has come by its connection.
func (s *strangers) known(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(net.Conn); ok {
		s.gone(c)
	}
}

// changed is for http.Server.ConnState.
func (s *strangers) changed(c net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		s.gone(c)
	}
}

func (s *strangers) gone(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.conns, c); i >= 0 {
		s.conns = slices.Delete(s.conns, i, i+1)
	}
}

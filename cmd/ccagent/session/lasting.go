package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/gateway"
	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/share"
	"github.com/ccagent/ccagent/protocol"
)

// Lasting is a gateway that serves whoever may connect, and belongs to no tool.
type Lasting struct {
	Listener *Listener
	Routes   route.Table
	Wait     time.Duration          // how long the first tokens may take
	Records  func() (string, error) // names the folder for the record of its requests
	Ready    func(Ready) error      // is told what tools are given, before anybody is served
	Notice   func(string)           // is told what a person should know
}

// Last serves until ctx ends, which is no error. It closes the listener.
func Last(ctx context.Context, s Lasting) error {
	defer s.Listener.Close()
	agent, err := protocol.PoolFromEnv(true)
	if err != nil {
		return err
	}
	defer agent.Close()
	first, cancel := context.WithTimeout(ctx, s.Wait)
	defer cancel()
	record := &record{}
	g, err := gateway.New(first, options(agent, s.Routes, record))
	if err != nil {
		return err
	}
	defer g.Close()
	began := audit.Began{Listen: s.Listener.name}
	unrecorded := record.begin(s.Records, began, s.Routes, func(err error) {
		s.Notice("requests are not written down any more: " + err.Error())
	})
	defer record.close()
	if unrecorded != "" {
		s.Notice(unrecorded)
	}
	said := ready(s.Listener.base, g)
	a, ok := s.Listener.Listener.(*admitting)
	if ok {
		for i := range said.Grants {
			said.Grants[i].Tools = nil // they know no Unix sockets, and would look for the base URL on TCP
		}
	}
	if err := s.Ready(said); err != nil {
		return err
	}
	if ok {
		keep, stop := context.WithCancel(ctx)
		var keeping sync.WaitGroup
		keeping.Go(func() { a.Keep(keep, slog.New(slog.DiscardHandler)) })
		defer keeping.Wait()
		defer stop()
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(s.Listener) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}

// ready says what a gateway grants.
func ready(base string, g *gateway.Gateway) Ready {
	said := Ready{Base: base}
	for _, grant := range g.Grants() {
		said.Grants = append(said.Grants, Grant{grant.Route, grant.StandIn.Reveal(), grant.Env, grant.Tools, grant.For})
	}
	return said
}

// Listener is where a lasting gateway listens.
type Listener struct {
	net.Listener
	name, base string
}

// Listen listens at unix:PATH, or at tcp:ADDRESS:PORT. On a Unix socket this user and those in uids are let in, by the kernel's
// word. On TCP the stand-in has to do, so the address must be one of this machine or of a network of its own, as that of a bridge
// to containers is. Errors are of condition ErrConfig.
func Listen(where string, uids []uint32) (*Listener, error) {
	kind, at, _ := strings.Cut(where, ":")
	switch {
	case kind == "unix":
		s, err := share.Listen(at, uids, -1)
		if told := (*protocol.Error)(nil); errors.As(err, &told) {
			return nil, cannotListen(told.Hint, "%s", strings.TrimPrefix(told.Message, "the restricted socket: "))
		} else if err != nil {
			return nil, err
		}
		return &Listener{&admitting{s, uids}, where, "http://localhost"}, nil
	case kind != "tcp":
		return nil, cannotListen("write unix:PATH or tcp:ADDRESS:PORT", "%q is no place to listen at", where)
	case len(uids) > 0:
		return nil, cannotListen("listen at unix:PATH", "on TCP nobody can tell which user connects")
	}
	addr, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, cannotListen("write the address in digits, as in tcp:127.0.0.1:8080", "%q is no address and port", at)
	}
	ip := addr.Addr().Unmap()
	if ip.IsUnspecified() {
		return nil, cannotListen("name one address, as in tcp:127.0.0.1:8080", "%s would be all addresses of this machine", ip)
	}
	if !ip.IsLoopback() && !ip.IsPrivate() {
		return nil, cannotListen("take a loopback address, or that of a bridge to containers",
			"%s can be reached from other networks, and stand-ins would cross them in the clear", ip)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(ip, addr.Port()).String())
	if err != nil {
		return nil, cannotListen("", "%v", err)
	}
	return &Listener{l, "tcp:" + l.Addr().String(), "http://" + l.Addr().String()}, nil
}

func cannotListen(hint, format string, args ...any) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "the gateway can't listen: " + fmt.Sprintf(format, args...),
		Hint: hint}
}

// admitting is a Unix socket that lets users in by the kernel's word.
type admitting struct {
	*share.Socket
	uids []uint32
}

func (a *admitting) Accept() (net.Conn, error) {
	for {
		fd, err := a.Socket.Accept()
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				err = net.ErrClosed
			}
			return nil, err
		}
		f := os.NewFile(uintptr(fd), "")
		peer, err := protocol.PeerOf(fd)
		if err == nil && (peer.UID == uint32(os.Geteuid()) || slices.Contains(a.uids, peer.UID)) {
			conn, err := net.FileConn(f)
			f.Close()
			if err == nil {
				return conn, nil
			}
			continue
		}
		f.Close()
	}
}

func (a *admitting) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

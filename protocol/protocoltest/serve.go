package protocoltest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// Serve serves a on a socket of its own until the test ends, and returns the path of the socket. It is the simplest server that
// docs/protocol.md allows, and has none of the limits of a real one.
func Serve(t testing.TB, a protocol.Agent) string {
	t.Helper()
	path := filepath.Join(SocketDir(t), "agent.sock")
	ServeAt(t, a, path)
	return path
}

// SocketDir returns a folder for a socket, which is removed when the test ends. The folder of t.TempDir is mostly open to others,
// and its path may be too long for a socket.
func SocketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cc") // with mode 0700
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ServeAt is [Serve] at a path that the caller chooses. stop ends it before the test ends.
func ServeAt(t testing.TB, a protocol.Agent, path string) (stop func()) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // ends waits for a renewal or a change
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[conn] = true
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				serve(ctx, a, conn)
			})
		}
	})
	stop = sync.OnceFunc(func() {
		l.Close()
		cancel()
		mu.Lock()
		for conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func serve(ctx context.Context, a protocol.Agent, conn net.Conn) {
	var in, out []byte
	for {
		payload, err := protocol.ReadFrame(conn, in, protocol.MaxFrame)
		if err == protocol.ErrFrame {
			conn.Write(protocol.AppendError(nil, err))
			return
		} else if err != nil {
			return
		}
		in = payload
		out, err = protocol.Handle(ctx, a, payload, out[:0])
		if _, werr := conn.Write(out); err != nil || werr != nil {
			return
		}
	}
}

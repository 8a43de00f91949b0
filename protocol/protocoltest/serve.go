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

// Serve serves a on a socket of its own until the test ends, and returns the socket's path. It is the plainest server that
// docs/protocol.md allows, without the limits of a real one.
func Serve(t testing.TB, a protocol.Agent) string {
	t.Helper()
	path := filepath.Join(SocketDir(t), "agent.sock")
	ServeAt(t, a, path)
	return path
}

// SocketDir returns a folder fit for a socket, which t.TempDir is not: that is open to others under a usual umask, and too
// long on macOS, or where TMPDIR is.
func SocketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cc") // 0700
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ServeAt is [Serve] at a path of the caller's choice. It returns what stops it before the test ends.
func ServeAt(t testing.TB, a protocol.Agent, path string) (stop func()) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // ends who waits for a renewal or a change
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

package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
)

// socketDir is a short private folder: a socket's path is.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cca")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) *socket.Listener {
	t.Helper()
	l, err := socket.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

// serve runs a on a socket of its own until the test's end, and returns its path.
func serve(t *testing.T, a *Agent, admit Policy) string {
	t.Helper()
	l := listen(t, filepath.Join(socketDir(t), "s", "agent.sock"))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Serve(l, admit); err != nil {
			t.Errorf("Serve: %v", err)
		}
		l.Release()
	})
	t.Cleanup(func() { a.Stop(); wg.Wait() })
	return l.Path()
}

func me() Policy { return OnlyUser(uint32(os.Geteuid())) }

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func tokenFrame(t testing.TB) []byte {
	t.Helper()
	b, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "claude"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServe(t *testing.T) {
	a := start(t, &provider{})
	c := dial(t, serve(t, a, me()))
	frame := tokenFrame(t)
	for range 3 {
		if _, err := c.Write(append(bytes.Clone(frame), frame...)); err != nil { // two requests in one write
			t.Fatal(err)
		}
		for range 2 {
			reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame)
			if err != nil || !bytes.Contains(reply, []byte("fake-access-1")) {
				t.Fatalf("%q, %v", reply, err)
			}
		}
	}
	for i := range frame { // one byte at a time
		c.Write(frame[i : i+1])
	}
	if reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame); err != nil || !bytes.Contains(reply, []byte("fake-access-1")) {
		t.Fatalf("%q, %v", reply, err)
	}
}

// TestServeOnlyRequest: a client that shuts down its writing side after a request gets the reply, and the end of the connection,
// also where the reply takes a renewal.
func TestServeOnlyRequest(t *testing.T) {
	a := start(t, &provider{latency: 20 * time.Millisecond})
	path := serve(t, a, me())
	for _, what := range []string{"a renewal", "from memory", "from memory, again"} {
		c := dial(t, path)
		c.Write(tokenFrame(t))
		c.(*net.UnixConn).CloseWrite()
		reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame)
		if err != nil || !bytes.Contains(reply, []byte("fake-access-1")) {
			t.Fatalf("%s: %q, %v", what, reply, err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: the connection goes on: %d, %v", what, n, err)
		}
	}
}

// TestReceiveKeepsNothing: the only request of a connection, for a token in hand, leaves no connection behind, and no garbage
// beyond what asking for the peer takes.
func TestReceiveKeepsNothing(t *testing.T) {
	a := start(t, &provider{})
	ask(t, a, protocol.TokenRequest{})
	frame, first, admit := tokenFrame(t), make([]byte, bufferKept), me()
	var conns sync.WaitGroup
	reply := make([]byte, 4096)
	var pairs [][2]int
	for range 101 { // one more than the runs
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		unix.SetNonblock(fds[1], true)
		unix.Write(fds[0], frame)
		unix.Shutdown(fds[0], unix.SHUT_WR)
		pairs = append(pairs, fds)
	}
	i := 0
	allocs := testing.AllocsPerRun(100, func() {
		a.receive(pairs[i][1], first, admit, &conns)
		i++
	})
	if allocs > 2 || a.conns.count() != 0 {
		t.Errorf("%v allocations, %d connections", allocs, a.conns.count())
	}
	for _, fds := range pairs {
		if n, err := unix.Read(fds[0], reply); err != nil || !bytes.Contains(reply[:n], []byte("fake-access-1")) {
			t.Fatalf("%q, %v", reply[:n], err)
		}
		if n, err := unix.Read(fds[0], reply); n != 0 || err != nil {
			t.Fatalf("the connection goes on: %d, %v", n, err)
		}
	}
}

// TestServeOfAClosedSocket: there is nothing to wait for.
func TestServeOfAClosedSocket(t *testing.T) {
	l := listen(t, filepath.Join(socketDir(t), "agent.sock"))
	l.Socket.Close()
	if err := start(t, &provider{}).Serve(l, me()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestServeEndsMisunderstandings(t *testing.T) {
	a := start(t, &provider{})
	path := serve(t, a, me())
	for _, tc := range []struct {
		name  string
		bytes []byte
	}{
		{"length 0", []byte{0, 0, 0, 0}},
		{"length 1", []byte{0, 0, 0, 1, 1}},
		{"length 65537", binary.BigEndian.AppendUint32(nil, 65537)},
		{"length 4 GiB", []byte{0xff, 0xff, 0xff, 0xff}},
		{"another version", []byte{0, 0, 0, 2, 9, 1}},
		{"unknown operation", []byte{0, 0, 0, 2, 1, 99}},
		{"no fields", []byte{0, 0, 0, 2, 1, 1}},
		{"a field longer than the frame", []byte{0, 0, 0, 6, 1, 1, 0xff, 0xff, 0xff, 0xff}},
		{"a web browser", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, path)
			c.Write(tc.bytes)
			all, err := io.ReadAll(c)
			if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("the connection stays open: %v", err)
			}
			if len(all) < 6 || all[5] != byte(protocol.OpError) {
				t.Errorf("no error reply: %x", all)
			}
		})
	}
	if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestServeEndsHalfAFrame(t *testing.T) {
	t.Parallel()
	a := start(t, &provider{})
	c := dial(t, serve(t, a, me()))
	c.Write(tokenFrame(t)[:7])
	if n, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("half a frame and silence: %d bytes, %v; want the end of the connection", n, err)
	}
}

func TestServeTooManyConnections(t *testing.T) {
	a := start(t, &provider{})
	path := serve(t, a, me())
	first := dial(t, path)
	frame := tokenFrame(t)
	first.Write(frame)
	if _, err := protocol.ReadFrame(first, nil, protocol.MaxFrame); err != nil {
		t.Fatal(err)
	}
	for i := range protocol.MaxConnections {
		c := dial(t, path)
		c.Write(frame)
		if _, err := protocol.ReadFrame(c, nil, protocol.MaxFrame); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the longest idle connection is still open: %v", err)
	}
	if n := a.conns.count(); n > protocol.MaxConnections {
		t.Errorf("%d connections", n)
	}
}

// As many as may be connected wait for a slow provider: whoever asks for a token in hand is answered all the same.
func TestServeWhileAllAreBusy(t *testing.T) {
	hang := make(chan struct{})
	p := &provider{lifetime: time.Hour}
	a := start(t, p, func(o *Options) {
		o.Load = func() (Config, error) { return config("claude", "slow"), nil }
		o.Runner = slowRunner{p, hang}
	})
	path := serve(t, a, me())
	t.Cleanup(func() { close(hang) }) // before the agent is waited for
	ask(t, a, protocol.TokenRequest{})
	slow, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "slow"})
	if err != nil {
		t.Fatal(err)
	}
	for range protocol.MaxConnections {
		c := dial(t, path)
		if _, err := c.Write(slow); err != nil {
			t.Fatal(err)
		}
	}
	busy := func() (n int) {
		a.conns.mu.Lock()
		defer a.conns.mu.Unlock()
		for c := range a.conns.open {
			c.mu.Lock()
			if c.busy {
				n++
			}
			c.mu.Unlock()
		}
		return n
	}
	for busy() < protocol.MaxConnections {
		time.Sleep(time.Millisecond)
	}
	client := protocol.NewClient(path)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if tok, err := client.Token(ctx, protocol.TokenRequest{Profile: "claude"}); err != nil || tok.Value.Empty() {
		t.Errorf("a token in hand: %v", err)
	}
}

// slowRunner is a provider whose profile "slow" waits.
type slowRunner struct {
	*provider
	hang chan struct{}
}

func (s slowRunner) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if j.Profile == "slow" {
		<-s.hang
	}
	return s.provider.Run(ctx, j, handOver)
}

func TestServeRefusesAPeer(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	a := start(t, &provider{}, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)) })
	path := serve(t, a, OnlyUser(uint32(os.Geteuid())+1))
	for range 3 {
		c := dial(t, path)
		c.Write(tokenFrame(t))
		if all, _ := io.ReadAll(c); len(all) != 0 {
			t.Errorf("a refused peer got %q", all)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "a peer was refused"); n != 3 {
		t.Errorf("%d refusals logged, want 3:\n%s", n, &log)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// A request that is under way when the agent stops is answered, and so is a connection that nobody has accepted yet.
func TestStopLosesNoRequest(t *testing.T) {
	p := &provider{latency: 100 * time.Millisecond}
	a := start(t, p)
	l := listen(t, filepath.Join(socketDir(t), "agent.sock"))
	var conns []net.Conn
	for range 20 {
		c := dial(t, l.Path())
		c.Write(tokenFrame(t))
		conns = append(conns, c)
	}
	a.Stop()
	served := make(chan error)
	go func() { served <- a.Serve(l, me()) }()
	for i, c := range conns {
		if reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame); err != nil ||
			!bytes.Contains(reply, []byte("fake-access-1")) {
			t.Errorf("connection %d: %q, %v", i, reply, err)
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Clients go on asking while agents come and go.
func TestClientsSurviveRestarts(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	done := make(chan struct{})
	var wg sync.WaitGroup
	l := listen(t, path)
	for range 4 {
		wg.Go(func() {
			c := protocol.NewClient(path)
			defer c.Close()
			for {
				select {
				case <-done:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_, err := c.Token(ctx, protocol.TokenRequest{})
				cancel()
				if err != nil && !errors.Is(err, protocol.ErrNoAgent) { // between two agents there is none
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	for range 10 {
		a := start(t, &provider{})
		served := make(chan error)
		go func() { served <- a.Serve(l, me()) }()
		for a.requests.Load() < 100 {
			time.Sleep(time.Millisecond)
		}
		a.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		l.Release()
		l = listen(t, path)
	}
	close(done)
	a := start(t, &provider{})
	served := make(chan error)
	go func() { served <- a.Serve(l, me()) }()
	wg.Wait()
	a.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

package server

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

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is the agent behind a server: the token of profile "claude" is cached, profile "slow" waits, profile "broken" panics.
type backend struct {
	*protocoltest.Fake
	*Server
	hang chan struct{} // closed by release
	stop chan struct{} // closed by the first stop
	once sync.Once
}

// limits are as an agent's.
var limits = Limits{Connections: protocol.MaxConnections, Reserved: 32}

// newBackend returns a server with these limits, which is not started.
func newBackend(limits Limits) *backend {
	b := &backend{
		Fake: protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-access-1", Kind: protocol.KindBearer}),
		hang: make(chan struct{}),
		stop: make(chan struct{}),
	}
	b.Fake.Answer = func(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
		switch req.Profile {
		case "slow":
			select {
			case <-b.hang:
			case <-ctx.Done():
				return protocol.Token{}, protocol.ErrUnavailable
			}
		case "broken":
			panic("fake-secret")
		}
		return token, nil
	}
	reply := protocol.AppendToken(nil, token)
	b.Server = &Server{Agent: b, Limits: limits, Log: slog.New(slog.DiscardHandler), Cached: func(payload []byte) []byte {
		if req, err := protocol.DecodeTokenRequest(payload); err != nil || req.Profile != "claude" || req.Force {
			return nil
		}
		return reply
	}}
	return b
}

var token = protocol.Token{Profile: "claude", Value: protocol.NewSecret("fake-access-1"), Kind: protocol.KindBearer}

func (b *backend) release() {
	select {
	case <-b.hang:
	default:
		close(b.hang)
	}
}

func (b *backend) Control(ctx context.Context, req protocol.ControlRequest) (protocol.ControlReply, error) {
	if req.Command == protocol.CommandStop {
		b.once.Do(func() { close(b.stop) })
	}
	return protocol.ControlReply{}, nil
}

func (b *backend) Status(context.Context, protocol.StatusRequest) (protocol.Status, error) {
	return protocol.Status{Agent: protocol.AgentStatus{Connections: b.Connections()}}, nil
}

// start serves b on a socket until the test's end, and returns its path.
func (b *backend) start(t *testing.T, admit func(protocol.Peer) error) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Serve(l, admit, b.stop); err != nil {
			t.Errorf("Serve: %v", err)
		}
		l.Release()
	})
	t.Cleanup(func() {
		b.release()
		b.once.Do(func() { close(b.stop) })
		wg.Wait()
	})
	return l.Path()
}

// underWay counts the connections with a request under way.
func (b *backend) underWay() (n int) {
	b.places.mu.Lock()
	defer b.places.mu.Unlock()
	for c := range b.places.open {
		c.mu.Lock()
		if c.busy {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

func listen(t *testing.T) *socket.Listener {
	t.Helper()
	l, err := socket.Listen(t.Context(), filepath.Join(protocoltest.SocketDir(t), "s", "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

func me() func(protocol.Peer) error { return socket.OnlyUser(uint32(os.Geteuid())) }

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

func tokenFrame(t testing.TB, profile string) []byte {
	t.Helper()
	b, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: profile})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send connects and sends a frame.
func send(t *testing.T, path string, frame []byte) *net.UnixConn {
	t.Helper()
	c := dial(t, path).(*net.UnixConn)
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServe(t *testing.T) {
	c := dial(t, newBackend(limits).start(t, me()))
	frame := tokenFrame(t, "claude")
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
// also where the reply takes the agent some time.
func TestServeOnlyRequest(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	for _, profile := range []string{"slow", "claude", "claude"} {
		c := send(t, path, tokenFrame(t, profile))
		c.CloseWrite()
		if profile == "slow" {
			eventually(t, "the request", func() bool { return b.underWay() == 1 })
			b.release()
		}
		reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame)
		if err != nil || !bytes.Contains(reply, []byte("fake-access-1")) {
			t.Fatalf("%s: %q, %v", profile, reply, err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: the connection goes on: %d, %v", profile, n, err)
		}
	}
}

// TestReceiveKeepsNothing: the only request of a connection, for a cached token, leaves no connection behind, and no garbage
// beyond what asking for the peer takes.
func TestReceiveKeepsNothing(t *testing.T) {
	b := newBackend(limits)
	v := &serving{Server: b.Server, ctx: t.Context(), admit: me(), first: make([]byte, bufferSize)}
	frame := tokenFrame(t, "claude")
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
		v.receive(pairs[i][1])
		i++
	})
	if allocs > 2 || b.Connections() != 0 {
		t.Errorf("%v allocations, %d connections", allocs, b.Connections())
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
	l := listen(t)
	l.Swapped.Close()
	if err := newBackend(limits).Serve(l, me(), nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestServeEndsMisunderstandings(t *testing.T) {
	path := newBackend(limits).start(t, me())
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
	client := protocol.NewClient(path)
	defer client.Close()
	got, err := client.Token(t.Context(), protocol.TokenRequest{Profile: "claude"})
	if err != nil || got.Value.Reveal() != "fake-access-1" {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
}

func TestServeEndsHalfAFrame(t *testing.T) {
	t.Parallel()
	c := dial(t, newBackend(limits).start(t, me()))
	c.Write(tokenFrame(t, "claude")[:7])
	if n, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("half a frame and silence: %d bytes, %v; want the end of the connection", n, err)
	}
}

func TestServeTooManyConnections(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	first := dial(t, path)
	frame := tokenFrame(t, "claude")
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
	if n := b.Connections(); n > protocol.MaxConnections {
		t.Errorf("%d connections", n)
	}
}

// TestServeWhileAllAreBusy: as many as may be connected wait for a slow provider. Whoever asks for a cached token is answered all
// the same.
func TestServeWhileAllAreBusy(t *testing.T) {
	b := newBackend(limits)
	path := b.start(t, me())
	for range protocol.MaxConnections {
		send(t, path, tokenFrame(t, "slow"))
	}
	eventually(t, "the requests", func() bool { return b.underWay() == protocol.MaxConnections })
	client := protocol.NewClient(path)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got, err := client.Token(ctx, protocol.TokenRequest{Profile: "claude"}); err != nil || got.Value.Reveal() != "fake-access-1" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestServeRefusesAPeer(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	b := newBackend(limits)
	b.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	path := b.start(t, socket.OnlyUser(uint32(os.Geteuid())+1))
	for range 3 {
		c := dial(t, path)
		c.Write(tokenFrame(t, "claude"))
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

// TestServeSurvivesAPanic: a request that panics ends its connection alone, and the log shows nothing of the panic's value.
func TestServeSurvivesAPanic(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	b := newBackend(limits)
	b.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	path := b.start(t, me())
	if all, err := io.ReadAll(send(t, path, tokenFrame(t, "broken"))); len(all) != 0 || os.IsTimeout(err) {
		t.Errorf("%q, %v", all, err)
	}
	client := protocol.NewClient(path)
	defer client.Close()
	got, err := client.Token(t.Context(), protocol.TokenRequest{Profile: "claude"})
	if err != nil || got.Value.Reveal() != "fake-access-1" {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "unforeseen") || strings.Contains(log.String(), "fake-secret") {
		t.Errorf("logged %q", &log)
	}
}

// TestDrain: a server that stops answers what is under way. A request that takes longer than Limits.Drain is given up.
func TestDrain(t *testing.T) {
	for _, drain := range []time.Duration{0, 50 * time.Millisecond} {
		with := limits
		with.Drain = drain
		b := newBackend(with)
		c := send(t, b.start(t, me()), tokenFrame(t, "slow"))
		eventually(t, "the request", func() bool { return b.underWay() == 1 })
		b.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandStop})
		want := protocol.OpError // in time, or not at all
		if drain == 0 {
			want = protocol.OpToken.Reply()
			b.release()
		}
		reply, err := protocol.ReadFrame(c, nil, protocol.MaxFrame)
		if err != nil || protocol.Op(reply[1]) != want {
			t.Errorf("drained for %v: %q, %v", drain, reply, err)
		}
	}
}

// lockedWriter lets a test read what is logged.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

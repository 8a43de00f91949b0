package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	samples := make([]time.Duration, 1000)
	for i := range samples {
		samples[i] = time.Duration(1000 - i)
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 501, 0.999: 1000, 1: 1000} {
		if got := quantile(samples, q); got != want {
			t.Errorf("quantile(%v) = %d, want %d", q, got, want)
		}
	}
}

func TestTableCountsWhatMissed(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	missed := printTable(&b, []row{
		{what: "size", must: "≤ 2", measured: "1", ok: true}, {what: "speed", must: "≤ 2", measured: "3"},
		{what: "weight", must: "≤ 2", measured: "there are no scales", skipped: true},
	})
	if missed != 1 || !strings.Contains(b.String(), "| speed | ≤ 2 | 3 | **missed** |") ||
		!strings.Contains(b.String(), "| weight | ≤ 2 | there are no scales | skipped |") {
		t.Errorf("missed = %d, table:\n%s", missed, &b)
	}
}

func TestMemoryOf(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc here")
	}
	anonymous, resident, err := memoryOf(os.Getpid())
	if err != nil || anonymous <= 0 || resident <= anonymous {
		t.Errorf("memoryOf = %d, %d, %v", anonymous, resident, err)
	}
	if _, _, err := memoryOf(0); err == nil {
		t.Error("process 0 has memory")
	}
}

// TestFloor: the C program asks the agent and prints the token.
func TestFloor(t *testing.T) {
	t.Parallel()
	dir := protocoltest.SocketDir(t)
	if err := os.Mkdir(filepath.Join(dir, "ccagent"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "ccagent", "agent.sock")
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "hot", Token: fakeToken})
	fake.Home = protocol.Home{Home: "/home/fake"}
	protocoltest.ServeAt(t, fake, socket)
	b := &bench{dir: dir, agent: &agentProcess{env: []string{"HOME=/home/fake"}, socket: socket}}
	floor, err := b.buildFloor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if floor.missing != "" {
		t.Skip(floor.missing)
	}
	if n := len(fake.Requests()); n != 1 {
		t.Errorf("it asked %d times", n)
	}
}

// TestFloorIsSkipped: without a C compiler the benchmark goes on, and says so.
func TestFloorIsSkipped(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("CC", "")
	b := &bench{dir: t.TempDir(), agent: &agentProcess{}}
	if p, err := b.buildFloor(t.Context()); err != nil || p.missing == "" {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestEcho: the echo server answers every request with a reply of the given size, and the load is counted.
func TestEcho(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "ccb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	echo := exchange{filepath.Join(dir, "echo.sock"), []byte("seven b"), 12}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveEcho(ctx, []string{echo.socket, "7", "12"}) }()
	for {
		conn, err := net.Dial("unix", echo.socket)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	if rate, err := echo.rate(3, 20*time.Millisecond); err != nil || rate <= 0 {
		t.Errorf("rate = %v, %v", rate, err)
	}
	if tail, err := echo.tail(20 * time.Millisecond); err != nil || tail <= 0 {
		t.Errorf("tail = %v, %v", tail, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

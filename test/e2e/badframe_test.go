//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// says writes to a new connection and returns how long the agent kept it open, and what came back.
func says(t *testing.T, socket string, bytes []byte) (time.Duration, []byte) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	start := time.Now()
	if _, err := conn.Write(bytes); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the agent did not close: %v", err)
	}
	return time.Since(start), reply
}

func frame(length uint32, payload ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, length), payload...)
}

func TestBadFrames(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	a := h.serve()
	token := h.token()
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	half := tokenFrame(t)
	half = half[:len(half)/2]
	cases := []struct {
		name  string
		bytes []byte
	}{
		{"length 0", frame(0)},
		{"length 1", frame(1, 1)},
		{"length 65,537", frame(65537, 1, 1)},
		{"4 GiB", frame(1<<32-1, 1, 1)},
		{"half a frame and silence", half},
		{"half a length and silence", []byte{0, 0}},
		{"unknown version", frame(2, 9, 1)},
		{"a string longer than its frame", frame(6, 1, 1, 0xff, 0xff, 0xff, 0xff)},
		{"random bytes", noise},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, reply := says(t, h.socket(), test.bytes)
			if strings.Contains(string(reply), token) {
				t.Errorf("answered with the token: %q", reply)
			}
			if got := h.token("--no-start"); got != token {
				t.Errorf("a good request after it: %q", got)
			}
		})
	}
	t.Cleanup(func() {
		select {
		case <-a.done:
			t.Errorf("the agent ended: %v", a.cmd.ProcessState)
		default:
		}
	})
}

// Names that no client of ours would send, straight over the socket: an error comes back, and nothing is touched.
func TestBadProfileNamesInFrames(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	h.serve()
	token := h.token()
	for _, name := range []string{"a\x00b", "claude\x00", "a/b", "../claude", "..", strings.Repeat("x", 65), "\xff\xfe", "a\nb"} {
		payload := append([]byte{protocol.Version, byte(protocol.OpToken)}, frame(uint32(len(name)), []byte(name)...)...)
		payload = append(payload, make([]byte, 8+1+1+4*4)...) // no min-ttl, no flags, no host, no home
		conn, err := net.Dial("unix", h.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write(frame(uint32(len(payload)), payload...)); err != nil {
			t.Fatal(err)
		}
		reply, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame)
		if err != nil || protocol.Op(reply[1]) != protocol.OpError || strings.Contains(string(reply), token) {
			t.Errorf("%q was answered with %q, %v; want an error", name, reply, err)
		} else if code := protocol.Code(binary.BigEndian.Uint16(reply[2:])); code != protocol.CodeConfig {
			t.Errorf("%q was refused with code %d, want %d", name, code, protocol.CodeConfig)
		}
	}
}

// 2,000 connections, more than it holds open, none of which says anything: those who ask are served, and its memory comes back.
func TestTwoThousandConnections(t *testing.T) {
	h, _ := newSignedIn(t, time.Hour)
	a := h.serve()
	token := h.token()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 4096 {
		t.Fatalf("needs 4,096 descriptors, has %d, %v", limit.Cur, err)
	}
	conns := make([]net.Conn, 2000)
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() {
			conn, err := net.Dial("unix", h.socket())
			for errors.Is(err, syscall.EAGAIN) { // its queue is full
				time.Sleep(time.Millisecond)
				conn, err = net.Dial("unix", h.socket())
			}
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = conn
		})
	}
	all.Wait()
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	for range 20 {
		if got := h.token("--no-start"); got != token {
			t.Errorf("printed %q", got)
		}
	}
	if open := strings.Count(strings.Join(descriptors(t, a.pid()), "\n"), "socket:"); open > 1100 {
		t.Errorf("%d sockets open in the agent, want 1,024 connections and a few", open)
	}
	// All at once, each with a request.
	for i := range conns {
		all.Go(func() {
			reply, err := asks(t, h.socket())
			if err != nil && !errors.Is(err, syscall.EAGAIN) {
				t.Errorf("connection %d: %v", i, err)
			}
			if len(reply) > 0 && !strings.Contains(string(reply), token) {
				t.Errorf("connection %d was answered with %q", i, reply)
			}
		})
	}
	all.Wait()
}

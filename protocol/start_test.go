//go:build unix

package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// TestMain makes the test binary the ccagent that Start runs.
func TestMain(m *testing.M) {
	if os.Args[0] == "ccagent" {
		os.Exit(fakeServe())
	}
	os.Exit(m.Run())
}

// fakeServe does what a starter relies on: it takes a lock, so that there is one agent for each socket, and the others end with
// exit code 0. It ends by itself.
func fakeServe() int {
	if name := os.Getenv("FAKE_STARTS"); name != "" {
		if f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			f.Write([]byte{'.'})
			f.Close()
		}
	}
	if code := os.Getenv("FAKE_EXIT"); code != "" {
		return int(code[0] - '0')
	}
	path, _, err := protocol.SocketPath()
	if err != nil {
		return 1
	}
	dir := protocol.SocketDir(path)
	os.MkdirAll(dir, 0o700)
	lock, err := os.OpenFile(dir+"/lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 1
	}
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return 0
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 1
	}
	sid, _ := syscall.Getpgid(0)
	wd, _ := os.Getwd()
	out, _ := os.Readlink("/proc/self/fd/1")
	_, inherited := os.Stat("/proc/self/fd/" + os.Getenv("FAKE_FD"))
	notice := fmt.Sprintf("own session %v, in %s, stdout %s, inherited %v, args %s",
		sid == os.Getpid(), wd, out, inherited == nil && os.Getenv("FAKE_FD") != "", strings.Join(os.Args[1:], " "))
	fake := protocoltest.NewFake(
		protocoltest.Profile{Name: "claude", Token: fmt.Sprintf("fake-pid-%d", os.Getpid()), Notice: notice},
	)
	l.SetDeadline(time.Now().Add(20 * time.Second))
	for !fake.Stopped() {
		conn, err := l.Accept()
		if err != nil {
			return 0
		}
		go func() {
			defer conn.Close()
			for {
				payload, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame)
				if err != nil {
					return
				}
				reply, _ := protocol.Handle(context.Background(), fake, payload, nil)
				conn.Write(reply)
				if fake.Stopped() {
					l.Close()
				}
			}
		}()
	}
	return 0
}

// environment sets the variables for a default socket path of this test, and puts the test binary on PATH as ccagent. It returns
// the folder of the socket.
func environment(t *testing.T) string {
	dir := protocoltest.SocketDir(t)
	t.Setenv("HOME", dir) // whoever runs the tests may have none
	t.Setenv("CCAGENT_SOCK", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_STATE_HOME", dir+"/state")
	t.Setenv("PATH", "relative:"+dir+"/bin")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	os.Mkdir(dir+"/bin", 0o700)
	if err := os.Symlink(self, dir+"/bin/ccagent"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func stopFake(t *testing.T, c *protocol.Client) {
	t.Cleanup(func() {
		c.Launch = nil
		c.Control(context.Background(), protocol.ControlRequest{Command: protocol.CommandStop})
		c.Close()
	})
}

func TestStart(t *testing.T) {
	dir := environment(t)
	r, w, err := os.Pipe() // like the pipe of $(cchelper)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(w.Fd())) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	w.Close()
	t.Setenv("FAKE_FD", fmt.Sprint(fd))

	client, err := protocol.ClientFromEnv(true)
	if err != nil {
		t.Fatal(err)
	}
	stopFake(t, client)
	token, err := client.Token(t.Context(), protocol.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := "own session true, in /, stdout /dev/null, inherited false, args serve --log-file " + dir + "/state/ccagent/agent.log"
	if _, err := os.Stat("/proc/self/fd"); err == nil && token.Notice != want {
		t.Errorf("started as %q, want %q", token.Notice, want)
	}
	if flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); errno != 0 || flags != 0 {
		t.Errorf("the starter's own descriptor now has flags %d, %v", flags, errno)
	}
}

// Of the agents that ten starters start, one remains and serves all.
func TestStartRace(t *testing.T) {
	environment(t)
	tokens := make([]string, 10)
	var wg sync.WaitGroup
	for i := range tokens {
		client, err := protocol.ClientFromEnv(true)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			stopFake(t, client)
		}
		wg.Go(func() {
			token, err := client.Token(t.Context(), protocol.TokenRequest{})
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token.Value.Reveal()
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token != tokens[0] || token == "" {
			t.Errorf("tokens of several agents: %q", tokens)
			break
		}
	}
}

// TestStartsAreFew: while the agent can't be started, requests to a client that runs for long do not start a process each,
// however many there are. Once the agent can be started, it is.
func TestStartsAreFew(t *testing.T) {
	dir := environment(t)
	t.Setenv("FAKE_STARTS", dir+"/starts")
	t.Setenv("FAKE_EXIT", "3")
	client, err := protocol.ClientFromEnv(true)
	if err != nil {
		t.Fatal(err)
	}
	stopFake(t, client)
	began := time.Now()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 10 {
				if _, err := client.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrNoAgent) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	most := int(time.Since(began)/time.Second) + 1
	if starts, err := os.ReadFile(dir + "/starts"); err != nil || len(starts) > most {
		t.Errorf("%d starts, %v, want %d at most", len(starts), err, most)
	}
	t.Setenv("FAKE_EXIT", "")
	for {
		_, err := client.Token(t.Context(), protocol.TokenRequest{})
		if err == nil {
			break
		}
		if !errors.Is(err, protocol.ErrNoAgent) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestStartFails(t *testing.T) {
	dir := environment(t)
	start := func() error {
		client, err := protocol.ClientFromEnv(true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a start that fails does so long before
		defer cancel()
		_, err = client.Token(ctx, protocol.TokenRequest{})
		return err
	}
	t.Setenv("FAKE_EXIT", "3")
	err := start()
	if !errors.Is(err, protocol.ErrNoAgent) || !strings.Contains(err.Error(), "exit code 3") ||
		!strings.Contains(protocol.HintOf(err), dir+"/state/ccagent/agent.log") {
		t.Errorf("%v; hint %q", err, protocol.HintOf(err))
	}

	// If there is no place for the log, the error says so, and what to do.
	t.Setenv("XDG_STATE_HOME", dir+"/bin/ccagent/state")
	if err := start(); !errors.Is(err, protocol.ErrNoAgent) || !strings.Contains(protocol.HintOf(err), "XDG_STATE_HOME") {
		t.Errorf("%v; hint %q", err, protocol.HintOf(err))
	}
	t.Setenv("XDG_STATE_HOME", dir+"/state")

	os.Remove(dir + "/bin/ccagent")
	if err := start(); !errors.Is(err, protocol.ErrNoAgent) || !strings.Contains(err.Error(), "PATH") {
		t.Error(err)
	}

	// A path that the caller has chosen is not the default one: no agent is started there.
	t.Setenv("CCAGENT_SOCK", filepath.Join(dir, "own.sock"))
	if err := start(); !errors.Is(err, protocol.ErrNoAgent) || !strings.Contains(err.Error(), "own.sock") {
		t.Error(err)
	}

	// If each agent ends with 0 and none answers, Start gives up when the context ends.
	environment(t)
	t.Setenv("FAKE_EXIT", "0")
	path, _, _ := protocol.SocketPath()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := protocol.Start(ctx, "", path); !errors.Is(err, protocol.ErrUnavailable) {
		t.Error(err)
	}
}

func TestLogFile(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", "")
	if got := protocol.LogFile("/run/u/ccagent/agent.sock"); got != "/run/u/ccagent/agent.log" {
		t.Error(got)
	}
	t.Setenv("HOME", "/home/alice/")
	if got := protocol.LogFile("/x/agent.sock"); !strings.HasPrefix(got, "/home/alice/.local/state/ccagent/") &&
		!strings.HasPrefix(got, "/home/alice/Library/") {
		t.Error(got)
	}
}

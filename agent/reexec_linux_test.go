package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// TestReexec: an agent that re-executes itself again and again under load is one process with one socket, refuses nobody, and neither loses nor repeats a renewal.
func TestReexec(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "reexecuting", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	begun := bufio.NewScanner(out)
	if !begun.Scan() {
		t.Fatalf("it did not start: %s", &said)
	}
	socket := filepath.Join(dir, "run", "agent.sock")

	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			client := protocol.NewClient(socket)
			defer func() { client.Close() }()
			for ctx.Err() == nil {
				if _, err := client.Token(t.Context(), protocol.TokenRequest{}); err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 { // half of them come anew each time
					client.Close()
					client = protocol.NewClient(socket)
				}
				time.Sleep(rand.N(2 * time.Millisecond))
			}
		})
	}
	timeout := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	n := 1
	for n < images && begun.Scan() {
		n++
	}
	cancel()
	clients.Wait()
	if !timeout.Stop() || n < images {
		t.Fatalf("%d images: %s", n, &said)
	}

	client := protocol.NewClient(socket)
	defer client.Close()
	// A renewal is counted a moment after the provider has seen it, and may come at any time: they agree in between, or something was lost.
	var got protocol.AgentStatus
	var issued []byte
	for range 100 {
		status, err := client.Status(t.Context(), protocol.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if issued, err = os.ReadFile(filepath.Join(dir, diskIssued)); err != nil {
			t.Fatal(err)
		}
		if got = status.Agent; got.Renewals == uint64(len(issued)) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if int(got.PID) != cmd.Process.Pid || got.Renewals != uint64(len(issued)) || got.Requests < images {
		t.Errorf("%+v after %d renewals of pid %d", got, len(issued), cmd.Process.Pid)
	}
	if Holder(socket) != cmd.Process.Pid {
		t.Error("the lock is lost")
	}
	name := filepath.Base(self)
	name = name[:min(len(name), 15)] // proc_pid_comm(5)
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); err != nil || strings.TrimSpace(string(comm)) != name {
		t.Errorf("the process is called %q, %v", comm, err)
	}
	if names := open(t, cmd.Process.Pid); len(names) > 20 || strings.Contains(strings.Join(names, " "), "memfd:") {
		t.Errorf("it has open: %q", names)
	}
	if _, err := client.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandStop}); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil || said.Len() > 0 {
		t.Errorf("%v: %s", err, &said)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket file is still there: %v", err)
	}
}

// open lists the process's descriptors by what they are. It fails for a lock, or another of the agent's own, that would outlive an execve: a
// worker is not to hold it on.
func open(t *testing.T, pid int) (names []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range entries {
		name, err1 := os.Readlink(filepath.Join(dir, "fd", d.Name()))
		info, err2 := os.ReadFile(filepath.Join(dir, "fdinfo", d.Name())) // proc_pid_fdinfo(5)
		if err1 != nil || err2 != nil {
			continue // closed meanwhile
		}
		names = append(names, name)
		var pos, flags int
		if _, err := fmt.Sscanf(string(info), "pos: %d\nflags: %o", &pos, &flags); err != nil {
			t.Fatalf("%v: %s", err, info)
		}
		if (strings.HasPrefix(name, "socket:") || strings.HasSuffix(name, ".lock")) && flags&unix.O_CLOEXEC == 0 {
			t.Errorf("%s survives an execve", name)
		}
	}
	return names
}

// TestReexecFails: an agent that the kernel gives no new image goes on as before.
func TestReexecFails(t *testing.T) {
	l, err := Listen(t.Context(), filepath.Join(socketDir(t), "run", "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	a := start(t, &provider{})
	before := files(t)
	t.Setenv("TOO_LONG", strings.Repeat("x", 32*os.Getpagesize())) // execve(2), MAX_ARG_STRLEN
	if err := a.Reexec(l, nil, func(execve func() error) error { return execve() }); !errors.Is(err, unix.E2BIG) {
		t.Error(err)
	}
	if after := files(t); after != before {
		t.Errorf("the limit of open files was %+v and is %+v", before, after)
	}
	open(t, os.Getpid())
	served := make(chan error)
	go func() { served <- a.Serve(l, OnlyUser(uint32(os.Geteuid()))) }()
	client := protocol.NewClient(l.Path())
	defer client.Close()
	if _, err := client.Token(t.Context(), protocol.TokenRequest{}); err != nil {
		t.Error(err)
	}
	a.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestReexecBusy: last is called once nothing else is in the way, and an end that has come by then counts.
func TestReexecBusy(t *testing.T) {
	l, err := Listen(t.Context(), filepath.Join(socketDir(t), "run", "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	unsaved := start(t, &provider{saveErr: &protocol.Error{Code: protocol.CodeStorage, Message: "the disk is full"}})
	ask(t, unsaved, protocol.TokenRequest{})
	if err := unsaved.Reexec(l, nil, func(func() error) error {
		t.Error("signals would end a process that alone has a record")
		return nil
	}); err != ErrBusy {
		t.Error(err)
	}
	a := start(t, &provider{})
	if err := a.Reexec(l, nil, func(execve func() error) error {
		a.Stop()
		return execve()
	}); err != ErrBusy {
		t.Error(err)
	}
	open(t, os.Getpid())
}

// files is the limit of this process's open files.
func files(t *testing.T) (limit unix.Rlimit) {
	t.Helper()
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return limit
}

// TestInheritedNothing: what somebody else wrote into the variable is refused.
func TestInheritedNothing(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd, err := unix.Dup(int(null.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"", "x", "-1", "1000000", "1000000 1000001 1000002", "1000000 1000001 1000002 x", fmt.Sprintf("1000000 0 %d 1000002", fd)} {
		t.Setenv(reexecVar, value)
		if was, err := Inherited(); err == nil || was.Listener != nil {
			t.Errorf("%q: %v, %v", value, was, err)
		}
		if _, there := os.LookupEnv(reexecVar); there {
			t.Errorf("%q is still set", value)
		}
	}
}

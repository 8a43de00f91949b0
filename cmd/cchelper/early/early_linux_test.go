//go:build amd64 || arm64

package early

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// helperPackage is the program that asks early.
const helperPackage = "github.com/ccagent/ccagent/cmd/cchelper"

// early returns the linker's flag of a helper that asks early, as the Makefile has it.
func early(t *testing.T) string {
	t.Helper()
	makefile, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	flag := regexp.MustCompile(`-E [^\s']+`).Find(makefile)
	if flag == nil {
		t.Fatal("the Makefile sets no entry point")
	}
	return string(flag)
}

// build builds the helper, and returns its path.
func build(t *testing.T, ldflags string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cchelper")
	args := append([]string{"build", "-o", path, "-ldflags", ldflags}, flags...)
	cmd := exec.Command("go", append(args, helperPackage)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// Whatever an agent replies, the helper prints the same as one that does not ask early, and it asks once.
func TestAsksOnce(t *testing.T) {
	helper, usual := build(t, early(t)), build(t, "")
	answers := map[string]func(context.Context) (protocol.Token, error){
		"plain": func(context.Context) (protocol.Token, error) {
			return protocol.Token{Value: protocol.NewSecret("fake-access-1")}, nil
		},
		"error": func(context.Context) (protocol.Token, error) { return protocol.Token{}, protocol.ErrExpired },
		"unsafe": func(context.Context) (protocol.Token, error) {
			return protocol.Token{Value: protocol.NewSecret("fake 1")}, nil
		},
		"empty": func(context.Context) (protocol.Token, error) { return protocol.Token{}, nil },
		"huge": func(context.Context) (protocol.Token, error) {
			return protocol.Token{Value: protocol.NewSecret(strings.Repeat("f", 16384))}, nil
		},
		"noticed": func(context.Context) (protocol.Token, error) {
			return protocol.Token{Value: protocol.NewSecret("fake-access-1"), Notice: "not saved yet"}, nil
		},
		"too-long": func(context.Context) (protocol.Token, error) {
			return protocol.Token{Value: protocol.NewSecret(strings.Repeat("f", 16385))}, nil
		},
		"slow": func(ctx context.Context) (protocol.Token, error) {
			select { // longer than the helper waits without a runtime
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
			return protocol.Token{Value: protocol.NewSecret("fake-access-1")}, nil
		},
	}
	fake := protocoltest.NewFake()
	fake.Answer = func(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
		return answers[req.Profile](ctx)
	}
	sock := protocoltest.Serve(t, fake)
	asked := 0
	for name := range answers {
		for _, args := range [][]string{{"-p", name}, {"--profile", name, "--on-reask=renew"}} {
			var got [2]string
			for i, path := range []string{helper, usual} {
				cmd := exec.Command(path, args...)
				var stdout, stderr bytes.Buffer
				cmd.Env = []string{"CCAGENT_SOCK=" + sock, "HOME=/nonexistent"}
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				err := cmd.Run()
				got[i] = fmt.Sprintf("%s%s%v", &stdout, &stderr, err)
				asked++
				requests := fake.Requests()
				if len(requests) != asked {
					t.Fatalf("%s: %d requests", name, len(requests)-asked+1)
				}
				if last := requests[asked-1]; last.ReaskWindow != 0 != (len(args) > 2) || last.Home != (protocol.Home{}) {
					t.Errorf("%s: %+v", args, last)
				}
			}
			if got[0] != got[1] {
				t.Errorf("%s: %q, and with the runtime first %q", args, got[0], got[1])
			}
		}
	}
}

// GODEBUG has the runtime write a line when it starts. For a token without a notice there is no such line, even in a build for a
// debugger.
func TestIsEarly(t *testing.T) {
	sock := protocoltest.Serve(t, protocoltest.NewFake(
		protocoltest.Profile{
			Name:  "claude",
			Token: "fake-access-1",
		},
		protocoltest.Profile{Name: "robot", Token: "fake-key-1", Notice: "not saved yet"},
	))
	for _, helper := range []string{build(t, early(t)), build(t, early(t), "-gcflags="+helperPackage+"/early=-N -l")} {
		for args, late := range map[string]bool{"": false, "-p claude": false, "--on-reask=renew": false, "-p robot": true,
			"-f token": true} {
			cmd := exec.Command(helper, strings.Fields(args)...)
			cmd.Env = []string{"CCAGENT_SOCK=" + sock, "GODEBUG=inittrace=1"}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), "fake-") {
				t.Errorf("%q: %q, %v", args, out, err)
			}
			if started := strings.Contains(stderr.String(), "init runtime"); started != late {
				t.Errorf("%q: the runtime started: %v", args, started)
			}
		}
	}
}

// A link to a socket is main's to follow: the helper asks early only where the path is that of the socket itself.
func TestLinkIsMains(t *testing.T) {
	helper := build(t, early(t))
	sock := protocoltest.Serve(t, protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-access-1"}))
	path := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	if err := os.Symlink(sock, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(helper)
	cmd.Env = []string{"CCAGENT_SOCK=" + path, "GODEBUG=inittrace=1"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || string(out) != "fake-access-1\n" || !strings.Contains(stderr.String(), "init runtime") {
		t.Errorf("%q, %v\n%s", out, err, &stderr)
	}
}

// Where the system does not let the helper hide its memory, it asks for no token, with the runtime or without.
func TestIsHidden(t *testing.T) {
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-access-1"})
	sock := protocoltest.Serve(t, fake)
	for _, ldflags := range []string{early(t), ""} {
		cmd := exec.Command(build(t, ldflags))
		cmd.Env = []string{"CCAGENT_SOCK=" + sock}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		var refused error
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never again unlock: the thread ends with its rules
			if refused = refuseToHide(); refused == nil {
				cmd.Run()
			}
		}()
		if <-done; refused != nil {
			t.Skip("no system call can be refused here: ", refused)
		}
		const says = "ccagent: this process's memory can't be hidden from debuggers: operation not permitted\n"
		if cmd.ProcessState.ExitCode() != 1 || stdout.Len() > 0 || stderr.String() != says || len(fake.Requests()) > 0 {
			t.Errorf("%q: %q, %q, %v, %d requests", ldflags, &stdout, &stderr, cmd.ProcessState, len(fake.Requests()))
		}
	}
}

// refuseToHide has the kernel refuse prctl(PR_SET_DUMPABLE) to this thread and to what it starts.
func refuseToHide() error {
	const number, firstArgument = 0, 16 // where seccomp_data has them (seccomp(2)); the lower half comes first
	load := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: k}
	}
	skipUnless := func(k uint32, n uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: n}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	rules := []unix.SockFilter{
		load(number), skipUnless(unix.SYS_PRCTL, 3), load(firstArgument), skipUnless(unix.PR_SET_DUMPABLE, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)), answer(unix.SECCOMP_RET_ALLOW),
	}
	program := unix.SockFprog{Len: uint16(len(rules)), Filter: &rules[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}

// Standard streams that are closed are not mistaken for the connection, nor the other way round.
func TestClosedStreams(t *testing.T) {
	helper := build(t, early(t))
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-access-1"},
		protocoltest.Profile{Name: "told", Token: "fake-access-1", Notice: "not saved yet"})
	sock := protocoltest.Serve(t, fake)
	asked := 0
	for _, streams := range []string{"<&-", "2>&-", "<&- 2>&-"} {
		for _, profile := range []string{"claude", "told"} {
			cmd := exec.Command("sh", "-c", helper+" -p "+profile+" "+streams)
			cmd.Env = []string{"CCAGENT_SOCK=" + sock}
			out, err := cmd.Output()
			if asked++; err != nil || string(out) != "fake-access-1\n" || len(fake.Requests()) != asked {
				t.Errorf("%s %s: %q, %v, %d requests, want %d", profile, streams, out, err, len(fake.Requests()), asked)
			}
		}
	}
	// The runtime would open /dev/null in its place, and the token be gone without a word.
	cmd := exec.Command("sh", "-c", helper+" >&-")
	cmd.Env = []string{"CCAGENT_SOCK=" + sock}
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 ||
		string(out) != "ccagent: can't write the answer: standard output is closed\n" {
		t.Errorf("%q, %v", out, err)
	}
	cmd = exec.Command("sh", "-c", helper+" >/dev/full")
	cmd.Env = []string{"CCAGENT_SOCK=" + sock}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "can't write the answer") {
		t.Errorf("%v %s", err, &stderr)
	}
}

// If standard output took a part of the token, main writes the rest, or says why it can't.
func TestPartialWrite(t *testing.T) {
	helper := build(t, early(t))
	long := strings.Repeat("f", 4000)
	sock := protocoltest.Serve(t, protocoltest.NewFake(
		protocoltest.Profile{Name: "claude", Token: "fake-access-1"}, protocoltest.Profile{Name: "long", Token: long}))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 512-len("fake-")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `ulimit -f 1; exec "$0" >>"$1"`, helper, file) // POSIX: of 512 bytes
	cmd.Env = []string{"CCAGENT_SOCK=" + sock}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || string(out) != "ccagent: can't write the answer: write /dev/stdout: file too large\n" {
		t.Errorf("%q, %v", out, err)
	}
	if content, err := os.ReadFile(file); err != nil || !bytes.HasSuffix(content, []byte("\x00fake-")) {
		t.Errorf("%q, %v", content, err)
	}

	// A socket that does not block, with room for a part.
	theirs, ours := socketPair(t)
	defer syscall.Close(ours)
	stdout := os.NewFile(uintptr(theirs), "stdout")
	defer stdout.Close()
	if err := errors.Join(syscall.SetNonblock(theirs, true), syscall.SetsockoptInt(theirs, syscall.SOL_SOCKET, syscall.SO_SNDBUF,
		1)); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Write(theirs, []byte(">")); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(helper, "-p", "long")
	cmd.Env = []string{"CCAGENT_SOCK=" + sock, "GODEBUG=inittrace=1"}
	cmd.Stdout = stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdout.Close()
	if n, err := stderr.Read(make([]byte, 512)); n == 0 { // the runtime starts: nothing is read from the socket before
		t.Logf("this kernel has room for all of it: %v", err)
	}
	var got []byte
	for buf := make([]byte, 8192); ; {
		n, err := syscall.Read(ours, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		got = append(got, buf[:n]...)
	}
	io.Copy(io.Discard, stderr)
	if err := cmd.Wait(); err != nil || string(got) != ">"+long+"\n" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The helper tells the default socket that its request is the only one. It tells no other socket, which may be relayed.
func TestOnlyRequest(t *testing.T) {
	helper := build(t, early(t))
	dir := protocoltest.SocketDir(t)
	if err := os.Mkdir(filepath.Join(dir, "ccagent"), 0o700); err != nil {
		t.Fatal(err)
	}
	sock := filepath.Join(dir, "ccagent", "agent.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: sock, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for env, want := range map[string]error{"XDG_RUNTIME_DIR=" + dir: nil, "CCAGENT_SOCK=" + sock: syscall.EAGAIN} {
		cmd := exec.Command(helper)
		cmd.Env = []string{env, "GODEBUG=inittrace=1"}
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := listener.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame); err != nil {
			t.Fatal(err)
		}
		stderr.Read(make([]byte, 1)) // the runtime starts: all that comes early is over
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Read(func(fd uintptr) bool {
			if n, err := syscall.Read(int(fd), make([]byte, 1)); n > 0 || err != want {
				t.Errorf("%s: read %d, %v; want %v", env, n, err, want)
			}
			return true
		})
		conn.Write(protocol.AppendToken(nil, protocol.Token{Profile: "claude", Value: protocol.NewSecret("fake-access-1")}))
		conn.Close()
		io.Copy(io.Discard, stderr)
		if err := cmd.Wait(); err != nil || stdout.String() != "fake-access-1\n" {
			t.Errorf("%s: %q, %v", env, &stdout, err)
		}
	}
}

// A connection may end before the request is written: the agent stops, or ssh forwards it to nobody. The helper then asks again,
// as after any other broken connection, and no signal ends it.
func TestConnectionEnds(t *testing.T) {
	helper := build(t, early(t))
	sock := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	listener, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(listener, &syscall.SockaddrUnix{Name: sock}), syscall.Listen(listener, 1)); err != nil {
		t.Fatal(err)
	}

	runtime.LockOSThread() // the one that may trace
	defer runtime.UnlockOSThread()
	cmd := exec.Command(helper)
	cmd.Env = []string{"CCAGENT_SOCK=" + sock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) {
		t.Skip("no process may be traced here")
	} else if err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	pid := cmd.Process.Pid
	for { // it stands still before and after each system call
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.StopSignal() != syscall.SIGTRAP {
			t.Fatalf("it never connected: %v, %x", err, status)
		}
		if conn, _, err := syscall.Accept(listener); err == nil {
			syscall.Close(conn)
			break
		}
		if err := syscall.PtraceSyscall(pid, 0); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Close(listener)
	os.Remove(sock)
	protocoltest.ServeAt(t, protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-access-1"}), sock)
	if err := syscall.PtraceDetach(pid); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || stdout.String() != "fake-access-1\n" || stderr.Len() > 0 {
		t.Errorf("%q, %q, %v", &stdout, &stderr, err)
	}
}

// A reply that is taken early for a token without a notice is one to the client as well, and one that may be printed alone.
func FuzzReply(f *testing.F) {
	for _, token := range []protocol.Token{
		{Profile: "claude", Value: protocol.NewSecret("fake-access-1"), Kind: protocol.KindOAuth},
		{Profile: "claude", Value: protocol.NewSecret("fake-access-1"), Expiry: time.Unix(4e9, 0), Kind: "new"},
		{Value: protocol.NewSecret("fake-access-1"), Notice: "not saved yet"},
		{Value: protocol.NewSecret("fake-access-1"), Username: "alice"},
		{Value: protocol.NewSecret(`{"AccessKeyId":"fake-id"}`), Kind: protocol.KindAWS},
		{},
	} {
		frame := protocol.AppendToken(nil, token)
		f.Add(frame)
		if token.Username != "" {
			f.Add(frame[:len(frame)-1]) // cut within the last field
		}
	}
	f.Add(protocol.AppendError(nil, protocol.ErrExpired))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		token := tokenIn(frame)
		if len(token) == 0 {
			return
		}
		got, err := protocol.OpenToken(frame)
		if err != nil || got.Value.Reveal() != string(token) || got.Notice != "" || got.Kind == protocol.KindAWS {
			t.Fatalf("%q: %q, and to the client %q, %v", frame, token, got.Value.Reveal(), err)
		}
	})
}

// Token reads the reply to the request that was sent early, however much of it has come, and asks anew for any other request.
func TestTakesOver(t *testing.T) {
	client := protocol.NewClient(protocoltest.Serve(t, protocoltest.NewFake(
		protocoltest.Profile{Name: "claude", Token: "fake-anew"}, protocoltest.Profile{Name: "other", Token: "fake-anew"})))
	defer client.Close()
	client.Home = protocol.Home{Home: "/home/fake"}
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "claude", Home: client.Home})
	if err != nil {
		t.Fatal(err)
	}
	token := protocol.AppendToken(nil, protocol.Token{Profile: "claude", Value: protocol.NewSecret("fake-taken-over")})
	refusal := protocol.AppendError(nil, protocol.ErrExpired)
	defer func() { asked.sent, asked.received = 0, 0 }()
	take := func(profile string, reply []byte, received int) (string, error) {
		theirs, ours := socketPair(t)
		if err := syscall.SetNonblock(ours, true); err != nil { // as send makes it
			t.Fatal(err)
		}
		if _, err := syscall.Write(theirs, reply[received:]); err != nil {
			t.Fatal(err)
		}
		syscall.Close(theirs)
		asked.fd = ours
		asked.sent, asked.received = uint(copy(asked.request[:], request)), uint(copy(asked.reply[:], reply[:received]))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got, err := Token(ctx, client, protocol.TokenRequest{Profile: profile})
		if asked.fd != 0 {
			t.Error("it would be taken over twice")
		}
		return got.Value.Reveal(), err
	}
	for received := range len(token) + 1 {
		for profile, want := range map[string]string{"claude": "fake-taken-over", "other": "fake-anew"} {
			if got, err := take(profile, token, received); err != nil || got != want {
				t.Errorf("%s with %d bytes of the reply: %q, %v", profile, received, got, err)
			}
		}
	}
	if got, err := take("claude", refusal, 3); !errors.Is(err, protocol.ErrExpired) {
		t.Errorf("a refusal: %q, %v", got, err)
	}
	for name, reply := range map[string][]byte{"half a reply": token[:len(token)-3], "none": nil} {
		if got, err := take("claude", reply, 0); err != nil || got != "fake-anew" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A reply that can't be read is an answer: the helper says so, as one does that does not ask early, and does not ask again. A
// second request with --on-reask=renew would cost a renewal.
func TestUnreadableReply(t *testing.T) {
	helper, usual := build(t, early(t)), build(t, "")
	token := protocol.AppendToken(nil, protocol.Token{Profile: "claude", Value: protocol.NewSecret("fake-access-1")})
	listener, err := net.Listen("unix", filepath.Join(protocoltest.SocketDir(t), "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var reply atomic.Pointer[[]byte]
	var requests atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame); err == nil {
				requests.Add(1)
				conn.Write(*reply.Load())
			}
			conn.Close()
		}
	}()
	for name, frame := range map[string][]byte{
		"no payload":          {0, 0, 0, 0},
		"too long":            {0, 1, 0, 1, 1, 129},
		"of another version":  bytes.Replace(token, []byte{1, 129}, []byte{2, 129}, 1),
		"of another op":       {0, 0, 0, 2, 1, 130},
		"an error without it": {0, 0, 0, 2, 1, 255},
		"without its fields":  {0, 0, 0, 2, 1, 129},
		"two replies":         slices.Concat(token, token),
		"one and a half":      slices.Concat(token, token[:3]),
	} {
		reply.Store(&frame)
		var got [2]string
		for i, path := range []string{helper, usual} {
			requests.Store(0)
			cmd := exec.Command(path, "--on-reask=renew")
			cmd.Env = []string{"CCAGENT_SOCK=" + listener.Addr().String(), "HOME=/nonexistent"}
			out, err := cmd.CombinedOutput()
			if got[i] = fmt.Sprintf("%s%v", out, err); requests.Load() != 1 {
				t.Errorf("%s: %d requests", name, requests.Load())
			}
		}
		if got[0] != got[1] || !strings.Contains(got[0], "can't be read") {
			t.Errorf("%s: %q, and with the runtime first %q", name, got[0], got[1])
		}
	}
}

// A caller's deadline ends the wait for the reply to a request that was sent early.
func TestDeadline(t *testing.T) {
	theirs, ours := socketPair(t)
	defer syscall.Close(theirs)
	if err := syscall.SetNonblock(ours, true); err != nil {
		t.Fatal(err)
	}
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { asked.sent = 0 }()
	asked.fd, asked.sent = ours, uint(copy(asked.request[:], request))
	slow := protocoltest.NewFake()
	slow.Answer = func(ctx context.Context, _ protocol.TokenRequest) (protocol.Token, error) {
		<-ctx.Done()
		return protocol.Token{}, ctx.Err()
	}
	client := protocol.NewClient(protocoltest.Serve(t, slow))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Token(ctx, client, protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
		t.Error(err)
	}
}

func socketPair(t *testing.T) (server, client int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// The compiler does not know that this code runs without a runtime. The test looks at what it made of every function that the
// entry point leads to.
func TestMachineCode(t *testing.T) {
	// Package strings is inlined. memequal is a leaf in assembly. morestack is never reached: see goroutine.
	known := regexp.MustCompile(`^(` + regexp.QuoteMeta(helperPackage+"/early.") + `.*|syscall\.RawSyscall6?|internal/runtime/syscall/linux\.Syscall6)(\.abi0)?$`)
	leaf := regexp.MustCompile(`^(runtime\.memequal|runtime\.morestack_noctxt(\.abi0)?|_rt0_.*_linux|go:string\.\*)$`)
	symbol := regexp.MustCompile(`([^\s,(]+?)(\+\d+)?\(SB\)`)
	call := regexp.MustCompile(`\bCALL\s`)
	entry := helperPackage + "/early.entry"
	for _, arch := range []string{"amd64", "arm64"} {
		t.Setenv("GOARCH", arch)
		listing, err := exec.Command("go", "tool", "objdump", "-s", known.String(), build(t, early(t))).Output()
		if err != nil {
			t.Fatal(err)
		}
		refers := map[string][]string{} // what each function refers to: calls, jumps, variables
		var fn string
		for line := range strings.Lines(string(listing)) {
			names := symbol.FindAllStringSubmatch(line, -1)
			if strings.HasPrefix(line, "TEXT ") {
				fn = names[0][1]
				continue
			}
			for _, name := range names {
				refers[fn] = append(refers[fn], name[1])
			}
			if names == nil && call.MatchString(line) { // by a pointer
				refers[fn] = append(refers[fn], strings.TrimSpace(line))
			}
		}
		seen := map[string]bool{entry: true}
		for next := []string{entry}; len(next) > 0; next = next[1:] {
			for _, name := range refers[next[0]] {
				switch {
				case leaf.MatchString(name):
				case !known.MatchString(name):
					t.Errorf("%s: %s comes to %s", arch, next[0], name)
				case !seen[name]:
					seen[name] = true
					next = append(next, name)
				}
			}
		}
		for _, name := range []string{helperPackage + "/early.compose", helperPackage + "/early.printAndExit", "syscall.RawSyscall6"} {
			if !seen[name] || refers[name] == nil {
				t.Errorf("%s: the listing does not lead to %s", arch, name)
			}
		}
	}
}

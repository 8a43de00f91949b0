//go:build unix

package protocol_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

var fakeProfile = protocoltest.Profile{Name: "claude", Token: "fake-access-1", Kind: protocol.KindOAuth}

// peer calls serve for each connection with the connection's number, and returns the path of the socket.
func peer(t *testing.T, serve func(n int, conn *net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(n, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return path
}

// exchange answers one request with reply.
func exchange(conn net.Conn, reply []byte) {
	if _, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame); err == nil {
		conn.Write(reply)
	}
}

func tokenReply(value string) []byte {
	return protocol.AppendToken(nil, protocol.Token{Profile: "claude", Value: protocol.NewSecret(value), Kind: protocol.KindOAuth})
}

func TestClientRetries(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(net.Conn){
		"closed at once":         func(net.Conn) {},
		"closed after a request": func(c net.Conn) { exchange(c, nil) },
		"half a length":          func(c net.Conn) { exchange(c, []byte{0, 0}) },
		"half a reply":           func(c net.Conn) { r := tokenReply("fake-access-0"); exchange(c, r[:len(r)-3]) },
		"reset": func(c net.Conn) { // the kernel resets a connection that is closed with unread bytes
			var b [1]byte
			c.Read(b[:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := protocol.NewClient(peer(t, func(n int, conn *net.UnixConn) {
				if n < 3 {
					fault(conn)
					return
				}
				exchange(conn, tokenReply("fake-access-1"))
			}))
			defer client.Close()
			token, err := client.Token(t.Context(), protocol.TokenRequest{})
			if err != nil || token.Value.Reveal() != "fake-access-1" {
				t.Errorf("%q, %v", token.Value.Reveal(), err)
			}
		})
	}
}

func TestClientReusesAndReconnects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	conns := 0
	client := protocol.NewClient(peer(t, func(n int, conn *net.UnixConn) {
		mu.Lock()
		conns++
		mu.Unlock()
		for range 3 { // then the connection is closed, as if it had been idle
			exchange(conn, tokenReply("fake-access-1"))
		}
	}))
	defer client.Close()
	for range 9 {
		if _, err := client.Token(t.Context(), protocol.TokenRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if conns != 3 {
		t.Errorf("%d connections for 9 requests, want 3", conns)
	}
}

func TestClientRefusesReplies(t *testing.T) {
	t.Parallel()
	raw := func(value string) []byte { // what AppendToken would not send
		e := protocol.NewFrame(nil, protocol.OpToken.Reply())
		e.String("claude")
		e.String(value)
		e.Time(time.Time{})
		e.String("oauth")
		e.String("")
		b, _ := e.Close(protocol.MaxFrame)
		return b
	}
	status := protocol.AppendStatus(nil, protocol.Status{})
	for name, test := range map[string]struct {
		reply []byte
		code  protocol.Code
	}{
		"newline":       {raw("fake\nrm"), protocol.CodeInvalid},
		"escape":        {raw("\x1b]0;fake\a"), protocol.CodeInvalid},
		"empty":         {raw(""), protocol.CodeInvalid},
		"too long":      {raw(strings.Repeat("a", 16385)), protocol.CodeInvalid},
		"no fields":     {[]byte{0, 0, 0, 2, 1, 129}, protocol.CodeInternal},
		"another op":    {status, protocol.CodeInternal},
		"version 2":     {[]byte{0, 0, 0, 2, 2, 129}, protocol.CodeInternal},
		"length 0":      {[]byte{0, 0, 0, 0}, protocol.CodeInternal},
		"length 4 GiB":  {[]byte{255, 255, 255, 255}, protocol.CodeInternal},
		"two replies":   {append(raw("fake-1"), raw("fake-2")...), protocol.CodeInternal},
		"unknown code":  {[]byte{0, 0, 0, 12, 1, 255, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 257},
		"half an error": {[]byte{0, 0, 0, 3, 1, 255, 0}, protocol.CodeInternal},
		"random bytes":  {[]byte("HTTP/1.1 200 OK\r\n\r\n"), protocol.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := protocol.NewClient(peer(t, func(_ int, conn *net.UnixConn) { exchange(conn, test.reply) }))
			defer client.Close()
			token, err := client.Token(t.Context(), protocol.TokenRequest{})
			if err == nil || protocol.CodeOf(err) != test.code || !token.Value.Empty() && strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("error %v of code %d, want %d", err, protocol.CodeOf(err), test.code)
			}
		})
	}
}

// A page that leads back to itself is refused. The client would ask for pages without end.
func TestClientRefusesEndlessPages(t *testing.T) {
	t.Parallel()
	page := protocol.AppendStatus(nil, protocol.Status{Next: "b"})
	client := protocol.NewClient(peer(t, func(_ int, conn *net.UnixConn) {
		for range 2 {
			exchange(conn, page)
		}
	}))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // a client that asks without end fails here
	defer cancel()
	if _, err := protocol.StatusAll(ctx, client, protocol.StatusRequest{}); protocol.CodeOf(err) != protocol.CodeInternal {
		t.Error(err)
	}
}

func TestClientLargeFrames(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 60000)
	fake := protocoltest.NewFake(fakeProfile)
	client := protocol.NewClient(protocoltest.Serve(t, fake))
	defer client.Close()
	if _, err := client.Put(t.Context(), protocol.PutRequest{Profile: "claude", Record: protocol.NewSecret(big)}); err != nil {
		t.Fatal(err)
	}
	_, err := client.Put(t.Context(), protocol.PutRequest{Profile: "claude", Record: protocol.NewSecret(big + big)})
	if !errors.Is(err, protocol.ErrInvalid) {
		t.Error(err)
	}
	var profiles []protocoltest.Profile
	for i := range 26 {
		profiles = append(profiles, protocoltest.Profile{Name: string(rune('a' + i)), Err: &protocol.Error{
			Code: protocol.CodeUnavailable, Message: strings.Repeat("long ", 400),
		}})
	}
	client = protocol.NewClient(protocoltest.Serve(t, protocoltest.NewFake(profiles...)))
	defer client.Close()
	all, err := protocol.StatusAll(t.Context(), client, protocol.StatusRequest{})
	if err != nil || len(all.Profiles) != 26 || len(all.Profiles[25].LastError) != 2000 {
		t.Errorf("%d profiles, %v", len(all.Profiles), err)
	}
}

// silent serves a socket that never replies, and returns its path.
func silent(t *testing.T) string {
	return peer(t, func(_ int, conn *net.UnixConn) {
		protocol.ReadFrame(conn, nil, protocol.MaxFrame)
		protocol.ReadFrame(conn, nil, protocol.MaxFrame) // until the client closes the connection
	})
}

func TestClientWaits(t *testing.T) {
	t.Parallel()
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		_, err := protocol.NewClient(silent(t)).Token(ctx, protocol.TokenRequest{})
		if !errors.Is(err, protocol.ErrUnavailable) || protocol.HintOf(err) == "" {
			t.Error(err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := protocol.NewClient(silent(t)).Token(ctx, protocol.TokenRequest{})
		if !errors.Is(err, protocol.ErrUnavailable) {
			t.Error(err)
		}
	})
	t.Run("always closed", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		path := peer(t, func(int, *net.UnixConn) {})
		if _, err := protocol.NewClient(path).Token(ctx, protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
			t.Error(err)
		}
	})
}

// An agent that is too busy to accept connections is not gone: the client waits for it, and starts no other.
func TestClientWaitsForBusyAgent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a full queue refuses a connection as an absent agent does")
	}
	path := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrUnix{Name: path}), unix.Listen(listener, 0)); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		full = unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == unix.EAGAIN
	}
	for _, launch := range []func(context.Context) error{nil, func(context.Context) error {
		t.Error("another agent is started")
		return nil
	}} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // longer than a client tries an agent that is gone
		defer cancel()
		client := protocol.NewClient(path)
		client.Launch = launch
		if _, err := client.Token(ctx, protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
			t.Error(err)
		}
	}
}

func TestClientSendsHome(t *testing.T) {
	t.Parallel()
	fake := protocoltest.NewFake(fakeProfile)
	client := protocol.NewClient(protocoltest.Serve(t, fake))
	defer client.Close()
	client.Home = protocol.Home{Home: "/home/alice"}
	own := protocol.Home{ClaudeConfigDir: "/elsewhere"}
	for _, h := range []protocol.Home{{}, own} {
		if _, err := client.Token(t.Context(), protocol.TokenRequest{Home: h}); err != nil {
			t.Fatal(err)
		}
	}
	if r := fake.Requests(); r[0].Home != client.Home || r[1].Home != own {
		t.Errorf("homes %+v", r)
	}
}

func TestClientRefusesPlaces(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		place func(t *testing.T, dir string) string // returns the socket's path
		is    error
		says  string
	}{
		"no folder": {func(t *testing.T, dir string) string { return dir + "/none/agent.sock" }, protocol.ErrNoAgent,
			"none/agent.sock"},
		"no socket": {func(t *testing.T, dir string) string { return dir + "/agent.sock" }, protocol.ErrNoAgent, "agent.sock"},
		"nobody listens": {func(t *testing.T, dir string) string {
			protocoltest.ServeAt(t, protocoltest.NewFake(), dir+"/a")()
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/agent.sock", Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			l.Close()
			return dir + "/agent.sock"
		}, protocol.ErrNoAgent, "agent.sock"},
		"a file": {func(t *testing.T, dir string) string {
			os.WriteFile(dir+"/agent.sock", nil, 0o600)
			return dir + "/agent.sock"
		}, protocol.ErrDenied, "not a socket"},
		"open folder": {func(t *testing.T, dir string) string {
			os.Mkdir(dir+"/open", 0o700)
			os.Chmod(dir+"/open", 0o777)
			return dir + "/open/agent.sock"
		}, protocol.ErrDenied, "mode 0777"},
		"linked folder": {func(t *testing.T, dir string) string {
			os.Mkdir(dir+"/real", 0o700)
			os.Symlink(dir+"/real", dir+"/link")
			return dir + "/link/agent.sock"
		}, protocol.ErrDenied, "a symbolic link"},
		"linked folder, two slashes": {func(t *testing.T, dir string) string {
			os.Mkdir(dir+"/real", 0o700)
			os.Symlink(dir+"/real", dir+"/link")
			return dir + "/link//agent.sock"
		}, protocol.ErrDenied, "a symbolic link"},
		"a file for a folder": {func(t *testing.T, dir string) string {
			os.WriteFile(dir+"/file", nil, 0o600)
			return dir + "/file/agent.sock"
		}, protocol.ErrDenied, "not a directory"},
		"too long": {func(t *testing.T, dir string) string {
			return dir + "/" + strings.Repeat("x", 200)
		}, protocol.ErrConfig, "at most"},
		"relative": {func(t *testing.T, dir string) string { return "agent.sock" }, protocol.ErrConfig, "not absolute"},
		"somebody else's": {func(t *testing.T, dir string) string {
			if os.Geteuid() == 0 {
				os.Mkdir(dir+"/nobody", 0o700)
				os.Chown(dir+"/nobody", 65534, 65534)
				return dir + "/nobody/agent.sock"
			}
			return "/agent.sock" // in root's own folder
		}, protocol.ErrDenied, "not by you"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := protocol.NewClient(test.place(t, protocoltest.SocketDir(t)))
			_, err := client.Token(t.Context(), protocol.TokenRequest{})
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v; want one of %q that says %q", err, test.is, test.says)
			}
		})
	}
}

// A link to a socket is followed if it is the caller's own and lies in a folder of the caller's alone, as its target does.
func TestClientFollowsLinks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		place func(t *testing.T, dir, sock string) string // returns the path that is asked at
		is    error
		says  string
	}{
		"a link": {place: func(t *testing.T, dir, sock string) string {
			return link(t, sock, dir+"/agent.sock")
		}},
		"a relative link": {place: func(t *testing.T, dir, sock string) string {
			return link(t, "../"+filepath.Base(filepath.Dir(sock))+"/agent.sock", dir+"/agent.sock")
		}},
		"a link to a link": {place: func(t *testing.T, dir, sock string) string {
			return link(t, link(t, sock, dir+"/second"), dir+"/agent.sock")
		}},
		"a link whose target has a long path": {place: func(t *testing.T, dir, sock string) string {
			far := dir + "/" + strings.Repeat("x", 120)
			os.Mkdir(far, 0o700)
			return link(t, link(t, sock, far+"/agent.sock"), dir+"/agent.sock")
		}},
		"nothing at its end": {func(t *testing.T, dir, sock string) string {
			return link(t, dir+"/none", dir+"/agent.sock")
		}, protocol.ErrNoAgent, "agent.sock"},
		"no folder at its end": {func(t *testing.T, dir, sock string) string {
			return link(t, dir+"/none/agent.sock", dir+"/agent.sock")
		}, protocol.ErrNoAgent, "agent.sock"},
		"a file at its end": {func(t *testing.T, dir, sock string) string {
			os.WriteFile(dir+"/file", nil, 0o600)
			return link(t, dir+"/file", dir+"/agent.sock")
		}, protocol.ErrDenied, "not a socket"},
		"to itself": {func(t *testing.T, dir, sock string) string {
			return link(t, "agent.sock", dir+"/agent.sock")
		}, protocol.ErrDenied, "without end"},
		"into an open folder": {func(t *testing.T, dir, sock string) string {
			os.Mkdir(dir+"/open", 0o700)
			os.Chmod(dir+"/open", 0o777)
			return link(t, dir+"/open/agent.sock", dir+"/agent.sock")
		}, protocol.ErrDenied, "open to others (mode 0777)"},
		"by way of an open folder": {func(t *testing.T, dir, sock string) string {
			os.Mkdir(dir+"/open", 0o700)
			os.Chmod(dir+"/open", 0o777)
			return link(t, link(t, sock, dir+"/open/agent.sock"), dir+"/agent.sock")
		}, protocol.ErrDenied, "open to others (mode 0777)"},
		"from an open folder": {func(t *testing.T, dir, sock string) string {
			os.Mkdir(dir+"/open", 0o700)
			os.Chmod(dir+"/open", 0o777)
			return link(t, sock, dir+"/open/agent.sock")
		}, protocol.ErrDenied, "open to others (mode 0777)"},
		"into a linked folder": {func(t *testing.T, dir, sock string) string {
			return link(t, link(t, filepath.Dir(sock), dir+"/folder")+"/agent.sock", dir+"/agent.sock")
		}, protocol.ErrDenied, "a symbolic link"},
		"into another user's folder": {func(t *testing.T, dir, sock string) string {
			return link(t, "/agent.sock", dir+"/agent.sock")
		}, protocol.ErrDenied, "the socket's folder / is"},
		"another user's": {func(t *testing.T, dir, sock string) string {
			path := link(t, sock, dir+"/agent.sock")
			if os.Geteuid() != 0 {
				t.Skip("only root can give a link away")
			}
			if err := os.Lchown(path, 65534, 65534); err != nil {
				t.Fatal(err)
			}
			return path
		}, protocol.ErrDenied, "a symbolic link owned by uid 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sock := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
			protocoltest.ServeAt(t, protocoltest.NewFake(fakeProfile), sock)
			client := protocol.NewClient(test.place(t, protocoltest.SocketDir(t), sock))
			defer client.Close()
			token, err := client.Token(t.Context(), protocol.TokenRequest{})
			switch {
			case test.is == nil && (err != nil || token.Value.Reveal() != "fake-access-1"):
				t.Errorf("%q, %v", token.Value.Reveal(), err)
			case test.is != nil && (!errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says)):
				t.Errorf("error %v; want one of %q that says %q", err, test.is, test.says)
			}
		})
	}
}

// link makes a link at path, which it returns.
func link(t *testing.T, target, path string) string {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// A socket that another user shares may be reached by a link as well: of that user's, of one's own or of root's.
func TestSharedSocketBehindLink(t *testing.T) {
	sock := filepath.Join(protocoltest.SocketDir(t), "agent.sock")
	protocoltest.ServeAt(t, protocoltest.NewFake(fakeProfile), sock)
	t.Setenv("CCAGENT_SOCK_UID", strconv.Itoa(os.Geteuid()))
	dir := protocoltest.SocketDir(t)
	ask := func(path string) error {
		client := protocol.NewClient(path)
		defer client.Close()
		_, err := client.Token(t.Context(), protocol.TokenRequest{})
		return err
	}
	if err := ask(link(t, sock, dir+"/agent.sock")); err != nil {
		t.Error(err)
	}
	os.Mkdir(dir+"/open", 0o700)
	os.Chmod(dir+"/open", 0o777)
	for _, path := range []string{link(t, sock, dir+"/open/agent.sock"), link(t, dir+"/open/agent.sock", dir+"/second")} {
		if err := ask(path); !errors.Is(err, protocol.ErrDenied) || !strings.Contains(err.Error(), "others may write (mode 0777)") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Where nobody listens at the address that CCAGENT_SOCK names, the error tells an agent that nobody has started from a forwarding
// that has ended, because an agent that is started here has no part in that one.
func TestStaleAddress(t *testing.T) {
	dead := func(path string) string {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		return path
	}
	dir := protocoltest.SocketDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if err := os.Mkdir(dir+"/ccagent", 0o700); err != nil {
		t.Fatal(err)
	}
	ours := dead(dir + "/ours.sock")
	os.WriteFile(ours+".lock", nil, 0o600)
	forwarded := dead(dir + "/forwarded.sock")
	for name, test := range map[string]struct {
		path, ssh  string
		says, hint string
		not        string // in the hint
	}{
		"the default address": {path: dir + "/ccagent/agent.sock", hint: "start one with `ccagent serve`", not: "CCAGENT_SOCK"},
		"a dead agent's":      {path: ours, hint: "start one there with `ccagent serve`\nor unset CCAGENT_SOCK", not: "ccagent env"},
		"nothing there":       {path: dir + "/none.sock", hint: "start one there with `ccagent serve`", not: "forward"},
		"nothing there, logged in by ssh": {path: dir + "/none.sock", ssh: "192.0.2.1 50000 192.0.2.2 22",
			hint: "log in again with the forwarding", not: "serve"},
		"forwarded by hand": {path: forwarded, says: "whoever forwarded or exported this socket has ended",
			hint: "forward it again", not: "ccagent serve`"},
		"a link to what was forwarded": {path: link(t, forwarded, dir+"/link"),
			says: "a symbolic link to " + forwarded + ": whoever forwarded", hint: "forward it again", not: "ccagent serve`"},
		"of a session of ccagent forward": {path: "/tmp/ccagent-Ab3dEf6hIj/agent.sock", says: "the session of `ccagent forward`",
			hint: "ccagent forward HOST", not: "serve"},
		"the stable address of sessions": {path: "/tmp/ccagent-forward-4294967294/0123456789.sock",
			says: "the session of `ccagent forward`", hint: "unset CCAGENT_SOCK", not: "serve"},
		"a link to an ended session": {path: link(t, "/tmp/ccagent-Ab3dEf6hIj/agent.sock", dir+"/stable"),
			says: "a symbolic link to /tmp/ccagent-Ab3dEf6hIj/agent.sock: the session", hint: "unset CCAGENT_SOCK", not: "serve"},
	} {
		t.Setenv("CCAGENT_SOCK", test.path)
		t.Setenv("SSH_CONNECTION", test.ssh)
		client, err := protocol.ClientFromEnv(false)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Token(t.Context(), protocol.TokenRequest{})
		hint := protocol.HintOf(err)
		if !errors.Is(err, protocol.ErrNoAgent) || !strings.Contains(err.Error(), "no agent is listening at "+test.path) ||
			!strings.Contains(err.Error(), test.says) || !strings.Contains(hint, test.hint) ||
			test.not != "" && strings.Contains(hint, test.not) {
			t.Errorf("%s: %v\nhint: %s", name, err, hint)
		}
	}
}

func TestSocketPath(t *testing.T) {
	uid := filepath.Base(filepath.Dir(func() string { // the path that the last rule makes of the uid
		t.Setenv("CCAGENT_SOCK", "")
		t.Setenv("XDG_RUNTIME_DIR", "")
		t.Setenv("TMPDIR", "")
		p, _, _ := protocol.SocketPath()
		return p
	}()))
	for _, test := range []struct {
		sock, runtime, tmp string
		want               string
		isDefault          bool
		err                error
	}{
		{"/s/agent.sock", "/run/u", "/t", "/s/agent.sock", false, nil},
		{"", "/run/u", "/t", "/run/u/ccagent/agent.sock", true, nil},
		{"/run/u/ccagent/agent.sock", "/run/u/", "/t", "/run/u/ccagent/agent.sock", true, nil},
		{"", "relative", "/t/", "/t/" + uid + "/agent.sock", true, nil},
		{"", "", "", "/tmp/" + uid + "/agent.sock", true, nil},
		{"relative.sock", "/run/u", "", "relative.sock", false, protocol.ErrConfig},
		{"/" + strings.Repeat("x", 200), "", "", "/" + strings.Repeat("x", 200), false, protocol.ErrConfig},
		{"", "/" + strings.Repeat("x", 200), "", "/" + strings.Repeat("x", 200) + "/ccagent/agent.sock", true, protocol.ErrConfig},
	} {
		t.Setenv("CCAGENT_SOCK", test.sock)
		t.Setenv("XDG_RUNTIME_DIR", test.runtime)
		t.Setenv("TMPDIR", test.tmp)
		path, isDefault, err := protocol.SocketPath()
		if path != test.want || isDefault != test.isDefault || !errors.Is(err, test.err) {
			t.Errorf("%+v: %q, %v, %v", test, path, isDefault, err)
		}
	}
}

func TestPeerOf(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	path := peer(t, func(_ int, conn *net.UnixConn) {
		raw, err := conn.SyscallConn()
		if err != nil {
			result <- err
			return
		}
		raw.Control(func(fd uintptr) {
			p, err := protocol.PeerOf(int(fd))
			if err == nil && (p.UID != uint32(os.Geteuid()) || p.PID != int32(os.Getpid())) {
				err = errors.New("not this process")
			}
			result <- err
		})
	})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if p, err := protocol.PeerOf(0); err == nil && p.UID == 0 {
		t.Errorf("the peer of no socket is %+v", p)
	}
}

//go:build e2e

package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// credential is a real user of this machine, as setup.sh made it.
func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	needRoot(t)
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("%v: test/e2e/setup.sh makes them", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// giveTo makes a user the owner of a home with all that is in it.
func (h *home) giveTo(owner *syscall.Credential) {
	h.t.Helper()
	h.owner = owner
	if err := os.Chmod(h.root, 0o755); err != nil {
		h.t.Fatal(err)
	}
	err := filepath.WalkDir(h.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// tokenFrame is a token request as docs/protocol.md has it, from the golden vectors.
func tokenFrame(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../protocol/testdata/token-request-default.hex")
	if err != nil {
		t.Fatal(err)
	}
	frame, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// asks sends a token request to a socket from this process, past all that cchelper looks at, and returns the
// payload of the reply, nothing if the agent closes instead.
func asks(t *testing.T, socket string) ([]byte, error) {
	t.Helper()
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(tokenFrame(t)); err != nil && !errors.Is(err, syscall.EPIPE) {
		return nil, err
	}
	reply, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
		return nil, nil // the agent closed, without reading what we said or after it
	}
	return reply, err
}

// asksAs does the same as another user: it prints the number of bytes that came back, or the error's name.
func asksAs(t *testing.T, who *syscall.Credential, socket string) string {
	t.Helper()
	const script = `
import errno, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
try:
    s.connect(sys.argv[1])
except OSError as e:
    sys.exit(errno.errorcode[e.errno])
n = 0
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    n = len(s.recv(4096))
except (ConnectionResetError, BrokenPipeError):
    pass
sys.exit("%d bytes" % n)
`
	cmd := exec.Command(need(t, "/usr/bin/python3"), "-c", script, socket, hex.EncodeToString(tokenFrame(t)))
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	return strings.TrimSpace(finish(t, cmd).stderr)
}

func TestOthersAreRefused(t *testing.T) {
	alice, bob := credential(t, "ccagent-alice"), credential(t, "ccagent-bob")
	h, _ := newSignedIn(t, time.Hour)
	h.giveTo(alice)
	h.serve()
	token := h.token()

	// logged waits for the line about a refused uid and forgets it.
	logged := func(uid uint32) {
		t.Helper()
		wait(t, fmt.Sprintf("uid %d in the log", uid), func() bool { return refusals(h.log(), uid) > 0 })
		if strings.Contains(h.log(), token) {
			t.Error("the token is in the log")
		}
		if err := os.Truncate(h.logFile(), 0); err != nil {
			t.Fatal(err)
		}
	}
	asHelper := func(who *syscall.Credential) result {
		t.Helper()
		cmd := h.command(program("cchelper"))
		cmd.Dir = "/"
		cmd.Env = append(cmd.Env, "CCAGENT_SOCK="+h.socket())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		return finish(t, cmd)
	}
	root := &syscall.Credential{}

	t.Run("closed folder", func(t *testing.T) {
		if got := asksAs(t, bob, h.socket()); got != "EACCES" {
			t.Errorf("bob at the socket: %s, want EACCES", got)
		}
		asHelper(bob).fails(t, 6, fmt.Sprintf("XDG_RUNTIME_DIR is %s, a folder that is owned by uid %d", h.runtime, alice.Uid))
		if reply, err := asks(t, h.socket()); err != nil || len(reply) != 0 {
			t.Errorf("root was answered with %d bytes, %v", len(reply), err)
		}
		logged(0)
		asHelper(root).fails(t, 6, fmt.Sprintf("owned by uid %d", alice.Uid))
	})
	t.Run("folder opened up", func(t *testing.T) {
		for path, mode := range map[string]os.FileMode{h.runtime: 0o755, filepath.Dir(h.socket()): 0o755, h.socket(): 0o666} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if got := asksAs(t, bob, h.socket()); got != "0 bytes" {
			t.Errorf("bob was answered with %s", got)
		}
		logged(bob.Uid)
		if reply, err := asks(t, h.socket()); err != nil || len(reply) != 0 {
			t.Errorf("root was answered with %d bytes, %v", len(reply), err)
		}
		logged(0)
		asHelper(bob).fails(t, 6, fmt.Sprintf("owned by uid %d", alice.Uid))
		asHelper(alice).fails(t, 6, "open to others (mode 0755)")
		if got := asksAs(t, alice, h.socket()); got == "0 bytes" || !strings.HasSuffix(got, " bytes") {
			t.Errorf("alice was answered with %s: the agent stopped serving after the refusals", got)
		}
	})
}

// refusals counts the lines of a log that say that a peer of this uid was refused.
func refusals(log string, uid uint32) int {
	n := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, "refused") && strings.Contains(line, fmt.Sprintf("uid=%d ", uid)) {
			n++
		}
	}
	return n
}

// The folder of the socket must keep it private, for the agent that makes it and for whoever looks for an agent there.
func TestBadSocketFolders(t *testing.T) {
	cases := []struct {
		name  string
		make  func(t *testing.T, h *home, dir string)
		found string // in the error
	}{
		{"0777", func(t *testing.T, _ *home, dir string) { mkdir(t, dir, 0o777) }, "open to others (mode 0777)"},
		{"group may enter", func(t *testing.T, _ *home, dir string) { mkdir(t, dir, 0o710) }, "open to others (mode 0710)"},
		{"symbolic link", func(t *testing.T, h *home, dir string) {
			mkdir(t, h.path("real"), 0o700)
			if err := os.Symlink(h.path("real"), dir); err != nil {
				t.Fatal(err)
			}
		}, "a symbolic link"},
		{"foreign", func(t *testing.T, _ *home, dir string) {
			bob := credential(t, "ccagent-bob")
			mkdir(t, dir, 0o700)
			if err := os.Chown(dir, int(bob.Uid), int(bob.Gid)); err != nil {
				t.Fatal(err)
			}
		}, "owned by uid "},
		{"a file", func(t *testing.T, _ *home, dir string) {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			h, _ := newSignedIn(t, time.Hour)
			dir := filepath.Dir(h.socket())
			test.make(t, h, dir)
			h.run("timeout", append([]string{"20", program("ccagent")}, h.serveArgs()...)...).fails(t, 6, test.found)
			h.helper().fails(t, 6, test.found)
			h.ccagent("status").fails(t, 6, test.found)
			if a := h.agents(); len(a) != 0 {
				t.Errorf("an agent runs: %v", a)
			}
		})
	}
}

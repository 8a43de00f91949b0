package protocol_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// Two users that nobody is.
const alice, bob = 54321, 54322

// ownedBy makes a folder of that user's, and removes it when the test ends.
func ownedBy(t *testing.T, path string, uid int, mode os.FileMode) string {
	t.Helper()
	t.Cleanup(func() { os.RemoveAll(path) })
	if err := os.Mkdir(path, mode); err != nil {
		t.Skip(err) // as where /run can't be written
	}
	if err := errors.Join(os.Chmod(path, mode), os.Chown(path, uid, uid)); err != nil {
		t.Skip("only root can give a folder away: ", err)
	}
	return path
}

// Where XDG_RUNTIME_DIR or TMPDIR names a place that is not there or another user's, the client says that, and nothing is made.
func TestRoom(t *testing.T) {
	base := protocoltest.SocketDir(t)
	os.Chmod(base, 0o755)
	foreign := ownedBy(t, base+"/foreign", alice, 0o700)
	readable := ownedBy(t, base+"/readable", alice, 0o755)
	everybodys := ownedBy(t, base+"/tmp", 0, 0o777|os.ModeSticky)
	inForeign := ownedBy(t, base+"/with", alice, 0o755)
	ownedBy(t, inForeign+"/ccagent", alice, 0o700)
	os.WriteFile(base+"/file", nil, 0o600)
	taken := ownedBy(t, base+"/taken", 0, 0o777|os.ModeSticky)
	ownedBy(t, taken+"/ccagent-"+strconv.Itoa(bob), alice, 0o700)
	mine := ownedBy(t, base+"/mine", bob, 0o700)
	ownedBy(t, mine+"/ccagent", alice, 0o700)
	for name, test := range map[string]struct {
		runtime, tmp string
		is           error
		says, hint   string
	}{
		"no runtime folder": {
			runtime: base + "/none", is: protocol.ErrNoAgent,
			says: "XDG_RUNTIME_DIR is " + base + "/none, and there is no such",
			hint: "unset XDG_RUNTIME_DIR",
		},
		"another user's": {
			runtime: foreign, is: protocol.ErrDenied,
			says: "XDG_RUNTIME_DIR is " + foreign + ", a folder that is owned by uid 54321, not by you (uid 54322)",
			hint: "sudo -E",
		},
		"another user's, readable": {
			runtime: readable + "/", is: protocol.ErrDenied,
			says: "owned by uid 54321",
			hint: "unset XDG_RUNTIME_DIR",
		},
		"with a socket in it": {
			runtime: inForeign, is: protocol.ErrDenied,
			says: "XDG_RUNTIME_DIR is " + inForeign,
			hint: "su",
		},
		"a file": {
			runtime: base + "/file", is: protocol.ErrDenied,
			says: "not a directory",
			hint: "XDG_RUNTIME_DIR",
		},
		"everybody's": {
			runtime: everybodys, is: protocol.ErrNoAgent,
			says: "listening at " + everybodys,
		},
		"no TMPDIR": {
			tmp: base + "/none", is: protocol.ErrNoAgent,
			says: "TMPDIR is " + base + "/none",
			hint: "unset TMPDIR",
		},
		"another user's TMPDIR": {
			tmp: readable, is: protocol.ErrDenied,
			says: "TMPDIR is " + readable,
			hint: "unset TMPDIR",
		},
		"a name that is taken": {
			tmp: taken, is: protocol.ErrDenied,
			says: "owned by uid 54321, not by you (uid 54322)",
			hint: "sudo rm -r " + taken + "/ccagent-54322\nuntil then",
		},
		"taken in my own": {
			runtime: mine, is: protocol.ErrDenied,
			says: "owned by uid 54321",
			hint: "move away",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CCAGENT_SOCK", "")
			t.Setenv("XDG_RUNTIME_DIR", test.runtime)
			t.Setenv("TMPDIR", test.tmp)
			t.Setenv("HOME", base)
			before := files(base)
			protocoltest.AsUser(t, bob, func() {
				path, _, err := protocol.SocketPath()
				if err != nil {
					t.Error(err)
				}
				_, err = protocol.NewClient(path).Token(t.Context(), protocol.TokenRequest{})
				if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) ||
					!strings.Contains(protocol.HintOf(err), test.hint) {
					t.Errorf("%v, hint %q", err, protocol.HintOf(err))
				}
				if protocol.CheckRoom(protocol.SocketDir(path)) != nil {
					if err := protocol.Start(t.Context(), "/bin/false", path); !errors.Is(err, test.is) {
						t.Errorf("Start: %v", err)
					}
				}
			})
			if after := files(base); after != before {
				t.Errorf("something was made:\n%s", after)
			}
		})
	}
}

// files lists all that is below dir.
func files(dir string) string {
	var list strings.Builder
	filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		list.WriteString(path + "\n")
		return nil
	})
	return list.String()
}

// Where no variable names a place, the folder that a login makes is found from the time on that it is there.
func TestRuntimeFolderAppears(t *testing.T) {
	t.Setenv("CCAGENT_SOCK", "")
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", "")
	at := func(uid int) (path, why string) {
		protocoltest.AsUser(t, uid, func() {
			path, _, _ = protocol.SocketPath()
			why = protocol.SocketReason()
		})
		return path, why
	}
	if path, why := at(bob); path != "/tmp/ccagent-54322/agent.sock" || !strings.Contains(why, "no /run/user/54322") {
		t.Errorf("before the login: %s, %s", path, why)
	}
	if os.MkdirAll("/run/user", 0o755) != nil {
		t.Skip("no /run here")
	}
	made := ownedBy(t, "/run/user/54322", bob, 0o700)
	if path, why := at(bob); path != "/run/user/54322/ccagent/agent.sock" || !strings.Contains(why, "/run/user/54322 is there") {
		t.Errorf("after the login: %s, %s", path, why)
	}
	t.Setenv("TMPDIR", "/var/tmp")
	if path, _ := at(bob); path != "/var/tmp/ccagent-54322/agent.sock" {
		t.Errorf("what is set comes before what is found: %s", path)
	}
	t.Setenv("TMPDIR", "")
	for name, change := range map[string]func() error{
		"open to others": func() error { return os.Chmod(made, 0o755) },
		"another user's": func() error { return errors.Join(os.Chmod(made, 0o700), os.Chown(made, alice, alice)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if path, _ := at(bob); path != "/tmp/ccagent-54322/agent.sock" {
			t.Errorf("%s: %s", name, path)
		}
	}
}

// Nobody is advised to close a folder that others need open.
func TestNoAdviceToCloseSharedFolders(t *testing.T) {
	base := protocoltest.SocketDir(t)
	os.Chmod(base, 0o755)
	if err := protocol.CheckDir(base); err == nil || !strings.Contains(protocol.HintOf(err), "chmod 700 "+base) {
		t.Errorf("%s: %v: %s", base, err, protocol.HintOf(err))
	}
	for _, dir := range []string{"/", "/tmp", "/etc", "/usr/lib"} {
		if err := protocol.CheckDir(dir); err == nil || strings.Contains(protocol.HintOf(err), "chmod") {
			t.Errorf("%s: %v: %s", dir, err, protocol.HintOf(err))
		}
	}
}

// Who is told whose socket to trust may be one whom that socket does not let in, which looks like an agent that is gone.
func TestNotLetIn(t *testing.T) {
	path := protocoltest.SocketDir(t) + "/agent.sock"
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	for owner, advised := range map[string]bool{"": false, strconv.Itoa(os.Geteuid()): true} {
		t.Setenv("CCAGENT_SOCK_UID", owner)
		_, err := protocol.NewClient(path).Token(t.Context(), protocol.TokenRequest{})
		if !errors.Is(err, protocol.ErrNoAgent) || strings.Contains(protocol.HintOf(err), "--allow-uid") != advised {
			t.Errorf("%q: %v: %s", owner, err, protocol.HintOf(err))
		}
	}
}

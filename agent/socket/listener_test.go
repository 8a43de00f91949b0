package socket

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// socketDir is a short private folder, because a socket's path must be short.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cca")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

func TestListen(t *testing.T) {
	dir := socketDir(t)
	path := filepath.Join(dir, "new", "agent.sock")
	l := listen(t, path)
	for name, want := range map[string]os.FileMode{path: 0o600 | os.ModeSocket, filepath.Dir(path): 0o700 | os.ModeDir, path +
		".lock": 0o600} {
		if info, err := os.Lstat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if _, err := Listen(t.Context(), path); !errors.Is(err, ErrRunning) {
		t.Errorf("a second agent on the socket: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	listen(t, path)
}

func TestListenTakesOverADeadSocket(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	listen(t, path)
}

// An agent whose address is a link listens where the link leads, so that clients that follow it find the agent.
func TestListenFollowsLink(t *testing.T) {
	dir, far := socketDir(t), socketDir(t)
	if err := os.Symlink(far+"/agent.sock", dir+"/agent.sock"); err != nil {
		t.Fatal(err)
	}
	l := listen(t, dir+"/agent.sock")
	if l.Path() != far+"/agent.sock" || Holder(dir+"/agent.sock") != os.Getpid() {
		t.Errorf("%s, held by %d", l.Path(), Holder(dir+"/agent.sock"))
	}
	if _, err := Listen(t.Context(), dir+"/agent.sock"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second agent: %v", err)
	}
	if info, err := os.Lstat(dir + "/agent.sock"); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link: %v, %v", info, err)
	}
}

func TestListenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		set   func(t *testing.T, dir string) (path string)
		names string
	}{
		{"a file in the way", func(t *testing.T, dir string) string {
			os.WriteFile(dir+"/agent.sock", nil, 0o600)
			return dir + "/agent.sock"
		}, "it is a file"},
		{"a link in the way", func(t *testing.T, dir string) string {
			os.Symlink("/nowhere", dir+"/agent.sock")
			return dir + "/agent.sock"
		}, "symbolic link"},
		{"someone listens without the lock", func(t *testing.T, dir string) string {
			l, err := net.Listen("unix", dir+"/agent.sock")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return dir + "/agent.sock"
		}, "another program listens"},
		{"an open folder", func(t *testing.T, dir string) string {
			os.Chmod(dir, 0o777)
			return dir + "/agent.sock"
		}, "open to others (mode 0777)"},
		{"a linked folder", func(t *testing.T, dir string) string {
			os.Mkdir(dir+"/real", 0o700)
			os.Symlink(dir+"/real", dir+"/link")
			return dir + "/link/agent.sock"
		}, "a symbolic link"},
		{"a lock file that is a link", func(t *testing.T, dir string) string {
			os.Symlink("/nowhere", dir+"/agent.sock.lock")
			return dir + "/agent.sock"
		}, "agent.sock.lock"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tc.set(t, socketDir(t))
			l, err := Listen(t.Context(), path)
			if err == nil {
				l.Release()
				t.Fatal("not refused")
			}
			if !strings.Contains(err.Error(), tc.names) {
				t.Errorf("%q does not name what was found: %q", err, tc.names)
			}
		})
	}
}

// The old agent ends while a new one has its place already, as after a service manager has replaced the socket file.
func TestReleaseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	old := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	old.Release()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the new agent's socket was removed: %v", err)
	}
}

func TestListenWaitsForOneThatEnds(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	old := listen(t, path)
	old.Retire() // it answers no more, and holds the lock until its workers are done
	got := make(chan error)
	go func() {
		l, err := Listen(t.Context(), path)
		if err == nil {
			l.Release()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	old.Release()
	if err := <-got; err != nil {
		t.Error(err)
	}
	old = listen(t, path)
	old.Retire()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Listen(ctx, path); !errors.Is(err, protocol.ErrUnavailable) {
		t.Errorf("a holder that never ends: %v", err)
	}
}

// The lock tells who has the place: the file goes on to name an agent that has given it up, whose process may still be there.
func TestHolder(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	if pid := Holder(path); pid != 0 {
		t.Errorf("before anybody came: %d", pid)
	}
	l := listen(t, path)
	if pid := Holder(path); pid != os.Getpid() {
		t.Errorf("%d, want %d", pid, os.Getpid())
	}
	l.Release()
	if pid := Holder(path); pid != 0 {
		t.Errorf("given up, and still %d", pid)
	}
}

// An agent that is killed while it starts a worker leaves the socket and the lock in it until that runs its program: nobody
// answers there, and the next agent is not to take it for one that does.
func TestListenOutwaitsAKilledAgent(t *testing.T) {
	path := filepath.Join(socketDir(t), "agent.sock")
	for _, first := range []string{"lock", "socket"} { // to be closed
		ghost := listen(t, path)
		if _, err := ghost.lock.WriteAt([]byte("2 1                 \n"), 0); err != nil { // nobody's number and start
			t.Fatal(err)
		}
		closed := make(chan struct{})
		time.AfterFunc(200*time.Millisecond, func() {
			defer close(closed)
			parts := []io.Closer{ghost.lock, &ghost.Swapped}
			if first == "socket" {
				slices.Reverse(parts)
			}
			parts[0].Close()
			time.Sleep(50 * time.Millisecond)
			parts[1].Close()
		})
		l, err := Listen(t.Context(), path)
		<-closed
		if err != nil {
			t.Fatalf("the %s goes first: %v", first, err)
		}
		l.Release()
	}
}

// Where XDG_RUNTIME_DIR names a folder that is not there, none is made; a folder that CCAGENT_SOCK names is.
func TestListenMakesNoRuntimeFolder(t *testing.T) {
	dir := socketDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir+"/run")
	if _, err := Listen(t.Context(), dir+"/run/ccagent/agent.sock"); !errors.Is(err, protocol.ErrNoAgent) {
		t.Error(err)
	}
	if found, _ := filepath.Glob(dir + "/*"); found != nil {
		t.Errorf("made: %s", found)
	}
	listen(t, dir+"/own/agent/agent.sock")
}

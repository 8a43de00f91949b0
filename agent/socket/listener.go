// Package socket makes the socket that an agent listens on, and sees to it that one agent alone has its place
// (docs/protocol.md §2). It knows nothing of what is said over the socket: package server does that.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// ErrRunning is the error of [Listen] where another agent answers on the socket already.
var ErrRunning = errors.New("another agent answers on this socket")

// Listener is an agent's socket (docs/protocol.md §2.1). One agent has it at a time, by an flock on a lock file beside the
// socket; the lock file is never deleted. [Listen] and [Adopt] make one.
type Listener struct {
	Swapped
	mu      sync.Mutex // guards what follows
	path    string
	follows bool // the path is the default one, wherever that is
	lock    *os.File
	file    fs.FileInfo // the socket's file
	managed bool        // a service manager made it
	retired bool
}

// Path is the socket's path. It changes where the default path does: see [Listener.Keep].
func (l *Listener) Path() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.path
}

// lingering is how long the socket and the lock of an agent that was killed may outlive it: a child that it has just forked has
// both open until it runs its own program.
const lingering = time.Second

// Listen makes the socket at path, with mode 0600 in a folder that is its owner's alone. It makes the folder where there is none.
// If path is a link of its owner's, as [protocol.Place] follows one, the socket is made where that leads. It takes over the
// socket of an agent that is gone. It waits until ctx ends for an agent that is just starting or stopping (ErrUnavailable), and
// returns ErrRunning for one that answers. Anything else that is at path or in its way is refused (ErrConfig) with an error that
// names it.
func Listen(ctx context.Context, path string) (*Listener, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	place, err := protocol.Place(path, protocol.CheckDir)
	if err != nil {
		return nil, err
	}
	follows := isDefault(path) && place == path
	path = place
	var since time.Time
	lock, err := takeLock(ctx, path, func(f *os.File) error {
		switch {
		case !answers(path):
			since = time.Time{}
		case holder(f) != 0, !since.IsZero() && time.Since(since) > lingering:
			return ErrRunning
		case since.IsZero():
			since = time.Now()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, follows: follows, lock: lock}
	if err := l.bind(ctx); err != nil {
		lock.Close()
		return nil, err
	}
	return l, nil
}

// Adopt takes over a listener that a service manager made. An agent that has the place already, because a helper started it, is
// asked to end and waited for until ctx ends (ErrUnavailable). Its workers outlive it, and it leaves unsaved records on disk.
func Adopt(ctx context.Context, ln *net.UnixListener) (*Listener, error) {
	path := ln.Addr().String()
	if err := protocol.CheckDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	asked := 0
	lock, err := takeLock(ctx, path, func(f *os.File) error {
		if pid := holder(f); pid != 0 && pid != asked {
			asked = pid
			// The service manager has replaced its socket: a signal is the only way to reach it.
			syscall.Kill(pid, syscall.SIGTERM)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, lock: lock, managed: true}
	if l.file, err = os.Lstat(path); err == nil {
		var s Socket
		if s, err = Take(ln); err == nil {
			l.Swap(s)
			return l, nil
		}
	}
	lock.Close()
	return nil, socketError(cause(err), "")
}

func isDefault(path string) bool {
	place, is, err := protocol.SocketPath()
	return is && err == nil && place == path
}

// makeDir makes the folder of a socket where there is none. Where [protocol.CheckRoom] refuses, nothing is made.
func makeDir(dir string) error {
	if err := protocol.CheckRoom(dir); err != nil && protocol.CheckDir(dir) != nil {
		return err
	}
	err := os.MkdirAll(filepath.Dir(dir), 0o700)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return socketError("the socket's folder can't be made: "+cause(err), "set XDG_RUNTIME_DIR to a folder of your own")
	}
	return protocol.CheckDir(dir)
}

// takeLock waits for the lock beside path. It calls held each time it finds that someone else has it; an error of held ends the
// wait.
func takeLock(ctx context.Context, path string, held func(*os.File) error) (*os.File, error) {
	name := path + ".lock"
	f, err := openLock(name)
	if err != nil {
		return nil, err
	}
	for {
		taken, err := disk.TryLock(f)
		if err != nil {
			f.Close()
			return nil, socketError("the lock file "+name+" can't be locked: "+err.Error(), "")
		}
		if taken && hasName(f, name) {
			break
		}
		if taken { // somebody has removed the file meanwhile
			f.Close()
			if f, err = openLock(name); err != nil {
				return nil, err
			}
			continue
		}
		if err := held(f); err != nil {
			f.Close()
			return nil, err
		}
		if !waitToRetry(ctx) {
			pid := holder(f)
			f.Close()
			return nil, &protocol.Error{
				Code:    protocol.CodeUnavailable,
				Message: fmt.Sprintf("an agent (pid %d) holds %s and neither answers nor ends", pid, name),
				Hint:    fmt.Sprintf("see what it does with: ps -p %d; end it with: kill %d", pid, pid),
			}
		}
	}
	f.Truncate(0)
	self, _ := process.Of(int32(os.Getpid()))
	fmt.Fprintf(f, "%d %d\n", os.Getpid(), self.Start)
	return f, nil
}

func openLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, socketError("the lock file can't be opened: "+cause(err), "move away what is there, or set CCAGENT_SOCK")
	}
	return f, nil
}

// hasName reports whether the file is the one that has the name.
func hasName(f *os.File, name string) bool {
	mine, err := f.Stat()
	return err == nil && isAt(mine, name)
}

// isAt reports whether the file is the one at path.
func isAt(file fs.FileInfo, path string) bool {
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(there, file)
}

// Holder returns the process id of the agent that has the socket at path, 0 where there is none or it is not known. The peer of a
// connection would not tell: where a service manager made the socket, the peer is the manager.
func Holder(path string) int {
	if place, err := protocol.Place(path, protocol.CheckDir); err == nil {
		path = place
	}
	f, err := os.OpenFile(path+".lock", os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if !disk.Locked(f) { // nobody has it; the process that it names has ended
		return 0
	}
	return holder(f)
}

// holder returns the process that the lock file names, 0 when it names none or that one has ended.
func holder(f *os.File) int {
	b := make([]byte, 64)
	n, _ := f.ReadAt(b, 0)
	fields := strings.Fields(string(b[:n]))
	if len(fields) != 2 {
		return 0
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || pid <= 1 {
		return 0
	}
	if p, _ := process.Of(int32(pid)); strconv.FormatUint(p.Start, 10) != fields[1] {
		return 0
	}
	return pid
}

// answers reports whether somebody listens at path.
func answers(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// keepsAnswering reports whether somebody listens at path for longer than what a killed agent leaves behind could.
func keepsAnswering(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, lingering)
	defer cancel()
	for answers(path) {
		if !waitToRetry(ctx) {
			return true
		}
	}
	return false
}

// waitToRetry waits a moment before the next try, and reports false when ctx ends first.
func waitToRetry(ctx context.Context) bool {
	wait := time.NewTimer(20 * time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// bind makes the socket. The caller has the lock of the place.
func (l *Listener) bind(ctx context.Context) error {
	if err := l.clear(ctx); err != nil {
		return err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// Linux takes a socket file's mode from the unbound socket, so it is 0600 from the start. Elsewhere this does nothing,
		// and the folder is what keeps others out.
		return c.Control(func(fd uintptr) { unix.Fchmod(int(fd), 0o600) })
	}}
	ln, err := config.Listen(context.Background(), "unix", l.path)
	if err != nil {
		return socketError("cannot listen on "+l.path+": "+cause(err), "")
	}
	s, err := Take(ln.(*net.UnixListener))
	if err != nil {
		return socketError(cause(err), "")
	}
	info, err := os.Lstat(l.path)
	if err == nil && info.Mode().Perm()&^0o600 != 0 { // as on macOS
		err = unix.Fchmodat(unix.AT_FDCWD, l.path, 0o600, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		s.Close()
		return socketError(cause(err), "")
	}
	l.file, l.managed = info, false
	l.Swap(s)
	return nil
}

// clear removes a socket at the path that nobody listens on. It refuses whatever else is there.
func (l *Listener) clear(ctx context.Context) error {
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case err != nil:
		return socketError(cause(err), "")
	case info.Mode().Type() != fs.ModeSocket:
		return socketError(fmt.Sprintf("%s is in the way: it is a %s, not a socket", l.path, kindOf(info.Mode())),
			"move it away, or set CCAGENT_SOCK")
	case keepsAnswering(ctx, l.path):
		return socketError("another program listens on "+l.path, "end it, or set CCAGENT_SOCK")
	}
	if err := os.Remove(l.path); err != nil {
		return socketError("a dead socket can't be removed: "+cause(err), "")
	}
	return nil
}

// Retire removes the socket file if it is still the one that we made: whoever comes now starts another agent. Connections that
// were made before can still be accepted. It reports false for a socket of a service manager, which goes on without us.
func (l *Listener) Retire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.retired && !l.managed && isAt(l.file, l.path) {
		os.Remove(l.path)
	}
	l.retired = true
	return !l.managed
}

// Release gives the place up: the socket file where it is ours, the socket and the lock.
func (l *Listener) Release() error {
	l.Retire()
	return errors.Join(l.Swapped.Close(), l.lock.Close())
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "file"
	case m.IsDir():
		return "folder"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	default:
		return "special file"
	}
}

func socketError(message, hint string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: message, Hint: hint}
}

// cause is err without the operation: "PATH: permission denied".
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Path + ": " + p.Err.Error()
	}
	return err.Error()
}

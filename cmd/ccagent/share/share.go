// Package share makes the restricted socket of `ccagent serve --export` and `ccagent forward`, and serves it. It gives out the
// tokens of chosen profiles, which it gets from the person's own agent, and nothing else.
package share

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ccagent/ccagent/agent/restricted"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/protocol"
)

// Serve answers requests on l until ctx ends, and closes l. It admits this user and the users in uids. If gid is not -1, it
// admits everybody whom the mode of the socket admits. derived lets them have derived tokens too. As for any command, an agent is
// started if none runs.
func Serve(ctx context.Context, l *Socket, profiles []string, derived bool, uids []uint32, gid int, log *slog.Logger) error {
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { l.Keep(ctx, log) })
	defer keeping.Wait()
	defer cancel()
	// The client's connections are not limited: a request that waits for a slow provider must not delay one for another profile. The
	// restricted server limits how many requests there are at a time.
	client, err := protocol.ClientFromEnv(true)
	if err != nil {
		return err
	}
	defer client.Close()
	admit := func(p protocol.Peer) error {
		if gid >= 0 { // the kernel admits nobody else, because the socket has the group's mode
			return nil
		}
		if p.UID != uint32(os.Geteuid()) && !slices.Contains(uids, p.UID) {
			return errors.New("another user")
		}
		return nil
	}
	return restricted.Agent{Of: client, Profiles: profiles, AllowDerived: derived}.Server(log).Serve(l, admit, ctx.Done())
}

// Socket is the restricted socket. It removes its name when it is closed. It implements [server.Listener].
type Socket struct {
	socket.Swapped
	path    string
	mode    fs.FileMode
	gid     int        // whose socket it is; -1: no particular group's
	mu      sync.Mutex // guards what follows
	folder  *os.Root
	file    fs.FileInfo
	retired bool
}

// Retire removes the socket's name, unless another socket has that name by now. Connections that were made before can still be
// accepted.
func (s *Socket) Retire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	name := filepath.Base(s.path)
	if now, err := s.folder.Lstat(name); err == nil && os.SameFile(now, s.file) {
		s.folder.Remove(name)
	}
	return true
}

// Keep sees to it until ctx ends that clients find the socket: if it or its folder was removed or replaced, the socket is made
// again, as soon as there is a folder for it.
func (s *Socket) Keep(ctx context.Context, log *slog.Logger) {
	said := ""
	socket.Watch(ctx, func() []string { return []string{filepath.Dir(s.path)} }, func() bool {
		did, err := s.hold()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			log.Error("nobody can reach the socket any more; it is made again once that is possible", "error", err)
		case did:
			said = ""
			log.Warn("the socket was taken away, and is made again", "socket", s.path)
		}
		return did
	})
}

// hold makes the socket again where it has lost its name, and reports whether it had to.
func (s *Socket) hold() (did bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now, err := os.Lstat(s.path); s.retired || err == nil && os.SameFile(now, s.file) {
		return false, nil
	}
	folder, err := exportFolder(filepath.Dir(s.path))
	if err != nil {
		return false, err
	}
	old := s.folder
	s.folder = folder
	if err := s.make(); err != nil {
		s.folder = old
		folder.Close()
		return false, err
	}
	old.Close()
	return true, nil
}

// Close closes the listener and removes the socket's name, unless another socket has that name by now.
func (s *Socket) Close() error {
	s.Retire()
	return errors.Join(s.Swapped.Close(), s.folder.Close())
}

// shareMode returns the mode of the socket. It admits the owner only, or a group, or everybody if there are uids, which Serve
// then checks.
func shareMode(uids []uint32, gid int) fs.FileMode {
	switch {
	case gid >= 0:
		return 0o660
	case len(uids) > 0:
		return 0o666
	}
	return 0o600
}

// maxExportFolder is the maximum length of the path of the folder, in bytes. The socket is created in a folder inside it, and on
// macOS the path of a socket may have 103 bytes.
const maxExportFolder = 90

// Listen makes the socket at path, or where a link of this user's leads that is there. Its folder must belong to this user, and
// nobody else may write it. Errors are of condition ErrConfig.
//
// The socket gets its group and its mode before it gets its name. It is bound in a new folder inside, to which nobody else has
// access, so that nobody can put a link in its place. Only then is it linked to its name. Calling fchmod and fchown on the socket
// before it is bound would not work: macOS has no fchmod for sockets, the file does not get the owner of the descriptor, and
// setfsgid does not support supplementary groups.
func Listen(path string, uids []uint32, gid int) (*Socket, error) {
	if !filepath.IsAbs(path) {
		return nil, exportError("", "%q must be an absolute path", path)
	}
	path, err := linked(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if len(dir) > maxExportFolder || len(path) > maxExportFolder+10 {
		return nil, exportError("", "%q is too long: the path of its folder may have %d bytes, and the whole path %d",
			path, maxExportFolder, maxExportFolder+10)
	}
	if own, _, err := protocol.SocketPath(); err == nil && sameSocket(path, own) {
		return nil, exportError("choose another folder: mkdir -m 700 ~/box",
			"%s is the socket of the agent itself, which nobody could reach then", path)
	}
	folder, err := exportFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &Socket{path: path, mode: shareMode(uids, gid), gid: gid, folder: folder}
	if err := s.make(); err != nil {
		folder.Close()
		return nil, err
	}
	return s, nil
}

// sameSocket reports whether the socket's path own leads to path.
func sameSocket(path, own string) bool {
	place, err := protocol.Place(own, protocol.CheckDir)
	return path == filepath.Clean(own) || err == nil && path == filepath.Clean(place)
}

// linked returns where path leads. The folder of a link, and of what it leads to, must be fit for a socket.
func linked(path string) (string, error) {
	check := func(dir string) error {
		folder, err := exportFolder(dir)
		if err != nil {
			return err
		}
		return folder.Close()
	}
	if err := check(filepath.Dir(path)); err != nil {
		return "", err
	}
	place, err := protocol.Place(path, check)
	if err != nil {
		return "", exportError(protocol.HintOf(err), "%s", strings.Replace(err.Error(), "the restricted socket: ", "", 1))
	}
	return filepath.Clean(place), nil
}

// exportError returns the error that says why there is no restricted socket. The hint may be "".
func exportError(hint, format string, args ...any) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "the restricted socket: " + fmt.Sprintf(format, args...), Hint: hint}
}

// cannotExport is exportError for an error of the operating system.
func cannotExport(path string, err error) error {
	if told := (*protocol.Error)(nil); errors.As(err, &told) {
		return told
	}
	return exportError("", "%s: %v", path, cmp.Or(errors.Unwrap(err), err))
}

// exportFolder opens and checks the folder of the socket. Everything else is done in this open folder, even if its name leads to
// another folder by then: others may be able to write in a folder above it.
func exportFolder(dir string) (*os.Root, error) {
	named, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, exportError("create it: mkdir -m 700 "+protocol.ShellLine(dir), "there is no folder %s", dir)
	case err != nil:
		return nil, cannotExport(dir, err)
	case named.Mode()&fs.ModeSymlink != 0:
		return nil, exportError("name the target of the link instead", "%s is a link", dir)
	case !named.IsDir():
		return nil, exportError("", "%s is not a folder", dir)
	}
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return nil, cannotExport(dir, err)
	}
	if err := checkExportFolder(folder, named, dir); err != nil {
		folder.Close()
		return nil, err
	}
	return folder, nil
}

func checkExportFolder(folder *os.Root, named fs.FileInfo, dir string) error {
	info, err := folder.Stat(".")
	if err != nil {
		return cannotExport(dir, err)
	}
	if !os.SameFile(info, named) {
		return exportError("", "%s was replaced in the meantime", dir)
	}
	if owner, ok := files.Owner(info); ok && owner != uint32(os.Geteuid()) {
		return exportError("choose a folder of your own: mkdir -m 700 ~/box", "%s belongs to user id %d", dir, owner)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return exportError("chmod go-w "+protocol.ShellLine(dir)+"; for a group that is to use the socket: chmod 710",
			"%s may be written by others (mode %04o), who could put a socket of their own there", dir, info.Mode().Perm())
	}
	return nil
}

// clearExport removes a socket on which nobody listens any more.
func clearExport(folder *os.Root, path string) error {
	name := filepath.Base(path)
	switch info, err := folder.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cannotExport(path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return exportError("move it away, or choose another place", "%s exists already, and is not a socket", path)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		fallthrough
	case errors.Is(err, syscall.EAGAIN): // somebody listens, and the queue of connections is full
		return exportError("end that program, or choose another place", "another program already answers at %s", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return cannotExport(path, err)
	}
	if err := folder.Remove(name); err != nil {
		return cannotExport(path, err)
	}
	return nil
}

// make makes the socket, in the place of one that nobody listens on any more.
func (s *Socket) make() error {
	if err := clearExport(s.folder, s.path); err != nil {
		return err
	}
	if err := s.bind(); err != nil {
		return cannotExport(s.path, err)
	}
	return nil
}

// bind makes the socket with its mode and group.
func (s *Socket) bind() (err error) {
	private := ".cc" + rand.Text()[:7]
	if err := s.folder.Mkdir(private, 0o700); err != nil {
		return err
	}
	defer s.folder.RemoveAll(private)
	inside, err := s.folder.OpenRoot(private)
	if err != nil {
		return err
	}
	defer inside.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(filepath.Dir(s.path), private, "s"), Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if s.gid >= 0 {
		if err := inside.Lchown("s", -1, s.gid); err != nil {
			return exportError("you must be in that group; see: id -G", "it can't be given to group %d: %v", s.gid, errors.Unwrap(err))
		}
	}
	if err := inside.Chmod("s", s.mode); err != nil {
		return err
	}
	file, err := inside.Lstat("s")
	if err != nil {
		return err
	}
	made, err := socket.Take(l)
	if err != nil {
		return err
	}
	if err := s.folder.Link(private+"/s", filepath.Base(s.path)); err != nil {
		made.Close()
		return err
	}
	s.file = file
	s.Swap(made)
	return nil
}

// Package share makes the restricted socket of `ccagent serve --export` and `ccagent forward`, which gives the tokens of chosen
// profiles and nothing else, and answers on it for the person's own agent.
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
	"syscall"

	"github.com/ccagent/ccagent/agent/restricted"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/protocol"
)

// Serve answers on l until ctx ends, and closes it. Besides this user, those of uids are let in; with gid, which is -1 for none,
// whomever the socket's mode lets in. The agent is started where none runs, as for any command.
func Serve(ctx context.Context, l *Socket, profiles []string, uids []uint32, gid int, log *slog.Logger) error {
	defer l.Close()
	// Not a pool: who waits for a slow provider must not take a connection from those who want another profile's token. How many
	// there are at a time is the export's to say.
	client, err := protocol.ClientFromEnv(true)
	if err != nil {
		return err
	}
	defer client.Close()
	admit := func(p protocol.Peer) error {
		if gid >= 0 { // the kernel lets in nobody else: the socket's mode is the group's
			return nil
		}
		if p.UID != uint32(os.Geteuid()) && !slices.Contains(uids, p.UID) {
			return errors.New("another user")
		}
		return nil
	}
	return restricted.Agent{Of: client, Profiles: profiles}.Server(log).Serve(l, admit, ctx.Done())
}

// Socket is the restricted socket, and what takes its name away at the end. It implements [server.Listener].
type Socket struct {
	socket.Socket
	folder *os.Root
	name   string
	file   fs.FileInfo
}

// Retire removes the socket's name, unless somebody else's socket has it by now. Connections that were made before can still be
// accepted.
func (s *Socket) Retire() bool {
	if now, err := s.folder.Lstat(s.name); err == nil && os.SameFile(now, s.file) {
		s.folder.Remove(s.name)
	}
	return true
}

// Close ends the listener and removes the socket, unless somebody else's is there by now.
func (s *Socket) Close() error {
	s.Retire()
	return errors.Join(s.Socket.Close(), s.folder.Close())
}

// shareMode says whom the mode of the socket lets in: its owner; a group; or everybody, whom the policy then tells apart.
func shareMode(uids []uint32, gid int) fs.FileMode {
	switch {
	case gid >= 0:
		return 0o660
	case len(uids) > 0:
		return 0o666
	}
	return 0o600
}

// maxExportFolder bounds the path of the folder: the socket is made one folder below it, and a socket's path has 103 bytes on
// macOS.
const maxExportFolder = 90

// Listen makes the socket in a folder that is the caller's, and that nobody else may write.
//
// The socket gets its group and its mode before it gets its name. It is bound in a new folder inside, which is closed to
// everybody else, so that nobody can put a link in its place; only then is it linked to where clients look. fchmod and
// fchown of the unbound socket would not do: macOS has no fchmod for sockets, the file never takes the owner from the
// descriptor, and setfsgid knows no supplementary groups.
func Listen(path string, uids []uint32, gid int) (*Socket, error) {
	if !filepath.IsAbs(path) {
		return nil, exportError("", "%q must be an absolute path", path)
	}
	path = filepath.Clean(path)
	dir, name := filepath.Dir(path), filepath.Base(path)
	if len(dir) > maxExportFolder || len(path) > maxExportFolder+10 {
		return nil, exportError("", "%q is too long: its folder may have %d bytes, all of it %d",
			path, maxExportFolder, maxExportFolder+10)
	}
	if own, _, err := protocol.SocketPath(); err == nil && path == filepath.Clean(own) {
		return nil, exportError("choose another folder: mkdir -m 700 ~/box",
			"%s is the place of the agent itself, which could not be asked then", path)
	}
	folder, err := exportFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &Socket{folder: folder, name: name}
	if err := clearExport(folder, path); err != nil {
		folder.Close()
		return nil, err
	}
	if err := s.bind(dir, shareMode(uids, gid), gid); err != nil {
		folder.Close()
		return nil, cannotExport(path, err)
	}
	return s, nil
}

// exportError says why there is no restricted socket, and what to do, which may be "".
func exportError(hint, format string, args ...any) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: "the restricted socket: " + fmt.Sprintf(format, args...), Hint: hint}
}

// cannotExport is exportError for what the system says.
func cannotExport(path string, err error) error {
	if told := (*protocol.Error)(nil); errors.As(err, &told) {
		return told
	}
	return exportError("", "%s: %v", path, cmp.Or(errors.Unwrap(err), err))
}

// exportFolder opens the folder of the socket. What is done in it from here on is done there, whatever others make of its name:
// they may be able to write in a folder above.
func exportFolder(dir string) (*os.Root, error) {
	named, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, exportError("make it: mkdir -m 700 "+protocol.ShellLine(dir), "there is no folder %s", dir)
	case err != nil:
		return nil, cannotExport(dir, err)
	case named.Mode()&fs.ModeSymlink != 0:
		return nil, exportError("name the folder that it leads to", "%s is a link", dir)
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
		return exportError("", "%s was replaced meanwhile", dir)
	}
	if owner, ok := files.Owner(info); ok && owner != uint32(os.Geteuid()) {
		return exportError("choose a folder of your own: mkdir -m 700 ~/box", "%s belongs to user id %d", dir, owner)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return exportError("chmod go-w "+protocol.ShellLine(dir)+"; a group needs no more than to enter the folder: chmod 710",
			"%s may be written by others (mode %04o), who could put a socket of their own there", dir, info.Mode().Perm())
	}
	return nil
}

// clearExport removes a socket that nobody listens on any more.
func clearExport(folder *os.Root, path string) error {
	name := filepath.Base(path)
	switch info, err := folder.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cannotExport(path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return exportError("move it away, or choose another place", "%s is there already, and is no socket", path)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		fallthrough
	case errors.Is(err, syscall.EAGAIN): // his queue is full
		return exportError("end that one, or choose another place", "somebody answers at %s already", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return cannotExport(path, err)
	}
	if err := folder.Remove(name); err != nil {
		return cannotExport(path, err)
	}
	return nil
}

// bind makes the socket, of that mode and group (-1: none in particular).
func (s *Socket) bind(dir string, mode fs.FileMode, gid int) (err error) {
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
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, private, "s"), Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if gid >= 0 {
		if err := inside.Lchown("s", -1, gid); err != nil {
			return exportError("it must be a group of yours: id -G", "it can't be given to group %d: %v", gid, errors.Unwrap(err))
		}
	}
	if err := inside.Chmod("s", mode); err != nil {
		return err
	}
	if s.file, err = inside.Lstat("s"); err != nil {
		return err
	}
	if s.Socket, err = socket.Take(l); err != nil {
		return err
	}
	if err := s.folder.Link(private+"/s", s.name); err != nil {
		s.Socket.Close()
		return err
	}
	return nil
}

// Package disk writes small files so that they survive: replaced whole or not at all, synced, locked between processes, and
// written in place where a file can't be replaced because it is mounted. It knows nothing of what is in them.
//
// Functions return the errors of the system, [ErrNotRegular] and [ErrTooLarge] unless they say otherwise; [Error] makes
// errors for users of them.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// MaxSize is how large a file may be that is written in place, in bytes.
const MaxSize = 4 << 20

var (
	// ErrNotRegular says that a folder, pipe, device or socket has the name of a file.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge says that a file is larger than it may be.
	ErrTooLarge = errors.New("the file is too large")
)

// Read returns what is in the regular file at path, up to limit bytes. It does not wait for a pipe or a device that has this
// name. Where a write in place was cut off, it returns what that was to write.
func Read(path string, limit int64) ([]byte, error) {
	// O_NONBLOCK: opening a pipe nobody writes to would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENXIO) { // a socket
		return nil, ErrNotRegular
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	b, err := readAll(f, limit)
	if err != nil {
		return nil, err
	}
	return unfinished(path, b), nil
}

// readAll reads f to its end, up to limit bytes.
func readAll(f *os.File, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = ErrTooLarge
	}
	return b, err
}

// Target follows the symbolic links of path to where the file is, or would be made.
func Target(path string) (string, error) {
	for range MaxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		link, err := os.Readlink(path)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		path = leadsTo(path, link)
	}
	return "", &fs.PathError{Op: "readlink", Path: path, Err: unix.ELOOP}
}

// MaxLinks is how many symbolic links the kernel follows.
const MaxLinks = 40

// leadsTo is the path that a symbolic link at path means by link.
func leadsTo(path, link string) string {
	if filepath.IsAbs(link) {
		return link
	}
	return filepath.Join(filepath.Dir(path), link)
}

// MissingFolder is the folder that keeps the file at path, or what the file is a link to, from being there; "" if none is
// missing.
func MissingFolder(path string) string {
	for range MaxLinks {
		dir := filepath.Dir(path)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return dir
		}
		link, err := os.Readlink(path)
		if err != nil {
			break
		}
		path = leadsTo(path, link)
	}
	return ""
}

// MakeFolder makes the folder dir, 0700, and those above it that are missing. They survive a power cut. Its errors are made by
// [Error].
func MakeFolder(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := MakeFolder(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) { // made meanwhile, or no folder: whoever uses it finds out
		return nil
	}
	if err == nil {
		// Not through a link: the folder's owner may have put one in its place, and root's next step is to give away what it
		// leads to.
		if d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err == nil {
			giveToOwner(d, filepath.Dir(dir))
			d.Close()
		}
		err = SyncFolder(filepath.Dir(dir))
	}
	if err != nil {
		return Error("making", dir, err)
	}
	return nil
}

// SyncFolder makes the names in dir as durable as what they name. Some file systems can't, and say EINVAL: that is no error.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// giveToOwner gives what root has made in another user's folder to that user, who would be shut out by it otherwise. It does so
// while the file or folder is empty and has one name: anything else may be a file of root's that the user has linked or moved
// there.
func giveToOwner(f *os.File, dir string) {
	if os.Geteuid() != 0 {
		return
	}
	var file, folder unix.Stat_t
	if unix.Fstat(int(f.Fd()), &file) != nil || unix.Stat(dir, &folder) != nil || file.Uid != 0 || folder.Uid == 0 {
		return
	}
	empty := file.Nlink == 1 && file.Size == 0
	if file.Mode&unix.S_IFMT == unix.S_IFDIR {
		_, err := f.Readdirnames(1)
		empty = err == io.EOF
	}
	if empty {
		f.Chown(int(folder.Uid), int(folder.Gid))
	}
}

// Remove removes the file at path for good, with what dead writers have left of it. A file that is a mount point can't be
// removed, and is emptied. The caller holds the file's lock.
func Remove(path string) error {
	if IsMount(path) {
		return Write(path, nil, Always)
	}
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		dir, base := filepath.Split(path)
		removeTemps(dir, base)
	}
	if err == nil && HasUnfinished(path) {
		err = os.Remove(unfinishedPath(path))
	}
	if err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// LinkNew gives the file temp the name path as well, or instead where the file system knows no links. If something has that
// name already, the error is fs.ErrExist.
func LinkNew(temp, path string) error {
	err := os.Link(temp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if RenameNew(temp, path) == nil {
			return nil
		}
	}
	return err
}

// Error is err for a user: ErrStorage, with what was being done to which file, the system's reason, and a hint. What is a
// protocol.Error already stays as it is.
func Error(doing, path string, err error) error {
	if protocol.CodeOf(err) != protocol.CodeInternal {
		return err
	}
	return &protocol.Error{
		Code:    protocol.CodeStorage,
		Message: fmt.Sprintf("%s %s: %v", doing, path, Reason(err)),
		Hint:    Hint(err),
	}
}

// Reason is the system's reason, without the paths that err repeats.
func Reason(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

// Hint is what a person can do about an error of a file, "" where that is not known.
func Hint(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free some space"
	case errors.Is(err, unix.EROFS):
		return "the file system is mounted read-only: mount it so that it may be written"
	case errors.Is(err, fs.ErrPermission):
		return "the file and its folder must belong to you"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP):
		return "move away what is in the way"
	case errors.Is(err, unix.EBUSY):
		return "it is mounted as a single file, which can't be replaced: mount its folder"
	}
	return ""
}

// Unwritable reports whether err says that nobody can write there: the file system is full or read-only, or the folder is
// another user's.
func Unwritable(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		errors.Is(err, fs.ErrPermission)
}

// isOurs reports whether a file belongs to this user. To root every file does.
func isOurs(info fs.FileInfo) bool {
	uid, _, ok := owner(info)
	return ok && (uid == os.Geteuid() || os.Geteuid() == 0)
}

// owner is whose file it is; ok is false where that is not known.
func owner(info fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

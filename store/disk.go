package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// readFile returns what is in the regular file at path, up to [MaxFile] bytes. A pipe or device that someone put there is
// refused without waiting for it.
func readFile(path string) ([]byte, error) { return readUpTo(path, MaxFile) }

func readUpTo(path string, limit int64) ([]byte, error) {
	// O_NONBLOCK: opening a pipe nobody writes to would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: "nothing is stored: there is no " + path,
		}
	case errors.Is(err, unix.ENXIO): // a socket
		return nil, invalid(path, "is not a regular file")
	case err != nil:
		return nil, storageError("reading", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, storageError("reading", path, err)
	case !info.Mode().IsRegular():
		return nil, invalid(path, "is not a regular file")
	case info.Size() > limit:
		return nil, invalid(path, fmt.Sprintf("is larger than %d MiB", limit>>20))
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, storageError("reading", path, err)
	case int64(len(b)) > limit:
		return nil, invalid(path, fmt.Sprintf("is larger than %d MiB", limit>>20))
	case len(b) == 0 && isMount(path): // emptied, because a mount point can't be removed
		return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored: " + path + " is empty"}
	}
	return unfinished(path, b), nil
}

// target follows the symbolic links of path to where the file is, or would be made.
func target(path string) (string, error) {
	for range 40 { // the kernel's own limit
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
		if filepath.IsAbs(link) {
			path = link
		} else {
			path = filepath.Join(dir, link)
		}
	}
	return "", &fs.PathError{Op: "readlink", Path: path, Err: unix.ELOOP}
}

// replaceNew writes a new file in place of the one that may have been left at path. A link there is removed, not followed.
func replaceNew(path string, data []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// ReplaceFile replaces a small file of ours whose writers take no lock. Like all that is written here it has the old bytes or the
// new ones after a crash or power cut, and its folder is made where needed.
func ReplaceFile(path string, data []byte) error {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	d, err := makeDraft(path, rand.Text()+"-"+filepath.Base(path), 0)
	if err != nil {
		return err
	}
	defer d.discard()
	return d.write(data, func() error { return nil })
}

// makeFolder makes a folder of ours, 0700, and what is missing above it: for good, as what is written in it will be.
func makeFolder(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makeFolder(parent); err != nil {
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
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return storageError("making", dir, err)
	}
	return nil
}

// FolderThere fails (ErrStorage) if the folder of a place's file is gone, or that of what the file is a link to: then what was
// stored is out of reach, and nobody has removed it.
func FolderThere(at Place) error {
	if len(at.Watch) == 0 {
		return nil
	}
	path := at.Watch[0]
	for range 40 { // the kernel's own limit
		dir := filepath.Dir(path)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return &protocol.Error{Code: protocol.CodeStorage, Message: dir + " is gone, and what was stored in it can't be reached",
				Hint: "is its file system mounted?"}
		}
		link, err := os.Readlink(path)
		if err != nil {
			break
		}
		if path = link; !filepath.IsAbs(link) {
			path = filepath.Join(dir, link)
		}
	}
	return nil
}

// syncDir makes the names in dir as durable as what they name. Some file systems cannot and say EINVAL.
func syncDir(dir string) error {
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

// storageError says what failed and where. The reason is the system's, without the path it repeats.
func storageError(doing, path string, err error) error {
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	e := &protocol.Error{Code: protocol.CodeStorage, Message: fmt.Sprintf("%s %s: %v", doing, path, err)}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Hint = "free some space"
	case errors.Is(err, unix.EROFS):
		e.Hint = "the file system is mounted read-only: mount it so that it may be written"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "the file and its folder must belong to you"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP):
		e.Hint = "move away what is in the way"
	}
	return e
}

// unwritable reports whether err says that the place can't be written at all, by anybody of our kind: full, read-only or
// not ours. Locks do without what they can't write there.
func unwritable(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		errors.Is(err, fs.ErrPermission)
}

package store

import (
	"bytes"
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

// A file that is a mount point can't be replaced, only written. So that a cut leaves the old content or the new, both are first
// written whole to a spill file beside it, `.<name>.ccagent-unfinished`: whoever reads the file while that is there can tell what
// a half written one was to be, and who writes it next, or brings home what was spilled, finishes it. Other programs see the file
// as it is.

// spillOf is the spill file of the file at path.
func spillOf(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".ccagent-unfinished")
}

// isOurs reports whether a file is this user's; to root every file is.
func isOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(st.Uid) == os.Geteuid() || os.Geteuid() == 0)
}

// spillHead begins a spill file: then the old content follows, and the new one.
func spillHead(old, next int) []byte {
	return fmt.Appendf(nil, "ccagent-unfinished 1 %d %d\n", old, next)
}

// readSpill returns what the spill file of the file at path holds. ok is false when there is none, or it is not one of ours.
func readSpill(path string) (old, next []byte, ok bool) {
	f, err := os.OpenFile(spillOf(path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || !isOurs(info) {
		return nil, nil, false // somebody else's work, in a folder that others may write
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*MaxFile+1024))
	if err != nil {
		return nil, nil, false
	}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	var before, after int
	_, err = fmt.Sscanf(string(head), "ccagent-unfinished 1 %d %d", &before, &after)
	if err != nil || before < 0 || after < 0 || before+after != len(rest) {
		return nil, nil, false
	}
	return rest[:before], rest[before:], true
}

// unfinished is what the file at path is to hold, which holds content: that itself, unless a write of ours was cut off, or is
// under way.
func unfinished(path string, content []byte) []byte {
	old, next, ok := readSpill(path)
	if ok && halfWritten(content, old, next) {
		return next
	}
	return content
}

// halfWritten reports whether content is old, or what a write of next over it may have left, or the writing back of old where
// that failed: byte by byte the one or the other, or nothing yet where there was none before. Anything else was written by
// somebody else since.
func halfWritten(content, old, next []byte) bool {
	if len(content) < min(len(old), len(next)) || len(content) > max(len(old), len(next)) {
		return false
	}
	for i, c := range content {
		wasThere := i < len(old) && c == old[i] || i >= len(old) && (c == 0 || c == filler)
		willBe := i < len(next) && c == next[i] || i >= len(next) && c == filler
		if !wasThere && !willBe {
			return false
		}
	}
	return true
}

// hasUnfinished reports whether a write of the file at path was cut off.
func hasUnfinished(path string) bool {
	_, err := os.Lstat(spillOf(path))
	return err == nil
}

// finish ends a write that was cut off. The caller holds the lock of the file. What somebody else has written since stays.
func finish(path string) error {
	if !hasUnfinished(path) {
		return nil
	}
	if old, next, ok := readSpill(path); ok {
		f, err := openInPlace(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // not mounted now: what it was to hold is kept until it is
		}
		if err != nil {
			return err
		}
		defer f.Close()
		content, err := readAll(f)
		if err != nil {
			return err
		}
		if halfWritten(content, old, next) && !bytes.Equal(content, next) {
			if err := overwrite(f, len(content), next); err != nil {
				return err
			}
		}
	}
	return removeSpill(path)
}

func removeSpill(path string) error {
	if err := os.Remove(spillOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeInPlace is write where the file can't be replaced.
func (d *draft) writeInPlace(data []byte, check func() error) error {
	f, err := openInPlace(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := readAll(f)
	if err != nil {
		return err
	}
	if err := d.fill(spillHead(len(old), len(data)), old, data); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	if err := os.Rename(d.temp.Name(), spillOf(d.path)); err != nil {
		return err
	}
	d.done()
	if err := syncDir(filepath.Dir(d.path)); err != nil {
		return errors.Join(err, removeSpill(d.path))
	}
	if err := overwrite(f, len(old), data); err != nil {
		if overwrite(f, len(data), old) == nil { // else the spill says what it was to be
			removeSpill(d.path)
		}
		return err
	}
	return removeSpill(d.path)
}

// filler is what a shorter content is lengthened with until the file is cut: JSON may end with it.
const filler = '\n'

// overwrite makes data the content of the file, which had so many bytes. It is one write: who reads meanwhile sees it done or
// not.
func overwrite(f *os.File, length int, data []byte) error {
	whole := data
	if length > len(data) {
		whole = append(bytes.Clone(data), bytes.Repeat([]byte{filler}, length-len(data))...)
	}
	if _, err := f.WriteAt(whole, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		return err
	}
	return f.Sync()
}

// readyInPlace makes room for size bytes in the file at path, and returns how many are in it.
func readyInPlace(path string, size int) (length int, err error) {
	f, err := openInPlace(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case info.Size() > MaxFile:
		return 0, invalid(path, "is larger than 4 MiB")
	}
	return int(info.Size()), allocate(f, int64(size))
}

func openInPlace(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

func readAll(f *os.File) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = invalid(f.Name(), "is larger than 4 MiB")
	}
	return b, err
}

// writableInPlace fails if the mounted file, which info describes, can't be written, or is not the one any more that was mounted.
func writableInPlace(path string, info fs.FileInfo) error {
	const folder = "mount the folder that it is in, and not the one file"
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 0 {
		return &protocol.Error{Code: protocol.CodeStorage, Hint: folder,
			Message: path + " is mounted, and where it comes from another file has taken its place: what is written here is lost"}
	}
	err := unix.Access(path, unix.W_OK)
	if err == nil {
		return nil
	}
	e := &protocol.Error{Code: protocol.CodeStorage, Message: path + " is mounted, and can't be written: " + err.Error()}
	if e.Hint = "mount it so that it may be written; better still, " + folder; errors.Is(err, fs.ErrPermission) {
		e.Hint = "it must belong to you; better still, " + folder
	}
	return e
}

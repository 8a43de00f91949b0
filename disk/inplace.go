package disk

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

// A file that is a mount point can't be replaced, only written in place. So that the file has the old content or the new one
// when that is cut off, both are first written whole to an unfinished file beside it, `.<name>.ccagent-unfinished`. While that is
// there, [Read] can tell what a half written file was to hold, and whoever writes it next finishes it. Other programs see the
// file as it is.

// unfinishedPath is the unfinished file of the file at path.
func unfinishedPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".ccagent-unfinished")
}

// unfinishedHead begins an unfinished file. The old content and the new one follow, with these lengths.
func unfinishedHead(old, next int) []byte {
	return fmt.Appendf(nil, "ccagent-unfinished 1 %d %d\n", old, next)
}

// readUnfinished returns what the unfinished file of the file at path holds. ok is false when there is none, or it is not one of
// ours.
func readUnfinished(path string) (old, next []byte, ok bool) {
	f, err := os.OpenFile(unfinishedPath(path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || !isOurs(info) {
		return nil, nil, false // somebody else's work, in a folder that others may write
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*MaxSize+1024))
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

// unfinished is what the file at path, which holds content, is to hold: the new content of a write in place that was cut off or
// goes on right now, else content itself.
func unfinished(path string, content []byte) []byte {
	old, next, ok := readUnfinished(path)
	if ok && halfWritten(content, old, next) {
		return next
	}
	return content
}

// halfWritten reports whether content may come about while next is written over old, or while old is written back because that
// failed. Each byte of it is that of the one or of the other, or a filler. Anything else was written by somebody else since.
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

// HasUnfinished reports whether a write in place of the file at path was cut off, or goes on right now.
func HasUnfinished(path string) bool {
	_, err := os.Lstat(unfinishedPath(path))
	return err == nil
}

// Finish ends a write in place that was cut off. The caller holds the file's lock. What somebody else has written since stays.
func Finish(path string) error {
	if !HasUnfinished(path) {
		return nil
	}
	if old, next, ok := readUnfinished(path); ok {
		f, err := openInPlace(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // not mounted now: what it was to hold is kept until it is
		}
		if err != nil {
			return err
		}
		defer f.Close()
		content, err := readAll(f, MaxSize)
		if err != nil {
			return err
		}
		if halfWritten(content, old, next) && !bytes.Equal(content, next) {
			if err := overwrite(f, len(content), next); err != nil {
				return err
			}
		}
	}
	return removeUnfinished(path)
}

func removeUnfinished(path string) error {
	if err := os.Remove(unfinishedPath(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// writeInPlace is [Draft.Write] where the file can't be replaced.
func (d *Draft) writeInPlace(data []byte, check func() error) error {
	f, err := openInPlace(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := readAll(f, MaxSize)
	if err != nil {
		return err
	}
	if err := d.Fill(unfinishedHead(len(old), len(data)), old, data); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	if err := os.Rename(d.temp.Name(), unfinishedPath(d.path)); err != nil {
		return err
	}
	d.done()
	if err := SyncFolder(filepath.Dir(d.path)); err != nil {
		return errors.Join(err, removeUnfinished(d.path))
	}
	if err := overwrite(f, len(old), data); err != nil {
		if overwrite(f, len(data), old) == nil { // else the unfinished file says what it was to be
			removeUnfinished(d.path)
		}
		return err
	}
	return removeUnfinished(d.path)
}

// filler lengthens a content that is shorter than the old one, until the file is cut: JSON may end with it.
const filler = '\n'

// overwrite makes data the content of the file, whose length is given. It is one write over what is as long, so a program that
// reads meanwhile sees the content before it or after it, perhaps with filler at its end.
func overwrite(f *os.File, length int, data []byte) error {
	if length < len(data) { // else a program could read as much of the new content as the old one was long
		if _, err := f.WriteAt(bytes.Repeat([]byte{filler}, len(data)-length), int64(length)); err != nil {
			return err
		}
	}
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
	case info.Size() > MaxSize:
		return 0, ErrTooLarge
	}
	return int(info.Size()), allocate(f, int64(size))
}

func openInPlace(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// writableInPlace fails if the mounted file, which info describes, can't be written, or if another file has taken its place where
// it comes from.
func writableInPlace(path string, info fs.FileInfo) error {
	const folder = "mount the folder that it is in, and not the one file"
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 0 {
		return &protocol.Error{Code: protocol.CodeStorage, Hint: folder,
			Message: path + " is mounted, and another file has taken its place at the source: what is written here is lost"}
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

// Package files edits files of this user: it replaces them, through links, takes locks beside them, and tells who owns them.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// Replace writes a file so that after a crash or a power failure it has either the old content or the new one. If path is a link,
// it replaces the target. mode is for a file that is created.
func Replace(path string, data []byte, mode fs.FileMode) error {
	draft, err := draftOf(path, mode)
	if err != nil {
		return err
	}
	defer draft.Discard()
	return draft.Replace(data, disk.Always)
}

// TryReplace fails if Replace would, and does not change the file.
func TryReplace(path string, data []byte, mode fs.FileMode) error {
	draft, err := draftOf(path, mode)
	if err != nil {
		return err
	}
	defer draft.Discard()
	return draft.Fill(data)
}

// draftOf returns a draft of the file at path, or of the target if path is a link.
func draftOf(path string, mode fs.FileMode) (*disk.Draft, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink == 0 && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return disk.NewDraft(path, filepath.Base(path), mode)
}

// Lock takes the lock on the file path+".lock". If ctx ends before that, the error is ErrUnavailable with the message busy.
// unlock releases the lock and leaves the file, because a lock on a file that is deleted protects nothing.
func Lock(ctx context.Context, path, busy string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = disk.WaitLock(ctx, f)
	switch {
	case err == nil:
		return func() { f.Close() }, nil
	case ctx.Err() != nil:
		err = &protocol.Error{Code: protocol.CodeUnavailable, Message: busy, Hint: "try again in a moment"}
	default:
		err = &protocol.Error{Code: protocol.CodeConfig, Message: path + ".lock: " + err.Error()}
	}
	f.Close()
	return nil, err
}

// Owner returns the user id of a file's owner. ok is false if it is not known.
func Owner(info fs.FileInfo) (uid uint32, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Uid, true
}

// IsProgram reports whether path is a regular file, or a link to one, that somebody may execute.
func IsProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// StorageError returns err as an error of condition ErrStorage, with a hint if one is known.
func StorageError(err error) error {
	return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error(), Hint: disk.Hint(err)}
}

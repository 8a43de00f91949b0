// Package files replaces files whole, takes locks on them, and says whose they are.
package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// Replace writes a file so that after a crash or power cut it holds the old bytes or the new ones, through a link to its
// target.
func Replace(path string, data []byte, mode fs.FileMode) error {
	staged, err := Stage(path, data, mode)
	if err != nil {
		return err
	}
	defer staged.Remove() // once renamed there is nothing by this name
	if err := os.Rename(staged.temp, staged.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(staged.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems can't, and the file is there
		return err
	}
	return nil
}

// staged is a whole new file beside the one that it is to replace.
type staged struct{ temp, path string }

func (s staged) Remove() { os.Remove(s.temp) }

// Stage writes a whole new file beside the one at path, or beside what a link there leads to.
func Stage(path string, data []byte, mode fs.FileMode) (staged, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if !errors.Is(err, fs.ErrNotExist) {
		return staged{}, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink == 0 && !info.Mode().IsRegular() {
		return staged{}, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ccagent-new-*") // 0600 until it is whole
	if err != nil {
		return staged{}, err
	}
	s := staged{f.Name(), path}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		s.Remove()
		return staged{}, err
	}
	return s, nil
}

// Lock takes the lock beside path, and fails with the message busy (ErrUnavailable) if ctx ends before that. The lock file
// stays: one that is deleted is no lock.
func Lock(ctx context.Context, path, busy string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &protocol.Error{Code: protocol.CodeConfig, Message: path + ".lock: " + err.Error()}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &protocol.Error{Code: protocol.CodeUnavailable, Message: busy, Hint: "try again in a moment"}
		case <-tick.C:
		}
	}
}

// Owner returns who a file belongs to; ok is false where that isn't known.
func Owner(info fs.FileInfo) (uid uint32, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Uid, true
}

func IsProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func StorageError(err error) error {
	return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error(), Hint: StorageHint(err)}
}

// StorageHint is what to do where a file can't be written, "" where that is not known.
func StorageHint(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free some space"
	case errors.Is(err, unix.EROFS):
		return "the file system is mounted read-only: mount it so that it may be written"
	case errors.Is(err, fs.ErrPermission):
		return "the file and its folder must belong to you"
	case errors.Is(err, unix.EBUSY):
		return "it is mounted as a single file, which can't be replaced: mount its folder"
	}
	return ""
}

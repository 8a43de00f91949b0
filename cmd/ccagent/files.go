package main

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

// replaceFile writes a file so that after a crash or power cut it holds the old bytes or the new ones, through a link to its
// target.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	staged, err := stageFile(path, data, mode)
	if err != nil {
		return err
	}
	defer staged.remove() // once renamed there is nothing by this name
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

func (s staged) remove() { os.Remove(s.temp) }

// stageFile writes one for the file at path, or for what a link there leads to.
func stageFile(path string, data []byte, mode fs.FileMode) (staged, error) {
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
		s.remove()
		return staged{}, err
	}
	return s, nil
}

// writeNew writes a file that was not there, of mode 0600, and takes it back unless it is whole.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: path + " is there already", Hint: "name a new file"}
	}
	if err == nil {
		_, err = f.Write(data)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(path)
		}
	}
	if err != nil {
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: fmt.Sprintf("the copy could not be written: %v", err),
			Hint:    "nothing is left of it: name another place with -o",
		}
	}
	return nil
}

// lockFile takes the lock beside path, and says busy if that takes too long. The lock file stays: one that is deleted is no lock.
func lockFile(ctx context.Context, path, busy string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, unwritten(err)
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, unwritten(err)
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

// unwritten is the error that kept config.toml, or what lies beside it, from being written.
func unwritten(err error) error {
	hint := storageHint(err)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		hint = "make that folder writable, or set XDG_CONFIG_HOME to one that is"
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml could not be written: " + err.Error(), Hint: hint}
}

// ownerOf returns who a file belongs to; ok is false where that isn't known.
func ownerOf(info fs.FileInfo) (uid uint32, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Uid, true
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func storageError(err error) error {
	return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error(), Hint: storageHint(err)}
}

// storageHint is what to do where a file can't be written, "" where that is not known.
func storageHint(err error) string {
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

// reasonOf is the system's reason, without the paths that err repeats.
func reasonOf(err error) error {
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

package store

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// Reserve makes sure that the next record can be saved, before a renewal sends the refresh token that is spent by it. lock is the
// lock of st, which the caller holds, nil if there was nothing to lock.
//
// If other programs share st, the record must go there: they would find the spent refresh token otherwise. If st is ours alone,
// the record may be left in a spill file in the state directory instead ("": there is none), because only we look for it.
//
// Errors are those of [Lock.Reserve] and [Lock.Check].
func Reserve(ctx context.Context, stateDir string, st Store, lock Lock) error {
	var err error
	switch {
	case lock != nil:
		err = lock.Reserve(ctx)
	case FolderThere(st.Place()) != nil:
		err = FolderThere(st.Place())
	default:
		err = &protocol.Error{Code: protocol.CodeStorage, Message: st.Place().Location + " is not locked"}
	}
	if err != nil && (st.Place().Kind.Traits().Shared || !errors.Is(err, protocol.ErrStorage) || !spillable(stateDir)) {
		return &protocol.Error{Code: protocol.CodeOf(err), Hint: protocol.HintOf(err),
			Message: "not renewed, because the new token could not be saved: " + err.Error()}
	}
	if lock == nil {
		return nil
	}
	return lock.Check() // making it ready may have taken a while
}

// spillable reports whether a spill file could be written to the state directory. It tries that.
func spillable(stateDir string) bool {
	if stateDir == "" {
		return false
	}
	dir := filepath.Join(stateDir, "spill")
	if disk.MakeFolder(dir) != nil {
		return false
	}
	trial := filepath.Join(dir, "trial")
	if replaceable(trial) != nil {
		return false
	}
	d, err := disk.NewDraft(trial, rand.Text(), 0o600)
	if err != nil {
		return false
	}
	defer d.Discard()
	if d.Reserve(spare) != nil {
		return false
	}
	link := strings.TrimSuffix(d.Temp(), ".tmp") + "-link.tmp"
	defer os.Remove(link)
	return disk.LinkNew(d.Temp(), link) == nil
}

// Hindrance says what will keep the next record of st from being saved, as far as that can be seen without changing anything. It
// is nil if nothing will.
func Hindrance(st Store) error {
	if s, ok := st.(interface{ lockable() error }); ok {
		if err := s.lockable(); err != nil {
			return err
		}
	}
	path := fileOf(st)
	if path == "" {
		return nil
	}
	if err := replaceable(path); err != nil {
		return err
	}
	if full(filepath.Dir(path)) || full(path) { // a file that is mounted is on another file system than its folder
		return disk.Error("writing", path, unix.ENOSPC)
	}
	return nil
}

// lockable fails if it can be seen that one of the locks can't be taken, or that our note can't be written.
func (s *ClaudeCode) lockable() error {
	refresh, legacy, _ := refreshLocks(s.dir)
	for _, path := range []string{refresh, legacy, s.writeLock()} {
		if info, err := os.Lstat(path); err == nil && !info.IsDir() {
			return disk.Error("locking", path, unix.ENOTDIR)
		}
	}
	_, path, err := s.paths()
	if err != nil {
		return nil // whoever loads the record says so
	}
	if err := disk.Lockable(path); err != nil {
		return disk.Error("locking", path, err)
	}
	if err := unix.Access(path, unix.W_OK); err != nil && !errors.Is(err, unix.ENOENT) {
		return disk.Error("writing", path, err)
	}
	return nil
}

func (s *own) lockable() error {
	if err := disk.Lockable(s.lockPath); err != nil {
		return disk.Error("locking", s.lockPath, err)
	}
	return nil
}

// full reports whether the file system of path has no room for a draft, as far as it says.
func full(path string) bool {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil || s.Blocks == 0 { // a file system without blocks has no limit
		return false
	}
	free := uint64(s.Bavail)
	if os.Geteuid() == 0 {
		free = s.Bfree
	}
	return free*uint64(s.Bsize) < spare || s.Files > 0 && s.Ffree == 0
}

// fileOf is the file that the record of st is in, "" if it is in none or nobody knows.
func fileOf(st Store) string {
	if f, ok := st.(interface{ file() string }); ok {
		return f.file()
	}
	return ""
}

func (s *ClaudeCode) file() string {
	file, _, err := s.paths()
	if err != nil || s.chain != nil {
		return ""
	}
	return file
}

func (s *own) file() string {
	if m, ok := s.medium.(interface{ path() string }); ok {
		return m.path()
	}
	return ""
}

package agent

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

func identity(info fs.FileInfo) (inode uint64, ctime int64) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Ino, st.Ctimespec.Nano()
}

func stampOfName(_ []byte, path string) stamp { return stampOf(path) }

// local reports whether dir is on a file system of this machine.
func local(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&unix.MNT_LOCAL != 0
}

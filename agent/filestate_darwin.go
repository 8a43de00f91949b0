package agent

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

func inodeAndCtime(info fs.FileInfo) (inode uint64, ctime int64) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Ino, st.Ctimespec.Nano()
}

func fileStateOfName(_ []byte, path string) fileState { return fileStateOf(path) }

// local reports whether dir is on a file system of this machine.
func local(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&unix.MNT_LOCAL != 0
}

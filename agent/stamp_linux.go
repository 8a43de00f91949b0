package agent

import (
	"io/fs"
	"syscall"
)

func identity(info fs.FileInfo) (inode uint64, ctime int64) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Ino, st.Ctim.Nano()
}

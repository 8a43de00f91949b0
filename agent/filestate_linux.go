package agent

import (
	"io/fs"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func inodeAndCtime(info fs.FileInfo) (inode uint64, ctime int64) {
	st := info.Sys().(*syscall.Stat_t)
	return st.Ino, st.Ctim.Nano()
}

// fileStateOfName is fileStateOf without an allocation. name is the path with a zero byte at its end.
func fileStateOfName(name []byte, path string) fileState {
	const followLinks = 0 // no flag
	var st unix.Statx_t
	cwd := unix.AT_FDCWD
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(cwd), uintptr(unsafe.Pointer(&name[0])), followLinks,
		unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return fileStateOf(path) // missing, or a kernel without it
	}
	nano := func(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }
	return fileState{exists: true, inode: st.Ino, size: int64(st.Size), mtime: nano(st.Mtime), ctime: nano(st.Ctime)}
}

// local reports whether dir is on a file system that is known to be of this machine.
func local(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && slices.Contains([]int64{
		unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
		unix.OVERLAYFS_SUPER_MAGIC,
		unix.F2FS_SUPER_MAGIC, 0x2fc12fc1 /* ZFS */, 0xca451a4e, /* bcachefs */
	}, int64(uint32(st.Type)))
}

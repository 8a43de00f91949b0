package disk

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsMount reports whether the file at path is a mount point. On macOS only folders are.
func IsMount(string) bool { return false }

// unfix is the command that takes the mark away which [isFixed] looks for.
const unfix = "chflags nouchg,nouappnd"

// isFixed reports whether the file at path is marked so that not even its owner can change or replace it.
func isFixed(_ string, info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Flags&(unix.UF_IMMUTABLE|unix.UF_APPEND|unix.SF_IMMUTABLE|unix.SF_APPEND) != 0
}

// allocate does nothing: it is for mount points.
func allocate(*os.File, int64) error { return nil }

// Changed is when the file system last changed what it knows of a file (ctime), in nanoseconds since 1970. No program can set it.
func Changed(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ctimespec.Nano()
}

// RenameNew renames a file or folder, but never over another one.
func RenameNew(from, to string) error { return unix.RenamexNp(from, to, unix.RENAME_EXCL) }

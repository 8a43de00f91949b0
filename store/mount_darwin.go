package store

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isMount reports whether the file at path is a mount point: files are none here.
func isMount(string) bool { return false }

// unfix is the command that takes the mark away which [isFixed] looks for.
const unfix = "chflags nouchg,nouappnd"

// isFixed reports whether the file at path is marked so that not even its owner can change or replace it.
func isFixed(_ string, info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Flags&(unix.UF_IMMUTABLE|unix.UF_APPEND|unix.SF_IMMUTABLE|unix.SF_APPEND) != 0
}

// allocate does nothing: it is for mount points.
func allocate(*os.File, int64) error { return nil }

package store

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is not known here: what Claude Code writes on macOS has not been traced, and a wrong owner is worse than none.
func self() (owner, bool) { return owner{}, false }

func startOf(int) (string, bool) { return "", false }

func birthtime(*os.File) (float64, bool) { return 0, false }

// changed is when the file system last changed what it knows of a file (ctime), in nanoseconds. No program can set it.
func changed(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ctimespec.Nano()
}

func renameNoReplace(from, to string) error { return unix.RenamexNp(from, to, unix.RENAME_EXCL) }

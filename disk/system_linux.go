package disk

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsMount reports whether the file at path is a mount point, as a single file is that was mounted into a container. Its device
// tells nothing: it may come from the same file system.
func IsMount(path string) bool {
	file, err := statOf(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false
	case err == nil && file.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return file.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo") // an older kernel, or gVisor
	return err == nil && listsMount(mounts, path)
}

// listsMount reports whether mounts, in the form of /proc/self/mountinfo, name path as a mount point.
func listsMount(mounts []byte, path string) bool {
	for lines := bufio.NewScanner(bytes.NewReader(mounts)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && unescapeMount(fields[4]) == filepath.Clean(path) {
			return true
		}
	}
	return false
}

// unescapeMount undoes how the kernel writes blanks: `\040`.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unfix is the command that takes the mark away which [isFixed] looks for.
const unfix = "chattr -i -a"

// isFixed reports whether the file at path is marked so that not even its owner can change or replace it.
func isFixed(path string, _ fs.FileInfo) bool {
	file, err := statOf(path)
	return err == nil && file.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
}

func statOf(path string) (file unix.Statx_t, err error) {
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &file)
	return file, err
}

// allocate makes sure that there is room for size bytes in f, without making it longer, where the file system can tell.
func allocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return err
	}
	return nil
}

// Changed is when the file system last changed what it knows of a file (ctime), in nanoseconds since 1970. No program can set it.
func Changed(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ctim.Nano()
}

// RenameNew renames a file or folder, but never over another one.
func RenameNew(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

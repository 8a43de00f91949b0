// Package logfile appends to a log file of bounded size, which several processes may share.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// maxLog bounds the log file, in bytes. One that would outgrow it is put aside as FILE.1, in place of the one before. It may get
// twice as large where somebody else holds its lock: another process that does the same, or who wants to keep it from being done.
const maxLog = 1 << 20

// File is a log file of bounded size. Several processes may append to one. It may be written to concurrently.
type File struct {
	name string
	mu   sync.Mutex
	file *os.File
}

// Open opens the log file, and makes it and its folder where they are not there.
func Open(name string) (*File, error) {
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		l := &File{name: name}
		if l.file, err = openLogAt(name); err == nil {
			return l, nil
		}
	}
	return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "the log file can't be opened: " + err.Error(),
		Hint: "choose another with --log-file"}
}

// openLogAt opens what is to be appended to. The folder may be one in which somebody else may write too, like /tmp: what he has
// put there, or has linked to, is refused.
func openLogAt(name string) (*os.File, error) {
	// O_NONBLOCK: a FIFO that nobody reads must not hang the start.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := checkLog(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkLog refuses a file that somebody else has put there, or can write.
func checkLog(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR { // a device like /dev/null, which root alone can make
		return nil
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user id %d", f.Name(), st.Uid)
	case st.Nlink > 1:
		return errors.New(f.Name() + " is a second name of another file")
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s may be written by others (mode %04o)", f.Name(), st.Mode&0o7777)
	}
	return nil
}

// Write appends a line. Where the file would outgrow its bound, or somebody has taken it away from under its name, it begins a
// new one first.
func (l *File) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine, err := l.file.Stat()
	if err != nil || !mine.Mode().IsRegular() {
		return l.file.Write(line)
	}
	full := mine.Size()+int64(len(line)) > maxLog
	if full {
		l.putAside(mine)
	}
	if !l.names(mine) {
		switch f, err := openLogAt(l.name); {
		case err == nil:
			l.file.Close()
			l.file = f
		case full: // lines go on to where they went, within the bound
			l.file.Truncate(0)
		}
	}
	return l.file.Write(line)
}

// names reports whether the file that is written to still has its name. l.mu is held.
func (l *File) names(mine fs.FileInfo) bool {
	there, err := os.Lstat(l.name)
	return err == nil && os.SameFile(there, mine)
}

// putAside renames the file to FILE.1, under a lock on it: of several processes that find it full, one renames it, and the others
// find by then that the name is gone or another file's. Where it can't be renamed it is emptied: the bound is to hold. l.mu is
// held.
func (l *File) putAside(mine fs.FileInfo) {
	// The lock is not waited for: whoever may read the file can hold it, for as long as he likes.
	if taken, err := disk.TryLock(l.file); !taken || err != nil {
		if mine.Size() > 2*maxLog {
			l.file.Truncate(0)
		}
		return
	}
	defer disk.Unlock(l.file)
	if l.names(mine) && os.Rename(l.name, l.name+".1") != nil {
		l.file.Truncate(0)
	}
}

// Close closes the file. Nothing may be written afterwards.
func (l *File) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
}

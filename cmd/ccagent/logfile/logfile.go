// Package logfile writes a log file of limited size. Several processes may write to one file.
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

// maxLog is the size limit of the log file, in bytes. A file that would exceed it is renamed to FILE.1, which replaces the one
// before. It can become twice as large while somebody else holds its lock: another process that is about to rename it, or anybody
// who wants to prevent that.
const maxLog = 1 << 20

// File is a log file of limited size. Its methods may be called concurrently, and several processes may write to the same file.
type File struct {
	name string
	mu   sync.Mutex
	file *os.File
}

// Open opens the log file, and creates it and its folder if they do not exist.
func Open(name string) (*File, error) {
	l := &File{name: name}
	var err error
	if l.file, err = openLogAt(name); err == nil {
		return l, nil
	}
	return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "the log file can't be opened: " + err.Error(),
		Hint: "choose another with --log-file"}
}

// openLogAt opens the file for appending, and creates it and its folder if they do not exist. Others may be able to write in its
// folder, as in /tmp, so it returns an error for a link, and for a file that is not this user's.
func openLogAt(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	// O_NONBLOCK: opening a FIFO that nobody reads must not hang.
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

// checkLog returns an error for a file that somebody else has created or may write.
func checkLog(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR { // a device like /dev/null, which only root can create
		return nil
	}
	switch {
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user id %d", f.Name(), st.Uid)
	case st.Nlink > 1:
		return errors.New(f.Name() + " is a hard link to another file")
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s may be written by others (mode %04o)", f.Name(), st.Mode&0o7777)
	}
	return nil
}

// Write appends a line. If the file would exceed its limit, or somebody has renamed or deleted it or its folder, Write begins a
// new file first.
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
		case full: // there is no new file, so empty this one to stay within the limit
			l.file.Truncate(0)
		}
	}
	return l.file.Write(line)
}

// names reports whether the open file still has its name. l.mu is held.
func (l *File) names(mine fs.FileInfo) bool {
	there, err := os.Lstat(l.name)
	return err == nil && os.SameFile(there, mine)
}

// putAside renames the file to FILE.1 while it holds a lock on it. If several processes find it full, one renames it, and the
// others then find that the name is gone or belongs to another file. If it can't be renamed, it is emptied, to stay within the
// limit. l.mu is held.
func (l *File) putAside(mine fs.FileInfo) {
	// Do not wait for the lock: anybody who may read the file can hold it as long as they like.
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

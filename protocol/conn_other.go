//go:build unix && !linux

package protocol

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// openSocket returns a socket that does not block and is closed on exec. Its flags are set after it is opened, so no process may
// be forked in between.
func openSocket() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readSoon fails at once, and the caller waits: there are no raw system calls here.
func readSoon(int, []byte) (int, error) { return 0, unix.EAGAIN }

//go:build unix && !linux

package protocol

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// openSocket returns a socket that neither blocks nor survives an exec. The flags come after the socket here, so a fork in
// between is held off.
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

// look leaves it to the caller to wait: there is no raw system call here.
func look(int, []byte) (int, error) { return 0, unix.EAGAIN }

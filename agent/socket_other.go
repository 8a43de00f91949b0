//go:build unix && !linux

package agent

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// acceptOn is accept(2). The flags come after the connection here, so a fork in between is held off.
func acceptOn(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	conn, _, err := unix.Accept(fd)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(conn)
	if err := unix.SetNonblock(conn, true); err != nil {
		unix.Close(conn)
		return -1, err
	}
	return conn, nil
}

// readSoon leaves it to the caller to wait: there is no raw system call here.
func readSoon(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

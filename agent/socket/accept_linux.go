package socket

import "golang.org/x/sys/unix"

// acceptOn is accept4(2). It does not ask for the peer's address, because a client's socket has none.
func acceptOn(fd int) (int, error) {
	conn, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(conn), nil
}

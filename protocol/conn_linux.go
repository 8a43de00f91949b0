package protocol

import "golang.org/x/sys/unix"

// openSocket returns a socket that neither blocks nor survives an exec.
func openSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

package protocol

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// openSocket returns a socket that does not block and is closed on exec.
func openSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// readSoon reads what arrives within about a tenth of a millisecond, and fails with EAGAIN if nothing does. To put a thread to
// sleep and to wake it takes as long, and an agent that has the token in memory answers sooner. Between two tries it yields the
// processor, so that the agent can run if there is only one. The system calls are raw, because they don't block and Go's
// scheduler need not know.
func readSoon(fd int, b []byte) (int, error) {
	for range 64 {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EAGAIN {
			return 0, errno
		}
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	return 0, unix.EAGAIN
}

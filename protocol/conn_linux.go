package protocol

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// openSocket returns a socket that neither blocks nor survives an exec.
func openSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// look reads what arrives within the tenth of a millisecond that it takes to put a thread to sleep and to wake it again: an
// agent with the token in hand answers sooner. It fails with EAGAIN when nothing came. In between it gives way, which lets
// the agent run where there is one processor. The calls are raw, for the scheduler of Go need not know of them.
func look(fd int, b []byte) (int, error) {
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

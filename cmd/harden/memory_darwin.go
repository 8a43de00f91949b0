package harden

import "golang.org/x/sys/unix"

// Lasts says whether the memory stays hidden from debuggers when the process becomes another program by execve(2).
const Lasts = true

// Memory makes the kernel refuse debuggers: ptrace(2), PT_DENY_ATTACH.
func Memory() error {
	const denyAttach = 31
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, denyAttach, 0, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

package main

import "golang.org/x/sys/unix"

// hideMemory refuses debuggers: ptrace(2), PT_DENY_ATTACH.
func hideMemory() error {
	const denyAttach = 31
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, denyAttach, 0, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

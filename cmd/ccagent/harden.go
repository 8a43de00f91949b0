package main

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// harden keeps this process's memory and files from others: no core dumps, no debugger or /proc access by other processes of
// the same user, files for the owner alone. Only the agent and its workers are hardened; a program that `ccagent exec`
// becomes keeps what its user gave it. There is no mlockall: it would pin every page of a runtime that reserves far more than
// it uses, and swap is the administrator's to encrypt (docs/security.md).
func harden() error {
	unix.Umask(0o077)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return &protocol.Error{Code: protocol.CodeInternal, Message: "core dumps can't be switched off: " + err.Error()}
	}
	if err := hideMemory(); err != nil {
		return &protocol.Error{Code: protocol.CodeInternal, Message: "this process's memory can't be hidden from debuggers: " + err.Error()}
	}
	return nil
}

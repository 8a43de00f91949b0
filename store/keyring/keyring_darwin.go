package keyring

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// ready has nothing to ask on macOS: the Keychain is always there, and a locked one shows in the call itself.
func ready(context.Context) error { return nil }

// What security(1) exits with when the Keychain is locked and it may not ask, or the person said no.
const (
	interactionNotAllowed = 36
	authFailed            = 51
	userCanceled          = 128
)

func isLocked(err error) bool {
	var e *exec.ExitError
	if !errors.As(err, &e) {
		return false
	}
	switch e.ExitCode() {
	case interactionNotAllowed, authFailed, userCanceled:
		return true
	}
	return false
}

// reason says what went wrong. What the programs printed is in no error of theirs.
func reason(err error) string { return err.Error() }

// endStarted kills the security(1) that go-keyring has started and gives us no hold of. A worker leads a process group of its
// own, and runs nothing else while it waits for a keyring.
func endStarted() {
	processes, err := unix.SysctlKinfoProcSlice("kern.proc.pgrp", unix.Getpgrp())
	if err != nil {
		return
	}
	for _, p := range processes {
		if int(p.Eproc.Ppid) == os.Getpid() && unix.ByteSliceToString(p.Proc.P_comm[:]) == "security" {
			unix.Kill(int(p.Proc.P_pid), unix.SIGKILL)
		}
	}
}

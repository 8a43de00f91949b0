package keyring

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// ready asks nothing on macOS: the Keychain is always there, and whether it is locked shows in the call itself.
func ready(context.Context) error { return nil }

func isLocked(err error) bool {
	var e *exec.ExitError
	return errors.As(err, &e) && securityExits[e.ExitCode()] == protocol.CodeLocked
}

// reason says what went wrong. Errors of go-keyring hold nothing of what a program has printed.
func reason(err error) string { return err.Error() }

// endStarted kills the security(1) that go-keyring has started, which go-keyring itself does not do. A worker leads a process
// group of its own, and runs nothing else while it waits for a keyring.
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

// Package limits keeps other programs out of this one: no core dumps, no debugger, files for the owner alone. It also gives
// the programs that are started from here the limits that this one was started with.
package limits

import (
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/cmd/harden"
	"github.com/ccagent/ccagent/protocol"
)

// surroundings is what a process has from whoever started it, and hands on to the programs that it starts.
type surroundings struct {
	umask int
	core  syscall.Rlimit
}

// startedWith is what this process was given; nil before Harden has changed it.
var startedWith *surroundings

// Harden keeps this process's memory and files from others: no core dumps, no debugger or /proc access by other processes
// of the same user, files for the owner alone. main calls it for every command, before it looks at any option, because nearly
// every command meets a secret. There is no mlockall: it would pin every page of a runtime that reserves far more than it uses,
// and swap is the administrator's to encrypt (docs/security.md).
func Harden(args []string) error {
	// Memory comes first: every moment counts, and what is hidden is not dumped either. Where that can't be undone, exec does
	// without: the program that it becomes is not ours to hide.
	if becomesAnother := len(args) > 1 && args[1] == "exec"; !harden.Lasts || !becomesAnother {
		if err := harden.Memory(); err != nil {
			return notHardened("this process's memory can't be hidden from debuggers", err)
		}
	}
	was := surroundings{umask: unix.Umask(0o077)}
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &was.core); err != nil {
		return notHardened("the limit of core dumps can't be read", err)
	}
	startedWith = &was
	// The hard limit stays: once lowered it could not be given back to a program that is started.
	return limitDumps(was.core.Max)
}

// ForbidDumps is for a process that starts no program of the person's: not even another program of the same user can switch core
// dumps on again.
func ForbidDumps() error { return limitDumps(0) }

func limitDumps(hard uint64) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Max: hard}); err != nil {
		return notHardened("core dumps can't be switched off", err)
	}
	return nil
}

func notHardened(what string, err error) error {
	return &protocol.Error{Code: protocol.CodeInternal, Message: what + ": " + err.Error()}
}

var givingBack sync.Mutex

// AsGiven calls start, which starts a program of the person's or becomes it: that program gets umask and limit as this process
// was given them. Whether memory may be read is decided by the kernel anew for each program.
func AsGiven(start func() error) error {
	if startedWith == nil {
		return start()
	}
	givingBack.Lock()
	defer givingBack.Unlock()
	own := unix.Umask(startedWith.umask)
	defer unix.Umask(own)
	syscall.Setrlimit(syscall.RLIMIT_CORE, &startedWith.core) // it raises no hard limit, and so can't fail
	defer limitDumps(startedWith.core.Max)
	return start()
}

// RunAsGiven is [exec.Cmd.Run] for such a program.
func RunAsGiven(cmd *exec.Cmd) error {
	if err := AsGiven(cmd.Start); err != nil {
		return err
	}
	return cmd.Wait()
}

// Package limits protects this process from other programs: it allows no core dumps and no debugger, and new files are for the
// owner only. The programs that this process starts get the limits that it was started with itself.
package limits

import (
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/cmd/harden"
	"github.com/ccagent/ccagent/protocol"
)

// surroundings is what a process inherits from its parent, and passes on to the programs that it starts.
type surroundings struct {
	umask int
	core  syscall.Rlimit
}

// startedWith is what this process has inherited. It is nil until Harden changes that.
var startedWith *surroundings

// Harden protects this process's memory and files: it allows no core dumps, no debugger or access through /proc by other
// processes of the same user, and new files are for the owner only. main calls it for every command, before it looks at any
// option, because nearly every command handles a secret. It does not call mlockall, which would pin every page of a runtime that
// reserves far more than it uses. Encrypting swap is up to the administrator (docs/security.md).
func Harden(args []string) error {
	// Memory is protected first, because another program could read it until then. Protected memory is not dumped either. On
	// systems where the protection can't be undone, the commands exec and run do without it: it would also apply to the
	// programs that they become.
	if becomesAnother := len(args) > 1 && (args[1] == "exec" || args[1] == "run"); !harden.Lasts || !becomesAnother {
		if err := harden.Memory(); err != nil {
			return notHardened("this process's memory can't be hidden from debuggers", err)
		}
	}
	was := surroundings{umask: unix.Umask(0o077)}
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &was.core); err != nil {
		return notHardened("the limit of core dumps can't be read", err)
	}
	startedWith = &was
	// The hard limit is not lowered, because it could not be raised again for a program that this process starts.
	return limitDumps(was.core.Max)
}

// ForbidDumps lowers the hard limit of core dumps too, so that not even another program of the same user can allow them again. It
// is for a process that starts no programs of the person.
func ForbidDumps() error { return limitDumps(0) }

// limitDumps sets the limit of core dumps to 0, and the hard limit to hard.
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

// AsGiven calls start, which starts a program of the person or replaces this process by it. That program gets the umask and the
// limit that this process has inherited. The protection of memory need not be undone, because the kernel decides on that anew for
// each program.
func AsGiven(start func() error) error {
	if startedWith == nil {
		return start()
	}
	givingBack.Lock()
	defer givingBack.Unlock()
	own := unix.Umask(startedWith.umask)
	defer unix.Umask(own)
	syscall.Setrlimit(syscall.RLIMIT_CORE, &startedWith.core) // it can't fail, because it does not raise the hard limit
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

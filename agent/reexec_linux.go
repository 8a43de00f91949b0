package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// reexecVar tells the new image what it takes over: the descriptor of the state, and the listener's place.
const reexecVar = "CCAGENT_REEXEC"

// Reexec puts a new image of the running program in this process's place, with its arguments and environment; there [Inherited] gets what is
// handed over. It returns only where that does not come about, and everything goes on as before: an error of the kernel's, or ErrNotNow.
// While it is at it nothing is accepted, begun or changed; connections end, which those at their other ends know (docs/protocol.md §7).
//
// ErrNotNow is for as long as a request or a job is under way, or the agent holds what no mishap in between may cost: a sign-in that no store
// has, a lock, an opened identity, an ear for the moment to lock. A token that a command printed is handed over like those that a store has:
// the command can print another.
//
// It is for an agent that is asked through l alone. [Options.Rest] may call it.
func (a *Agent) Reexec(l *Listener) error {
	return a.replace(l, func(state []byte) error {
		place, undo, err := l.pass()
		if err != nil {
			return err
		}
		defer undo()
		fd, err := unix.MemfdCreate("state", 0) // memory that no other process has, and that survives the execve
		if err != nil {
			return os.NewSyscallError("memfd_create", err)
		}
		memory := os.NewFile(uintptr(fd), "state")
		defer memory.Close()
		if _, err := memory.Write(state); err != nil {
			return err
		}
		env := append(os.Environ(), fmt.Sprintf("%s=%d %s", reexecVar, fd, place))
		self, err := executable()
		if err != nil {
			return err
		}
		return os.NewSyscallError("execve", syscall.Exec(self, os.Args, env))
	})
}

// Inherited returns what [Agent.Reexec] handed over, once; nothing where this process has had no image before.
func Inherited() (Inheritance, error) {
	value, there := os.LookupEnv(reexecVar)
	if !there {
		return Inheritance{}, nil
	}
	os.Unsetenv(reexecVar)
	// The kernel has named the process after the link that was executed.
	os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	number, place, _ := strings.Cut(value, " ")
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 0 {
		return Inheritance{}, notHandedOver("the state")
	}
	memory := os.NewFile(uintptr(fd), "state")
	defer memory.Close()
	var i Inheritance
	if i.Listener, err = inherit(place); err != nil {
		return Inheritance{}, err
	}
	if info, err := memory.Stat(); err == nil && info.Size() > 0 {
		i.State, _ = unix.Mmap(fd, 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED) // without it everything is loaded anew
	}
	return i, nil
}

// Forget gives the state's memory back, once an agent has it.
func (i *Inheritance) Forget() {
	if i.State != nil {
		unix.Munmap(i.State)
		i.State = nil
	}
}

func notHandedOver(what string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("%s is set, and %s is not what an agent hands over to itself", reexecVar, what), Hint: "unset it"}
}

// pass lets the place survive an execve, and returns what inherit needs to know then. undo is for when it did not come about.
func (l *Listener) pass() (place string, undo func(), err error) {
	socket, err1 := survive(l.socket.File, true)
	lock, err2 := survive(l.lock, true)
	undo = func() {
		survive(l.socket.File, false)
		survive(l.lock, false)
	}
	if err := errors.Join(err1, err2); err != nil {
		undo()
		return "", nil, err
	}
	return fmt.Sprintf("%d %d %d", socket, lock, l.inode), undo, nil
}

// survive decides whether f survives an execve.
func survive(f *os.File, yes bool) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	flags := unix.FD_CLOEXEC
	if yes {
		flags = 0
	}
	if e := raw.Control(func(d uintptr) {
		fd = int(d)
		_, err = unix.FcntlInt(d, unix.F_SETFD, flags)
	}); e != nil {
		return -1, e
	}
	return fd, err
}

// inherit takes the place over that this process had before its execve. The lock is on what is open, and so it is still held.
func inherit(place string) (*Listener, error) {
	var socket, lock uintptr
	var inode uint64
	if _, err := fmt.Sscanf(place, "%d %d %d", &socket, &lock, &inode); err != nil {
		return nil, notHandedOver("the place")
	}
	file := os.NewFile(socket, "socket")
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, notHandedOver("the socket")
	}
	listener, ok := ln.(*net.UnixListener)
	if !ok {
		ln.Close()
		return nil, notHandedOver("the socket")
	}
	unix.CloseOnExec(int(lock))
	l := &Listener{path: ln.Addr().String(), lock: os.NewFile(lock, "lock"), inode: inode}
	if l.socket, err = listening(listener); err != nil {
		l.lock.Close()
		return nil, socketError(cause(err), "")
	}
	return l, nil
}

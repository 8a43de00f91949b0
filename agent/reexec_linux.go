package agent

import (
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
// handed over, log (nil: none) included. It returns only where it fails, and everything goes on as before: with an error of the kernel's, of
// last's, or ErrBusy. While it is at it nothing is accepted, started or changed; connections end, and their clients repeat what they asked
// (docs/protocol.md §7).
//
// It fails with ErrBusy while a request or a job is under way, config.toml can't be read, or the agent holds what no mishap in between may cost: a
// sign-in that no store has, a lock, an opened identity, a wish to be locked at an event. No refresh token is handed over.
//
// It is for a program that is an agent and nothing else, asked through l alone: whatever else the process does ends there, and no deferred call
// runs. last is called when nothing else is in the way, to call execve, and must not wait for the agent: a signal that is caught and not yet handled
// by then would be lost. The kernel undoes PR_SET_DUMPABLE, so that other programs of the same user may read the new image's
// memory, until it is set again. [Options.Rest] may call Reexec.
func (a *Agent) Reexec(l *Listener, log *os.File, last func(execve func() error) error) error {
	return a.replace(l, func(state []byte) error {
		place, undo, err := l.pass(log)
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
		var files unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		return last(func() error {
			if a.ending() {
				return ErrBusy
			}
			err := syscall.Exec(self, os.Args, env)
			unix.Setrlimit(unix.RLIMIT_NOFILE, &files) // Go has lowered it for the new image, to what this one was started with
			return os.NewSyscallError("execve", err)
		})
	})
}

// Inherited returns what [Agent.Reexec] handed over, once; nothing where this process was not re-executed. It is to be called first of all, before
// a child could inherit the same, and before the process makes itself undumpable: it gives it back its name.
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
	if i.Listener, i.Log, err = inherit(place); err != nil {
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

// pass lets socket, lock and log survive an execve, and returns what inherit needs to know then. undo is for one that failed.
func (l *Listener) pass(log *os.File) (place string, undo func(), err error) {
	files := []*os.File{l.socket.File, l.lock}
	if log != nil {
		files = append(files, log)
	}
	undo = func() {
		for _, f := range files {
			setCloseOnExec(f, true)
		}
	}
	place = fmt.Sprint(l.inode)
	for _, f := range files {
		fd, err := setCloseOnExec(f, false)
		if err != nil {
			undo()
			return "", nil, err
		}
		place += fmt.Sprintf(" %d", fd)
	}
	return place, undo, nil
}

// setCloseOnExec decides whether an execve closes f, and returns its descriptor.
func setCloseOnExec(f *os.File, on bool) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	flags := 0
	if on {
		flags = unix.FD_CLOEXEC
	}
	if e := raw.Control(func(d uintptr) {
		fd = int(d)
		_, err = unix.FcntlInt(d, unix.F_SETFD, flags)
	}); e != nil {
		return -1, e
	}
	return fd, err
}

// inherit takes over the place, and the log if there is one, that this process had before its execve. The lock is on what is open, and so it is still
// held.
func inherit(place string) (*Listener, *os.File, error) {
	var socket, lock, log int
	var inode uint64
	n, _ := fmt.Sscanf(place, "%d %d %d %d", &inode, &socket, &lock, &log)
	if n < 3 {
		return nil, nil, notHandedOver("the place")
	}
	file := os.NewFile(uintptr(socket), "socket")
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, nil, notHandedOver("the socket")
	}
	listener, ok := ln.(*net.UnixListener)
	if !ok {
		ln.Close()
		return nil, nil, notHandedOver("the socket")
	}
	unix.CloseOnExec(lock)
	l := &Listener{path: ln.Addr().String(), lock: os.NewFile(uintptr(lock), "lock"), inode: inode}
	if l.socket, err = listening(listener); err != nil {
		l.lock.Close()
		return nil, nil, socketError(cause(err), "")
	}
	if n == 3 {
		return l, nil, nil
	}
	unix.CloseOnExec(log)
	return l, os.NewFile(uintptr(log), "log"), nil
}

package process

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Of describes a process by what /proc says of it (proc_pid_stat(5)). ok is false when there is none of that id.
func Of(pid int32) (Info, bool) {
	p, _, ok := stat(pid)
	return p, ok
}

// stat is Of, with the state of the process: Z is one that has ended, and whose parent has not asked how.
func stat(pid int32) (p Info, state byte, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/stat")
	// The name stands in parentheses, and may hold spaces and parentheses itself.
	name, rest := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if err != nil || name < 0 || rest < name {
		return p, 0, false
	}
	const parentField, startField = 1, 19 // counted from the field after the name
	fields := bytes.Fields(text[rest+1:])
	if len(fields) <= startField {
		return p, 0, false
	}
	parent, err := strconv.ParseInt(string(fields[parentField]), 10, 32)
	if err != nil {
		return p, 0, false
	}
	start, err := strconv.ParseUint(string(fields[startField]), 10, 64)
	return Info{ID{pid, start}, int32(parent), string(text[name+1 : rest])}, fields[0][0], err == nil
}

// Ended returns a channel that is closed when a process has ended, whatever has become of its parent. It stays open while the
// process becomes another program.
func Ended(id ID) <-chan struct{} {
	const pause = 100 * time.Millisecond
	ended := make(chan struct{})
	fd, err := unix.PidfdOpen(int(id.PID), 0) // kernels before 5.3 and some sandboxes have none
	go func() {
		defer close(ended)
		if err == nil {
			defer unix.Close(fd)
		}
		for alive(id) {
			if err != nil {
				time.Sleep(pause)
				continue
			}
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, failed := unix.Poll(poll, -1); failed != nil && failed != unix.EINTR || n > 0 && alive(id) {
				time.Sleep(pause) // a kernel may speak too soon when the process becomes another program
			}
		}
	}()
	return ended
}

func alive(id ID) bool {
	p, state, ok := stat(id.PID)
	return ok && p.ID == id && state != 'Z' && state != 'X'
}

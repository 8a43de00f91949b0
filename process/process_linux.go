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

// stat is Of, which also says whether the process has ended and its parent has not asked how. While a process becomes another
// program, its first thread may have ended already, and others are left.
func stat(pid int32) (p Info, over, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/stat")
	// The name stands in parentheses, and may hold spaces and parentheses itself.
	name, rest := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if err != nil || name < 0 || rest < name {
		return p, false, false
	}
	const stateField, parentField, threadsField, startField = 0, 1, 17, 19 // counted from the field after the name
	fields := bytes.Fields(text[rest+1:])
	if len(fields) <= startField {
		return p, false, false
	}
	parent, err := strconv.ParseInt(string(fields[parentField]), 10, 32)
	if err != nil {
		return p, false, false
	}
	start, err := strconv.ParseUint(string(fields[startField]), 10, 64)
	state, threads := fields[stateField][0], string(fields[threadsField])
	over = (state == 'Z' || state == 'X') && (threads == "0" || threads == "1")
	return Info{ID{pid, start}, int32(parent), string(text[name+1 : rest])}, over, err == nil
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
		// The kernel may speak too soon when the process becomes another program, and for a moment its file in /proc may say
		// nothing then. So only what is so twice in a row counts.
		for gone := 0; gone < 2; time.Sleep(pause) {
			if gone++; alive(id) {
				gone = 0
				if err == nil {
					unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
				}
			}
		}
	}()
	return ended
}

func alive(id ID) bool {
	p, over, ok := stat(id.PID)
	return ok && p.ID == id && !over
}

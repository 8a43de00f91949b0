package process

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"
)

// Of describes a process by what the kernel says of it, as ps(1) does. ok is false when there is none of that id.
func Of(pid int32) (p Info, ok bool) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", int(pid))
	if err != nil || k.Proc.P_pid != pid {
		return p, false
	}
	name, _, _ := bytes.Cut(k.Proc.P_comm[:], []byte{0})
	start := uint64(k.Proc.P_starttime.Sec)*1e6 + uint64(k.Proc.P_starttime.Usec)
	return Info{ID{pid, start}, k.Eproc.Ppid, string(name)}, true
}

// Ended returns a channel that is closed when a process has ended, whatever has become of its parent. It stays open while the
// process becomes another program.
func Ended(id ID) <-chan struct{} {
	const pause = 100 * time.Millisecond
	ended := make(chan struct{})
	queue, err := unix.Kqueue()
	if err == nil {
		unix.CloseOnExec(queue)
		var event unix.Kevent_t
		unix.SetKevent(&event, int(id.PID), unix.EVFILT_PROC, unix.EV_ADD)
		event.Fflags = unix.NOTE_EXIT
		_, err = unix.Kevent(queue, []unix.Kevent_t{event}, nil, nil)
	}
	go func() {
		defer close(ended)
		if queue >= 0 {
			defer unix.Close(queue)
		}
		for {
			if p, ok := Of(id.PID); !ok || p.ID != id {
				return
			}
			if err != nil {
				time.Sleep(pause)
				continue
			}
			if n, failed := unix.Kevent(queue, nil, make([]unix.Kevent_t, 1), nil); n > 0 {
				return
			} else if failed != nil {
				time.Sleep(pause)
			}
		}
	}()
	return ended
}

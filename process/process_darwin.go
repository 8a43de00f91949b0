package process

import (
	"bytes"

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

package agent

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// processOf asks the kernel for a process, as ps(1) does.
func processOf(pid int32) (p process, ok bool) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", int(pid))
	if err != nil || k.Proc.P_pid != pid {
		return p, false
	}
	name, _, _ := bytes.Cut(k.Proc.P_comm[:], []byte{0})
	start := uint64(k.Proc.P_starttime.Sec)*1e6 + uint64(k.Proc.P_starttime.Usec)
	return process{consumer{pid, start}, k.Eproc.Ppid, string(name)}, true
}

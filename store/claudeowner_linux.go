package store

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/process"
)

// self describes this process as Claude Code does in its owner file. ok is false if it is not known how it does on this machine.
var self = sync.OnceValues(func() (owner, bool) {
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return owner{}, false
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return owner{}, false
	}
	host, err := os.Hostname()
	if err != nil {
		return owner{}, false
	}
	me, ok := process.Of(int32(os.Getpid()))
	return owner{
		PID:       os.Getpid(),
		ProcStart: procStart(me),
		PIDDomain: "linux:" + strings.TrimSpace(string(machine)) + ":" + space,
		PIDSpace:  host + "#" + space,
	}, ok
})

// birthtime returns when f was made, in milliseconds since 1970. ok is false if the file system does not know.
func birthtime(f *os.File) (float64, bool) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0, false
	}
	return float64(st.Btime.Sec)*1e3 + float64(st.Btime.Nsec)/1e6, true
}

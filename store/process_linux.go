package store

import (
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self says who we are in Claude Code's words; ok is false where its words for this machine are not known.
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
	start, ok := startOf(os.Getpid())
	return owner{
		PID:       os.Getpid(),
		ProcStart: start,
		PIDDomain: "linux:" + strings.TrimSpace(string(machine)) + ":" + space,
		PIDSpace:  host + "#" + space,
	}, ok
})

// startOf returns when a process started, in clock ticks since boot: with the pid it names a process for good (proc(5),
// field 22; the second field may hold anything, parentheses too).
func startOf(pid int) (string, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return "", false
	}
	return fields[19], true
}

// birthtime returns when f was made, in milliseconds, where the file system knows.
func birthtime(f *os.File) (float64, bool) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0, false
	}
	return float64(st.Btime.Sec)*1e3 + float64(st.Btime.Nsec)/1e6, true
}

// changed is when the file system last changed what it knows of a file (ctime), in nanoseconds. No program can set it.
func changed(info fs.FileInfo) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ctim.Nano()
}

func renameNoReplace(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

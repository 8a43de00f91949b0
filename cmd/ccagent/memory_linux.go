package main

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// returnMemory gives the system back what an agent at rest does not need: the memory of garbage, and the pages of its own
// program. Those pages are the kernel's file cache, which it maps in again where they are touched. Recent kernels map a file in
// large pieces, so that nearly all of the program counts as resident after a few touches, which is more than everything else that
// an idle agent has.
func returnMemory() {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		// address perms offset dev inode path (proc_pid_maps(5))
		f := bytes.Fields(line)
		if len(f) < 6 || string(f[5]) != program || bytes.IndexByte(f[1], 'w') >= 0 {
			continue
		}
		from, to, _ := bytes.Cut(f[0], []byte("-"))
		start, err1 := strconv.ParseUint(string(from), 16, 64)
		end, err2 := strconv.ParseUint(string(to), 16, 64)
		if err1 == nil && err2 == nil && start < end {
			// Nothing in an unwritable mapping of a file is ours alone, so that nothing is lost.
			unix.RawSyscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		}
	}
}

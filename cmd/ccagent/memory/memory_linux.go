// Package memory returns memory to the system that an agent at rest does not need.
package memory

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Return returns memory to the system that an agent at rest does not need: that of garbage, and the pages of its own program.
// Those pages are in the kernel's file cache, which maps them in again when they are used. Recent kernels map a file in large
// pieces. So after a few accesses nearly all of the program would count as resident, which is more than everything else that an
// idle agent uses.
func Return() {
	// The mappings are read first, because what reading them leaves behind is garbage too. If they can't be, they stay.
	smaps, _ := os.ReadFile("/proc/self/smaps")
	pages := unchanged(smaps)
	debug.FreeOSMemory()
	for _, m := range pages {
		unix.RawSyscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

type mapping struct{ start, end uintptr }

// unchanged returns the mappings of files that are not writable and have no page that differs from the file, so that nothing is
// lost with them. A program that can be loaded at any address (-buildmode=pie) also has others: the loader writes addresses into
// them, and makes them read-only only after that. smaps has the format of proc_pid_smaps(5).
func unchanged(smaps []byte) (found []mapping) {
	var m mapping
	file := false
	for line := range bytes.Lines(smaps) {
		f := bytes.Fields(line)
		switch {
		case len(f) >= 5 && !bytes.HasSuffix(f[0], []byte(":")): // address perms offset dev inode path
			n, _ := fmt.Sscanf(string(f[0]), "%x-%x", &m.start, &m.end)
			file = n == 2 && bytes.IndexByte(f[1], 'w') < 0 && string(f[4]) != "0"
		case len(f) == 3 && file && string(f[0]) == "Anonymous:" && string(f[1]) == "0":
			found = append(found, m)
		}
	}
	return found
}

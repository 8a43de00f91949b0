// Package memory gives the system back what an agent at rest does not need.
package memory

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Return gives the system back what an agent at rest does not need: the memory of garbage, and the pages of its own
// program. Those pages are the kernel's file cache, which it maps in again where they are touched. Recent kernels map a file in
// large pieces, so that nearly all of the program counts as resident after a few touches, which is more than everything else that
// an idle agent has.
func Return() {
	debug.FreeOSMemory()
	mappings, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unchanged(mappings) {
		unix.RawSyscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

type mapping struct{ start, end uintptr }

// unchanged are the mappings of files that can't be written and hold no page that is ours alone, so that nothing is lost with
// them. A program that is loaded at any address (-buildmode=pie) has others: the loader writes addresses into them, and forbids
// writing only then. smaps is in the form of proc_pid_smaps(5).
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

package main

import (
	"bytes"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// anonymous is what this process has in memory and shares with nobody, in bytes; 0 where that can't be read.
func anonymous() uint64 {
	// size resident shared text lib data dt, in pages (proc_pid_statm(5))
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(statm)
	if len(f) < 3 {
		return 0
	}
	resident, err1 := strconv.ParseUint(string(f[1]), 10, 64)
	shared, err2 := strconv.ParseUint(string(f[2]), 10, 64)
	if err1 != nil || err2 != nil || shared > resident {
		return 0
	}
	return (resident - shared) * uint64(os.Getpagesize())
}

// forget gives this program's own code and constants back, which the kernel maps in again from its page cache where they are touched. A
// kernel that caches files in large folios maps nearly all of a binary at the first touches, three quarters of an idle agent's
// resident set.
func forget(mappings [][]byte) {
	for _, m := range mappings {
		unix.Madvise(m, unix.MADV_DONTNEED)
	}
}

// readOnlyMappings are the parts of this executable that are mapped unwritable: nothing in them is ours alone, so that
// dropping their pages loses nothing.
func readOnlyMappings() (out [][]byte) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(maps) {
		// address perms offset dev inode path (proc_pid_maps(5))
		f := bytes.Fields(line)
		if len(f) < 6 || string(f[5]) != exe || len(f[1]) != 4 || f[1][1] != '-' {
			continue
		}
		from, to, ok := bytes.Cut(f[0], []byte("-"))
		start, err1 := strconv.ParseUint(string(from), 16, 64)
		end, err2 := strconv.ParseUint(string(to), 16, 64)
		if !ok || err1 != nil || err2 != nil || end <= start {
			continue
		}
		// The address is the kernel's, of memory that the garbage collector neither owns nor moves.
		p := uintptr(start)
		out = append(out, unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), end-start))
	}
	return out
}

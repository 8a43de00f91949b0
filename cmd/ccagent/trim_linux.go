package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trim gives memory back that only starting and renewing need: the heap's free spans, and this program's own code and
// constants, which the kernel maps in again from its page cache where they are touched. A kernel that caches files in large
// folios maps nearly all of a binary at the first touches, three quarters of an idle agent's resident set.
func trim(unneeded [][]byte) {
	runtime.GC() // what the collector itself has needed is free after the next one only
	debug.FreeOSMemory()
	for _, m := range unneeded {
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

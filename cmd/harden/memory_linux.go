package harden

import "golang.org/x/sys/unix"

// Lasts says whether memory that is hidden stays hidden from debuggers when the process becomes another program.
const Lasts = false

// Memory makes the process undumpable: prctl(2), PR_SET_DUMPABLE. The kernel then gives its files below /proc to root, lets no
// other process of the same user trace it, and writes no core dump. It does not keep who has opened /proc/PID/mem already from
// reading on.
func Memory() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

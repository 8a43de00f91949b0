package harden

import "golang.org/x/sys/unix"

// Lasts says whether the memory stays hidden from debuggers when the process becomes another program by execve(2).
const Lasts = false

// Memory makes the process undumpable: prctl(2), PR_SET_DUMPABLE. The kernel then gives the process's files below /proc to root,
// lets no other process of the same user trace it, and writes no core dump. A process that has opened /proc/PID/mem before can go
// on reading.
func Memory() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

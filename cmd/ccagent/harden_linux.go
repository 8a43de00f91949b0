package main

import "golang.org/x/sys/unix"

// hideMemory makes the process undumpable: prctl(2), PR_SET_DUMPABLE.
func hideMemory() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

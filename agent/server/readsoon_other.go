//go:build unix && !linux

package server

import "golang.org/x/sys/unix"

// readSoon reads what is there. It does not yield the processor as on Linux, because there are no raw system calls here.
func readSoon(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

//go:build unix && !linux

package agent

import "golang.org/x/sys/unix"

// readSoon leaves it to the caller to wait: there is no raw system call here.
func readSoon(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

// Package process asks the kernel about running processes: what program runs as a process id, since when, and who started it.
// Nothing in it is a secret, and nothing that it says is proof of who somebody is: a program chooses its own name.
package process

import "slices"

// ID names one process for as long as the machine runs. A process id alone does not: it is used again.
type ID struct {
	PID   int32
	Start uint64 // when it started: on Linux in clock ticks since boot, on macOS in microseconds since 1970
}

// Info is what the kernel says of a process.
type Info struct {
	ID
	Parent int32
	Name   string // of the program, as the kernel shortens it (15 bytes on Linux)
}

// shells are the programs between a tool and its helper, by the kernel's name for them.
var shells = []string{
	"sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "ash", "busybox", "csh", "tcsh", "env", "timeout", "nice", "setsid",
}

// inits adopt processes whose parent has ended, and start programs that belong to nobody. What runs below one of them has nothing
// in common with its neighbours. In a container the first process may also be the tool itself, so the process id does not tell.
var inits = []string{"systemd", "init", "launchd", "tini", "docker-init", "dumb-init", "catatonit", "podman-init"}

// maxAncestors bounds how far up Consumer looks.
const maxAncestors = 16

// Consumer returns the program for which a helper asks: the helper's nearest ancestor that is not a shell. ok is false where
// that can't be told. One such case is a helper that is ssh, which relays the requests of another machine. It reads one file of
// /proc for each ancestor (one system call each on macOS).
func Consumer(helper int32) (consumer ID, ok bool) {
	p, ok := Of(helper)
	if p.Name == "ssh" {
		return ID{}, false
	}
	for range maxAncestors {
		if !ok || p.Parent <= 0 {
			return ID{}, false
		}
		if p, ok = Of(p.Parent); ok && !slices.Contains(shells, p.Name) {
			return p.ID, !slices.Contains(inits, p.Name)
		}
	}
	return ID{}, false
}

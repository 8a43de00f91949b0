package oauth

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ownerOf returns the user who has the client's end of a connection to this process. It fails with errNotTold where the kernel's
// list does not say so, or can't be read.
func ownerOf(server, client netip.AddrPort) (int, error) {
	list, err := unix.SysctlRaw("net.inet.tcp.pcblist_n")
	if err != nil {
		return 0, errNotTold
	}
	return ownerIn(list, server, client, os.Geteuid())
}

func overflowUID() int { return -1 }

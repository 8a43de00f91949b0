package oauth

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// maxLooks is how often the tables are read: the kernel may leave a line out while others come and go.
const maxLooks = 3

// established is TCP_ESTABLISHED. In any other state a socket may have lost its process, and its line names root.
const established = 1

// ownerOf returns the user who has the client's end of a connection to this process. It fails with errHungUp where that end is
// closed, and with errUntold where no line of the kernel's is about it, as when it lies in another network namespace.
func ownerOf(server, client netip.AddrPort) (int, error) {
	var err error
	for range maxLooks {
		var uid int
		if uid, err = look(server, client, "/proc/net/tcp", "/proc/net/tcp6"); err != errUntold {
			return uid, err
		}
	}
	return 0, err
}

func look(server, client netip.AddrPort, tables ...string) (int, error) {
	uid, gone := -1, false
	for _, table := range tables {
		f, err := os.Open(table)
		if err != nil {
			continue // a kernel without IPv6, or no /proc
		}
		eachSocket(f, func(s socket) {
			switch {
			case s.local == client && s.remote == server && s.state == established && s.inode != 0:
				uid = s.uid
			case s.local == server && s.remote == client:
				gone = s.state != established
			}
		})
		f.Close()
	}
	switch {
	case gone:
		return 0, errHungUp
	case uid < 0:
		return 0, errUntold
	}
	return uid, nil
}

// socket is a line of /proc/net/tcp or tcp6 (proc(5)).
type socket struct {
	local, remote netip.AddrPort
	state, uid    int
	inode         uint64
}

// eachSocket calls yield for each line that can be read.
func eachSocket(table io.Reader, yield func(socket)) {
	for lines := bufio.NewScanner(table); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		local, okLocal := address(fields[1])
		remote, okRemote := address(fields[2])
		state, badState := strconv.ParseUint(fields[3], 16, 8)
		uid, badUID := strconv.ParseUint(fields[7], 10, 32)
		inode, badInode := strconv.ParseUint(fields[9], 10, 64)
		if okLocal && okRemote && badState == nil && badUID == nil && badInode == nil {
			yield(socket{local, remote, int(state), int(uid), inode})
		}
	}
}

// address reads ADDRESS:PORT in hexadecimal. The address is written in words of 32 bits, each in the machine's own byte order.
func address(text string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(text, ":")
	words, err := hex.DecodeString(host)
	if err != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	addr, ok := netip.AddrFromSlice(words)
	n, err := strconv.ParseUint(port, 16, 16)
	return plainAddr(netip.AddrPortFrom(addr, uint16(n))), ok && err == nil
}

// overflowUID is the number that stands for users who have none in this namespace.
func overflowUID() int {
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if uid, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil {
		return uid
	}
	return 65534
}

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

// maxReads is how often the tables are read. The kernel may leave out a line while others come and go.
const maxReads = 3

// established is TCP_ESTABLISHED. In any other state the socket's process may be gone, and then its line names root.
const established = 1

// ownerOf returns the user who has the client's end of a connection to this process. It fails with errHungUp where that end is
// closed, and with errNotTold where the kernel's tables have no line about it, as when that end is in another network namespace.
func ownerOf(server, client netip.AddrPort) (int, error) {
	var err error
	for range maxReads {
		var uid int
		if uid, err = readTables(server, client, "/proc/net/tcp", "/proc/net/tcp6"); err != errNotTold {
			return uid, err
		}
	}
	return 0, err
}

// readTables looks the connection up once.
func readTables(server, client netip.AddrPort, tables ...string) (int, error) {
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
		return 0, errNotTold
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

// address reads ADDRESS:PORT in hexadecimal. The address is written as words of 32 bits, each in the byte order of this machine.
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

// overflowUID is the number that the kernel shows for users who have no number in this namespace.
func overflowUID() int {
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if uid, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil {
		return uid
	}
	return 65534
}
